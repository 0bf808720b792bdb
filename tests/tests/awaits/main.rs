//! Guests wait and lend in async functions.

mod embedded;

tombolo_tests::guests!(awaits);
