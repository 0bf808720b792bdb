//! Acts that the host must survive, one for each name.
#![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]

use std::alloc::{Layout, alloc};
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::Duration;

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/faults.wit"],
        world: "test:faults/hostile",
        generate_all,
    });
}

use bindings::exports::test::faults::acts::Guest;
use bindings::tombolo::memory::regions::Region;
use bindings::tombolo::memory::windows::{self, Access};

const GRANULE: usize = 65536;
const LENGTH: usize = 4 * GRANULE;

/// The address of the window.
static SHOWN: OnceLock<usize> = OnceLock::new();

struct Hostile;

impl Guest for Hostile {
    fn keep(region: Region) -> Result<(), String> {
        let layout = Layout::from_size_align(LENGTH, GRANULE).expect("a small layout");
        let memory = unsafe { alloc(layout) };
        let at = unsafe { std::slice::from_raw_parts(memory, 1) };
        let window = windows::map(&region, 0, LENGTH as u64, Access::Read, at)
            .map_err(|error| format!("{error:?}"))?;
        std::mem::forget((region, window));
        SHOWN
            .set(memory as usize)
            .map_err(|_| "kept already".to_owned())
    }

    fn act(name: String) -> Result<u64, String> {
        let shown = *SHOWN.get().ok_or("nothing was kept")? as *mut u8;
        let at = shown.wrapping_add(0x1000);
        match &*name {
            "nothing" => {}
            "store" => unsafe { at.write_volatile(1) },
            "store-last" => unsafe { shown.add(LENGTH - 1).write_volatile(1) },
            "copy" => {
                let bytes = vec![1; black_box(5000)];
                unsafe { std::slice::from_raw_parts_mut(at, bytes.len()) }.copy_from_slice(&bytes);
            }
            "fill" => unsafe { at.write_bytes(1, black_box(3 * GRANULE)) },
            // The host answers with a list, and so continues after the first fault.
            "fill-and-ask" => {
                unsafe { at.write_bytes(1, black_box(100)) }
                drop(Region::create("unreached", 1, true));
            }
            "fill-and-spin" => {
                unsafe { at.write_bytes(1, black_box(100)) }
                spin();
            }
            "spin" => spin(),
            "sleep" => std::thread::sleep(Duration::from_secs(3600)),
            "recurse" => return Ok(recurse(1)),
            "grow" => {
                let mut step = 1 << 14;
                while step > 0 {
                    if core::arch::wasm32::memory_grow::<0>(step) == usize::MAX {
                        step /= 2;
                    }
                }
                return Ok(core::arch::wasm32::memory_size::<0>() as u64);
            }
            "panic" => panic!("as told"),
            "exit" => std::process::exit(3),
            other => return Err(format!("no act `{other}`")),
        }
        Ok(u64::from(unsafe { at.read_volatile() }))
    }
}

fn spin() {
    let mut round = 0u64;
    loop {
        round = black_box(round.wrapping_add(1));
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth) + 1)) + depth
}

bindings::export!(Hostile with_types_in bindings);

fn main() {}
