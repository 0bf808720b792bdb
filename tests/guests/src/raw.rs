//! Raw bindings of `regions` and `windows`. Unlike the SDK, they do not prevent misuse.

#![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)] // Generated.

wit_bindgen::generate!({
    path: "../../wit/memory",
    inline: "
        package test:raw;

        world raw {
            import tombolo:memory/regions@0.1.0;
            import tombolo:memory/windows@0.1.0;
        }
    ",
    world: "test:raw/raw",
    generate_all,
});

pub use self::tombolo::memory::{regions, windows};
