//! The bindings that `wit-bindgen` generates for `wit/`.
//!
//! They leave `map` out. Its argument names memory that was never written, and the
//! generated `&[u8]` may not exist over such memory. `sys` declares `map` by hand.

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
