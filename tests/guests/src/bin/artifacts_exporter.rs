//! A command that also exports an interface.
#![allow(unsafe_code, missing_docs)] // Generated.

wit_bindgen::generate!({
    inline: "
        package test:artifacts;

        interface adder {
          add: func(a: u32, b: u32) -> u32;
        }

        world exporter {
          export adder;
        }
    ",
});

struct Exporter;

impl exports::test::artifacts::adder::Guest for Exporter {
    fn add(a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }
}

export!(Exporter);

fn main() {}
