//! Guests in stores whose data implement no trait of Tombolo: each guest is a context, which a
//! getter finds.
//!
//! | module | content |
//! |---|---|
//! | `getters` | everything that a guest and a host program do, by getters |
//! | `same_store` | several guests in one store |
//! | `host_functions` | functions of the host program that take `borrow<region>` |
//! | `sessions` | calls of exports in one step |
//! | `world` | a store with several guests, which a host program links |

mod getters;
mod host_functions;
mod same_store;
mod sessions;
mod world;

tombolo_tests::guests!(contexts);
