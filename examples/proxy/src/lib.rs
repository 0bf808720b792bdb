//! A proxy for guests that export `wasi:http/incoming-handler`. A handler reads the body of a
//! request into a region, and lends it to a second guest.
//!
//! | file | content |
//! |---|---|
//! | `proxy` | engine, linkers, and one store for each request |
//! | `filter` | the second guest, and the calls to it |
//! | `server` | connections |

mod filter;
mod proxy;
mod server;

pub use proxy::{Proxy, Settings, engine};
pub use server::serve;
