//! A guest beside others in one store. It does what it is told, and keeps handles and windows by
//! number.
#![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]

use std::alloc::{Layout, alloc_zeroed};
use std::cell::RefCell;

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/contexts.wit"],
        world: "test:contexts/node",
        generate_all,
    });
}

use bindings::exports::test::contexts::{acts, peer as exported};
use bindings::test::contexts::{host, peer};
use bindings::tombolo::memory::pins::{self, Span};
use bindings::tombolo::memory::pressure::{self, Level};
use bindings::tombolo::memory::regions::{ErrorCode, Region};
use bindings::tombolo::memory::waits;
use bindings::tombolo::memory::windows::{self, Access, Window};

const GRANULE: usize = 65536;

/// A window, and its address.
struct Mapped {
    _window: Window,
    at: usize,
}

thread_local! {
    static HANDLES: RefCell<Vec<Option<Region>>> = const { RefCell::new(Vec::new()) };
    static WINDOWS: RefCell<Vec<Option<Mapped>>> = const { RefCell::new(Vec::new()) };
}

fn keep<T>(all: &RefCell<Vec<Option<T>>>, one: T) -> u32 {
    all.borrow_mut().push(Some(one));
    all.borrow().len() as u32 - 1
}

/// Takes a handle out, so that no borrow of the list lasts during a call.
fn with<R>(number: u32, act: impl FnOnce(&Region) -> R) -> R {
    let region = HANDLES.with_borrow_mut(|all| all[number as usize].take());
    let region = region.expect("the handle was dropped");
    let result = act(&region);
    HANDLES.with_borrow_mut(|all| all[number as usize] = Some(region));
    result
}

fn say(error: ErrorCode) -> String {
    format!("{error:?}")
}

/// Maps the first granule of a region, to memory that is never freed.
fn map(region: &Region, access: Access) -> Result<Mapped, String> {
    let layout = Layout::from_size_align(GRANULE, GRANULE).expect("a granule");
    let at = unsafe { alloc_zeroed(layout) };
    let list = unsafe { std::slice::from_raw_parts(at, 1) };
    let window = windows::map(region, 0, GRANULE as u64, access, list).map_err(say)?;
    Ok(Mapped {
        _window: window,
        at: at as usize,
    })
}

impl Mapped {
    fn peek(&self) -> u8 {
        unsafe { (self.at as *const u8).read_volatile() }
    }

    fn poke(&self, byte: u8) {
        unsafe { (self.at as *mut u8).write_volatile(byte) }
    }
}

struct Node;

impl exported::Guest for Node {
    fn write(region: &Region, byte: u8, keeps: bool) -> Result<u8, String> {
        let window = map(region, Access::Write)?;
        let before = window.peek();
        window.poke(byte);
        if keeps {
            WINDOWS.with(|all| keep(all, window));
        }
        Ok(before)
    }

    fn read(region: &Region) -> Result<u8, String> {
        Ok(map(region, Access::Read)?.peek())
    }

    fn die(region: &Region, byte: u8) -> Result<u8, String> {
        let window = map(region, Access::Write)?;
        window.poke(byte);
        core::arch::wasm32::unreachable()
    }

    fn keep(region: Region) -> Result<u32, String> {
        Ok(HANDLES.with(|all| keep(all, region)))
    }
}

impl acts::Guest for Node {
    fn create(size: u64) -> Result<u32, String> {
        let region = Region::create("created", size, true).map_err(say)?;
        Ok(HANDLES.with(|all| keep(all, region)))
    }

    fn keep(region: Region) -> u32 {
        HANDLES.with(|all| keep(all, region))
    }

    fn give(number: u32) -> Region {
        let region = HANDLES.with_borrow_mut(|all| all[number as usize].take());
        region.expect("the handle was dropped")
    }

    fn drop_handle(number: u32) {
        HANDLES.with_borrow_mut(|all| all[number as usize] = None);
    }

    fn map_window(number: u32, access: Access) -> Result<u32, String> {
        let window = with(number, |region| map(region, access))?;
        Ok(WINDOWS.with(|all| keep(all, window)))
    }

    fn drop_window(number: u32) {
        WINDOWS.with_borrow_mut(|all| all[number as usize] = None);
    }

    fn peek(window: u32) -> u8 {
        WINDOWS.with_borrow(|all| all[window as usize].as_ref().expect("it lives").peek())
    }

    fn poke(window: u32, byte: u8) {
        WINDOWS.with_borrow(|all| all[window as usize].as_ref().expect("it lives").poke(byte));
    }

    fn violate(window: u32) {
        let at = WINDOWS.with_borrow(|all| all[window as usize].as_ref().expect("it lives").at);
        let length = std::hint::black_box(100);
        unsafe { (at as *mut u8).write_bytes(9, length) }
    }

    fn unpin(number: u32) -> Result<(), String> {
        let span = Span {
            offset: 0,
            length: GRANULE as u64,
        };
        with(number, |region| pins::unpin(region, span)).map_err(say)
    }

    fn can_map(number: u32, access: Access) -> Result<bool, String> {
        let length = GRANULE as u64;
        let turn = with(number, |region| waits::subscribe(region, 0, length, access));
        Ok(turn.map_err(say)?.ready())
    }

    fn under_pressure() -> bool {
        let watch = pressure::Watch::new();
        let changed = watch.subscribe().ready();
        assert_eq!(watch.level() != Level::Normal, changed);
        assert_eq!(pressure::current() != Level::Normal, changed);
        changed
    }

    fn peer_write(number: u32, byte: u8, keep: bool) -> Result<u8, String> {
        with(number, |region| peer::write(region, byte, keep))
    }

    fn peer_read(number: u32) -> Result<u8, String> {
        with(number, peer::read)
    }

    fn peer_die(number: u32, byte: u8) -> Result<u8, String> {
        with(number, |region| peer::die(region, byte))
    }

    fn peer_keep(number: u32) -> Result<u32, String> {
        peer::keep(<Node as acts::Guest>::give(number))
    }

    fn host_sum(number: u32) -> Result<u64, String> {
        with(number, host::sum)
    }

    fn host_fill(number: u32, byte: u8) -> Result<u64, String> {
        with(number, |region| host::fill(region, byte))
    }

    fn host_take(number: u32) -> Result<u64, String> {
        host::take(<Node as acts::Guest>::give(number))
    }
}

bindings::export!(Node with_types_in bindings);

fn main() {}
