//! Calls between guests: values, lending, moving, waiting and ending.
//!
//! | file | who links the guests |
//! |---|---|
//! | `app` | Tombolo: guests of one app |
//! | `kill` | Tombolo; and the test ends some |
//! | `resources` | Tombolo; guests pass resources that they define |
//! | `embed` | the test, as an embedder would, by parcels |
//!
//! `trio` makes the app, in which each guest has a strand of its own. The test program
//! `together` has the same tests with one strand.

mod app;
mod embed;
mod kill;
mod resources;
mod trio;

tombolo_tests::guests!(calls);
