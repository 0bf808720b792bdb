//! Does not drop a lent handle, which no generated bindings would do.
#![allow(unsafe_code, missing_docs)]

wit_bindgen::generate!({
    path: ["../../wit/memory", "../wit/calls.wit"],
    world: "test:calls/keeping",
    generate_all,
});

/// Answers `ok`: returns the address of an answer that is all zero.
#[unsafe(export_name = "test:calls/keeper#keep")]
extern "C" fn keep(_borrowed: u32) -> *const [u32; 3] {
    static OK: [u32; 3] = [0; 3];
    &raw const OK
}

fn main() {}
