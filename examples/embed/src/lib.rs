//! An HTTP server that lends each request's body to a plugin, which answers with a region: an
//! example of a program that embeds wasmtime and adds Tombolo.
//!
//! | file | content |
//! |---|---|
//! | `plugin` | the embedding: engine, linker, stores, and calls that lend and take |
//! | `body` | bodies: short ones as bytes, long ones in regions that are used again |
//! | `server` | requests and their answers |
//! | `http` | HTTP without plugins |

mod body;
pub mod http;
mod plugin;
mod server;

pub use plugin::{Plugins, Refusal, Settings, engine};
pub use server::serve;
