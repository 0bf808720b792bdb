//! What `wit-bindgen` makes of `wit/*.wit`.
//!
//! `map` is left out: it names memory that was never written, over which the
//! generated `&[u8]` may not exist. `sys` declares it by hand.

#![allow(unsafe_code, missing_docs, unreachable_pub)]

wit_bindgen::generate!({
    path: "wit",
    world: "guest",
    skip: ["map"],
    with: { "wasi:io/poll@0.2.0": generate },
});

pub(crate) use tombolo::memory::{
    channels, lifecycle, pins, pressure, regions, scopes, waits, windows,
};
pub(crate) use wasi::io::poll;
