//! Guests wait and lend in async functions.

mod app;
mod embedded;

tombolo_tests::guests!(awaits);
tombolo_tests::scenarios!(awaits);
