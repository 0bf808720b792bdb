//! What `wit-bindgen` makes of `wit/*.wit`.
//!
//! `map` is left out: it names memory that was never written, over which the
//! generated `&[u8]` may not exist. `sys` declares it by hand.

#![allow(unsafe_code, missing_docs, unreachable_pub)]

wit_bindgen::generate!({
    path: "wit",
    world: "tombolo:app/guest",
    skip: ["map"],
    generate_all,
});

pub(crate) use tombolo::app::{channels, lifecycle, scopes};
pub(crate) use tombolo::memory::{pins, pressure, regions, waits, windows};
pub(crate) use wasi::io::poll;
