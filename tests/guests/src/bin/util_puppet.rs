//! Does exactly what it is told, one act at a time, without the care of a friendly guest.
//! It keeps handles and windows by number, frees memory under windows, and writes anywhere.
#![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]

use std::alloc::{Layout, alloc, dealloc};
use std::cell::RefCell;

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/puppet.wit"],
        world: "test:puppet/puppet",
        generate_all,
    });
}

use bindings::exports::test::puppet::acts::Guest;
use bindings::tombolo::memory::pins::{self, Pinned, Span};
use bindings::tombolo::memory::regions::{ErrorCode, Region, Rights};
use bindings::tombolo::memory::windows::{self, Access, Window};

const GRANULE: usize = 65536;

thread_local! {
    static HANDLES: RefCell<Vec<Option<Region>>> = const { RefCell::new(Vec::new()) };
    static WINDOWS: RefCell<Vec<Option<Window>>> = const { RefCell::new(Vec::new()) };
}

fn keep_handle(region: Region) -> u32 {
    HANDLES.with_borrow_mut(|handles| {
        handles.push(Some(region));
        handles.len() as u32 - 1
    })
}

fn keep_window(window: Window) -> u32 {
    WINDOWS.with_borrow_mut(|windows| {
        windows.push(Some(window));
        windows.len() as u32 - 1
    })
}

fn handle<R>(number: u32, act: impl FnOnce(&Region) -> R) -> R {
    HANDLES.with_borrow(|handles| act(handles[number as usize].as_ref().expect("was dropped")))
}

/// Returns the address as a list, even if this program does not own the memory.
fn list<'a>(at: u32, length: u32) -> &'a [u8] {
    unsafe { std::slice::from_raw_parts(at as *const u8, length as usize) }
}

fn layout(granules: u32) -> Layout {
    Layout::from_size_align(granules as usize * GRANULE, GRANULE).expect("a small layout")
}

struct Puppet;

impl Guest for Puppet {
    fn create(name: String, size: u64) -> Result<u32, ErrorCode> {
        Region::create(&name, size, true).map(keep_handle)
    }

    fn create_unpinned(name: String, size: u64) -> Result<u32, ErrorCode> {
        Region::create(&name, size, false).map(keep_handle)
    }

    fn keep(region: Region) -> u32 {
        keep_handle(region)
    }

    fn give(number: u32) -> Region {
        HANDLES
            .with_borrow_mut(|handles| handles[number as usize].take())
            .expect("was dropped")
    }

    fn drop_handle(number: u32) {
        let region = HANDLES.with_borrow_mut(|handles| handles[number as usize].take());
        drop(region.expect("was dropped"));
    }

    fn duplicate(number: u32, rights: Rights) -> Result<u32, ErrorCode> {
        handle(number, |region| region.duplicate(rights)).map(keep_handle)
    }

    fn restrict(number: u32, rights: Rights) -> Result<u32, ErrorCode> {
        handle(number, |region| region.restrict(rights)).map(keep_handle)
    }

    fn freeze(number: u32) -> Result<(), ErrorCode> {
        handle(number, Region::freeze)
    }

    fn clear_poison(number: u32) -> Result<(), ErrorCode> {
        handle(number, Region::clear_poison)
    }

    fn pin(number: u32, offset: u64, length: u64) -> Result<Pinned, ErrorCode> {
        handle(number, |region| pins::pin(region, Span { offset, length }))
    }

    fn unpin(number: u32, offset: u64, length: u64) -> Result<(), ErrorCode> {
        handle(number, |region| {
            pins::unpin(region, Span { offset, length })
        })
    }

    fn is_pinned(number: u32, offset: u64, length: u64) -> Result<bool, ErrorCode> {
        handle(number, |region| {
            pins::is_pinned(region, Span { offset, length })
        })
    }

    fn pin_lent(region: &Region) -> Vec<ErrorCode> {
        let whole = Span {
            offset: 0,
            length: 0,
        };
        let answers = [
            pins::pin(region, whole).err(),
            pins::unpin(region, whole).err(),
            pins::is_pinned(region, whole).err(),
        ];
        answers.into_iter().flatten().collect()
    }

