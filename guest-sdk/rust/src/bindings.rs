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

/// The interface `streams`, which only guests of some hosts have.
mod streaming {
    wit_bindgen::generate!({
        path: "wit/deps/tombolo-memory",
        world: "tombolo:memory/streaming-guest",
        with: {
            "tombolo:memory/regions@0.1.0": crate::bindings::regions,
            "wasi:io/poll@0.2.0": crate::bindings::poll,
        },
        generate_all,
    });
}

/// The bindings of the packages with async functions, which use the types of the others.
#[cfg(feature = "async")]
pub(crate) mod concurrent {
    wit_bindgen::generate!({
        path: "wit-async",
        world: "tombolo:app-async/guest",
        with: {
            "tombolo:app/channels@0.1.0": crate::bindings::channels,
            "tombolo:app/scopes@0.1.0": crate::bindings::scopes,
            "tombolo:memory/pressure@0.1.0": crate::bindings::pressure,
            "tombolo:memory/regions@0.1.0": crate::bindings::regions,
            "tombolo:memory/windows@0.1.0": crate::bindings::windows,
            "wasi:io/poll@0.2.0": crate::bindings::poll,
        },
        generate_all,
    });

    pub(crate) use tombolo::app_async::{channels, lifecycle, scopes};
    pub(crate) use tombolo::memory_async::{pressure, waits};
}

pub(crate) use streaming::tombolo::memory::streams;
pub(crate) use streaming::wasi::io::streams as wasi_streams;
pub(crate) use tombolo::app::{channels, lifecycle, scopes};
pub(crate) use tombolo::memory::{pins, pressure, regions, waits, windows};
pub(crate) use wasi::io::poll;
