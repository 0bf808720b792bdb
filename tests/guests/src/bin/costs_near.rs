//! Is called, and does as little as it is told to.

mod bindings {
    #![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)] // Generated.
    wit_bindgen::generate!({
        path: ["../../wit", "../wit/costs.wit"],
        world: "test:costs/near-peer",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
    });
    export!(Near);
    pub(crate) struct Near;
}

#[path = "../kernels.rs"]
#[allow(dead_code, unreachable_pub)]
mod kernels;

use bindings::Near;
use bindings::exports::test::costs::near::{Guest, How, Words};
use tombolo_guest::Region;

fn look(region: &Region, how: How) -> u64 {
    if how == How::Not {
        return 0;
    }
    let window = region.read_window(..).expect("nobody else has one");
    match how {
        How::Not | How::Map => 0,
        How::Touch => kernels::touch(&window),
        How::Sum => kernels::sum(&window),
    }
}

impl Guest for Near {
    fn nothing() {}

    fn lend(_: &Region) {}

    fn look(it: &Region, how: How) -> u64 {
        look(it, how)
    }

    fn pass(it: Region, how: How) -> Region {
        look(&it, how);
        it
    }

    fn keep_bytes(it: Vec<u8>) -> u64 {
        it.len() as u64
    }

    fn sum_bytes(it: Vec<u8>) -> u64 {
        kernels::sum(&it)
    }

    fn say(it: Words) -> Words {
        it
    }

    fn read(path: String, sum: bool) -> u64 {
        let bytes = std::fs::read(path).expect("it is there");
        match sum {
            true => kernels::sum(&bytes),
            false => bytes.len() as u64,
        }
    }
}

fn main() {}