    fn read_at(number: u32, offset: u64, length: u64) -> Result<Vec<u8>, ErrorCode> {
        handle(number, |region| region.read_at(offset, length))
    }

    fn write_at(number: u32, offset: u64, bytes: Vec<u8>) -> Result<(), ErrorCode> {
        handle(number, |region| region.write_at(offset, &bytes))
    }

    fn map_window(
        number: u32,
        offset: u64,
        length: u64,
        access: Access,
        at: u32,
        listed: u32,
    ) -> Result<u32, ErrorCode> {
        handle(number, |region| {
            windows::map(region, offset, length, access, list(at, listed)).map(keep_window)
        })
    }

    fn map_lent(
        region: &Region,
        offset: u64,
        length: u64,
        access: Access,
        at: u32,
    ) -> Result<u32, ErrorCode> {
        windows::map(region, offset, length, access, list(at, 1)).map(keep_window)
    }

    fn lend(number: u32) -> Result<u32, ErrorCode> {
        handle(number, windows::lend).map(keep_handle)
    }

    fn lend_lent(region: &Region, access: Access, at: u32) -> Result<u32, ErrorCode> {
        let lent = windows::lend(region)?;
        keep_window(windows::map(&lent, 0, GRANULE as u64, access, list(at, 1))?);
        Ok(keep_handle(lent))
    }

    fn set_access(window: u32, access: Access) -> Result<(), ErrorCode> {
        WINDOWS.with_borrow(|windows| {
            let window = windows[window as usize].as_ref().expect("was dropped");
            window.set_access(access)
        })
    }

    fn drop_window(window: u32) {
        let window = WINDOWS.with_borrow_mut(|windows| windows[window as usize].take());
        drop(window.expect("was dropped"));
    }

    fn forget_windows() {
        std::mem::forget(WINDOWS.take());
    }

    fn allocate(granules: u32) -> u32 {
        unsafe { alloc(layout(granules)) as u32 }
    }

    fn release(at: u32, granules: u32) {
        unsafe { dealloc(at as *mut u8, layout(granules)) }
    }

    fn churn(rounds: u32) -> u64 {
        let mut kept = Vec::new();
        let mut sum = 0;
        for round in 0..rounds {
            let block = vec![round as u8; 1 + (round as usize * 7919) % 100_000];
            sum += block.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            if round % 3 == 0 {
                kept.push(block);
            }
        }
        sum
    }

    fn stack() -> u32 {
        let local = 0u8;
        &raw const local as u32
    }

    fn data() -> u32 {
        static mut DATA: [u8; 64] = [7; 64];
        &raw mut DATA as u32
    }

    fn peek(at: u32, length: u32) -> Vec<u8> {
        (0..length)
            .map(|index| unsafe { ((at + index) as *const u8).read_volatile() })
            .collect()
    }

    fn sum(at: u32, length: u32) -> u64 {
        (0..length / 8)
            .map(|index| unsafe { ((at + 8 * index) as *const u64).read_volatile() })
            .fold(0, u64::wrapping_add)
    }

    fn poke(at: u32, byte: u8) {
        unsafe { (at as *mut u8).write_volatile(byte) }
    }

    fn fill(at: u32, length: u32, byte: u8) {
        // The compiler does not know the size, so this is `memory.fill`.
        unsafe { (at as *mut u8).write_bytes(byte, length as usize) }
    }

    fn copy(from: u32, to: u32, length: u32) {
        // This is `memory.copy`.
        unsafe { std::ptr::copy(from as *const u8, to as *mut u8, length as usize) }
    }

    fn fill_apart(at: u32, step: u32, count: u32) {
        for index in 0..count {
            let one = std::hint::black_box(1);
            unsafe { ((at + index * step) as *mut u8).write_bytes(9, one) }
        }
    }

    fn grow(pages: u32) -> i32 {
        core::arch::wasm32::memory_grow::<0>(pages as usize).cast_signed() as i32
    }

    fn pages() -> u32 {
        core::arch::wasm32::memory_size::<0>() as u32
    }
}

bindings::export!(Puppet with_types_in bindings);

fn main() {}
