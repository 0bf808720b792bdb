//! An HTTP server that lends each request's body to a plugin, which answers with a region: an
//! example of a program that embeds wasmtime and adds Tombolo.
//!
//! | file | content |
//! |---|---|
//! | `plugin` | the embedding: engine, linker, stores, and calls that lend and take |
//! | `server` | HTTP: bodies go into regions, and answers come out of them |

mod plugin;
mod server;

pub use plugin::{Answer, Plugins, Refusal, Settings, engine};
pub use server::serve;
