//! Guests in stores whose data implement no trait of Tombolo: each guest is a context, which a
//! getter finds.
//!
//! | module | content |
//! |---|---|
//! | `getters` | everything that a guest and a host program do, by getters |

mod getters;
mod world;

tombolo_tests::guests!(contexts);
