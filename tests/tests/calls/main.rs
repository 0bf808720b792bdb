//! Calls between guests: values, lending, moving, waiting and ending.
//!
//! | module | guests are linked by |
//! |---|---|
//! | `app` | Tombolo: they form one app |
//! | `kill` | Tombolo; the test terminates some of them |
//! | `resources` | Tombolo; they pass resources that they define |
//! | `embed` | `embed_harness`, as an embedder would do it, with parcels |
//!
//! In all of them each guest has a strand of its own. `settings` runs all but `embed` again
//! with one strand, and `app` with dynamic values for functions that are linked by types.

mod app;
mod embed;
mod embed_harness;
mod kill;
mod resources;
mod settings;

tombolo_tests::guests!(calls);
tombolo_tests::scenarios!(calls);
