//! What `wit-bindgen` makes of `wit/memory.wit`.
//!
//! `map` is left out: it names memory that was never written, over which the
//! generated `&[u8]` may not exist. `sys` declares it by hand.

#![allow(unsafe_code, missing_docs, unreachable_pub)]

wit_bindgen::generate!({
    path: "wit",
    world: "guest",
    skip: ["map"],
});

pub(crate) use tombolo::memory::{pins, regions, windows};
