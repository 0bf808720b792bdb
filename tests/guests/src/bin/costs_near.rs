//! A callee that does as little as possible.

#![allow(unsafe_code)]

use std::cell::RefCell;

mod bindings {
    #![allow(missing_docs, clippy::undocumented_unsafe_blocks)] // Generated.
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/costs.wit"],
        world: "test:costs/near-peer",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
    });
    export!(Near);
    pub(crate) struct Near;
}

use bindings::Near;
use bindings::exports::test::costs::near::{Guest, How, Words};
use tombolo_guest::{LiveReadWindow, Region};
use tombolo_test_guests::kernels;

/// A live window and its region, which is freed after the window.
struct Watched(LiveReadWindow<'static>, *mut Region);

thread_local! {
    static WATCHED: RefCell<Option<Watched>> = const { RefCell::new(None) };
}

fn look(region: &Region, how: How) -> u64 {
    if how == How::Not {
        return 0;
    }
    let window = region.try_read(..).expect("nobody else has one");
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

    fn watch(it: Option<Region>) {
        WATCHED.with_borrow_mut(|watched| {
            if let Some(Watched(window, region)) = watched.take() {
                drop(window);
                // SAFETY: the region was leaked below, and no reference to it exists any
                // more.
                drop(unsafe { Box::from_raw(region) });
            }
            *watched = it.map(|region| {
                let region = Box::into_raw(Box::new(region));
                // SAFETY: the region lives until it is dropped above, after the window.
                let window = unsafe { &*region }.try_live_read(..);
                Watched(window.expect("it is in the same strand"), region)
            });
        });
    }

    fn sum_watched() -> u64 {
        WATCHED.with_borrow(|watched| {
            let Watched(window, _) = watched.as_ref().expect("it watches something");
            let words = window.cells_of::<u64>();
            (0..words.len()).fold(0u64, |sum, at| sum.wrapping_add(words.get(at)))
        })
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
