//! Calls between guests of one strand, which run each other where they stand: all that
//! `calls` looks at, where each guest has a strand of its own.

#[path = "../calls/app.rs"]
mod app;
#[path = "../calls/kill.rs"]
mod kill;
#[path = "../calls/resources.rs"]
mod resources;
#[path = "../calls/trio.rs"]
mod trio;

tombolo_tests::guests!(calls);

/// The rest of `calls` uses them.
const _: [&str; 4] = [
    guests::CALLS_FAR,
    guests::CALLS_GATHERER,
    guests::CALLS_KEEPER,
    guests::CALLS_NEAR,
];
