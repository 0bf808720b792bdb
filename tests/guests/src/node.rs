//! What the guests of the tests of calls do when they are told to, with raw
//! bindings: nothing of the SDK keeps them from doing wrong.
//!
//! A script is one verb and what follows it. Each guest that includes this file
//! has its bindings in `crate::bindings`.

use std::alloc::Layout;
use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::bindings::tombolo::memory::regions::{ErrorCode, Region, Rights};
use crate::bindings::tombolo::memory::windows::{self, Access, Window};

pub const GRANULE: u64 = 65536;

/// Memory on granules that is never freed, and the window over it.
pub struct Page {
    memory: *mut u8,
    window: Option<Window>,
}

impl Page {
    /// Maps one granule of the region, the `index`th.
    pub fn map(region: &Region, index: u64, access: Access) -> Result<Self, ErrorCode> {
        let granule = usize::try_from(GRANULE).unwrap();
        let layout = Layout::from_size_align(granule, granule).unwrap();
        let memory = unsafe { std::alloc::alloc_zeroed(layout) };
        assert!(!memory.is_null());
        let at = unsafe { std::slice::from_raw_parts(memory, 1) };
        let window = windows::map(region, index * GRANULE, GRANULE, access, at)?;
        Ok(Self {
            memory,
            window: Some(window),
        })
    }

    /// Where it begins.
    pub fn memory(&self) -> *const u8 {
        self.memory
    }

    /// Reads a byte, of the window or of what is there after it.
    pub fn get(&self, at: usize) -> u8 {
        let byte = unsafe { self.memory.add(at) };
        unsafe { byte.read_volatile() }
    }

    pub fn set(&self, at: usize, byte: u8) {
        let place = unsafe { self.memory.add(at) };
        unsafe { place.write_volatile(byte) }
    }

    pub fn fill(&self, byte: u8) {
        (0..usize::try_from(GRANULE).unwrap()).for_each(|at| self.set(at, byte));
    }

    /// Tells whether all of it is this byte.
    pub fn is_all(&self, byte: u8) -> bool {
        (0..usize::try_from(GRANULE).unwrap()).all(|at| self.get(at) == byte)
    }

    pub fn window(&self) -> &Window {
        self.window.as_ref().expect("not closed")
    }

    /// Drops the window.
    pub fn close(&mut self) {
        self.window = None;
    }
}

/// An error as WIT writes it.
pub fn word(code: ErrorCode) -> String {
    match code {
        ErrorCode::InvalidArgument(text) => format!("invalid-argument: {text}"),
        ErrorCode::Misaligned(text) => format!("misaligned: {text}"),
        ErrorCode::OutOfBounds(text) => format!("out-of-bounds: {text}"),
        ErrorCode::NotPermitted => "not-permitted".into(),
        ErrorCode::WouldBlock => "would-block".into(),
        ErrorCode::Frozen => "frozen".into(),
        ErrorCode::Unpinned => "unpinned".into(),
        ErrorCode::Purged => "purged".into(),
        ErrorCode::Overlap => "overlap".into(),
        ErrorCode::Gone => "gone".into(),
        ErrorCode::Poisoned => "poisoned".into(),
        ErrorCode::Exhausted(text) => format!("exhausted: {text}"),
        ErrorCode::Unsupported(text) => format!("unsupported: {text}"),
    }
}

/// How something went: `ok`, or the error.
pub fn outcome<T>(result: Result<T, ErrorCode>) -> String {
    result.map_or_else(word, |_| "ok".into())
}

/// What everything that needs the bytes, or the handle to be whole, says.
pub fn outcomes(region: &Region) -> String {
    [
        outcome(Page::map(region, 0, Access::Read)),
        outcome(Page::map(region, 0, Access::Write)),
        outcome(region.read_at(0, 1)),
        outcome(region.write_at(0, &[1])),
        outcome(region.freeze()),
    ]
    .join(" ")
}

thread_local! {
    static PAGES: RefCell<Vec<Page>> = const { RefCell::new(Vec::new()) };
    static REGIONS: RefCell<Vec<Region>> = const { RefCell::new(Vec::new()) };
    static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

pub fn keep_page(page: Page) {
    PAGES.with_borrow_mut(|pages| pages.push(page));
}

pub fn keep_region(region: Region) {
    REGIONS.with_borrow_mut(|regions| regions.push(region));
}

pub fn has_kept() -> bool {
    REGIONS.with_borrow(|regions| !regions.is_empty())
}

/// Uses the last region that was kept.
pub fn with_kept<T>(then: impl FnOnce(&Region) -> T) -> T {
    REGIONS.with_borrow(|regions| then(regions.last().expect("a region was kept")))
}

pub fn take_kept() -> Region {
    REGIONS.with_borrow_mut(|regions| regions.pop().expect("a region was kept"))
}

fn split(script: &str) -> (&str, &str) {
    script.split_once(' ').unwrap_or((script, ""))
}

fn number(text: &str) -> u8 {
    text.parse().expect("a number")
}

/// Ends the guest, or keeps it, in the way that is asked for.
fn end(how: &str) -> Result<String, String> {
    let (verb, rest) = split(how);
    match verb {
        "trap" => core::arch::wasm32::unreachable(),
        // With much memory, which takes a while to be given back.
        // Whoever calls it meanwhile is queued when it dies, which takes a while.
        "heavy-trap" => {
            std::thread::sleep(Duration::from_millis(500));
            core::hint::black_box(vec![1u8; 400 << 20]);
            core::arch::wasm32::unreachable()
        }
        "exit" => std::process::exit(number(rest).into()),
        "spin" => loop {
            std::hint::spin_loop();
        },
        "sleep" => {
            std::thread::sleep(Duration::from_secs(3600));
            Err("slept".into())
        }
        // Runs for so many milliseconds.
        "busy" => {
            let begun = Instant::now();
            let long = Duration::from_millis(rest.parse().expect("a number"));
            while begun.elapsed() < long {}
            Ok("done".into())
        }
        "return" => Ok("done".into()),
        _ => Err(format!("no such verb: {how}")),
    }
}

/// What a guest does without being given anything.
pub fn say(script: &str) -> Result<String, String> {
    let (verb, rest) = split(script);
    match verb {
        "ping" => Ok("pong".into()),
        // What is where the windows were that were kept.
        "look" => Ok(PAGES.with_borrow(|pages| {
            let bytes = pages.iter().map(|page| page.get(0).to_string());
            bytes.collect::<Vec<_>>().join(" ")
        })),
        // What the windows that were kept can still do.
        "set-access" => Ok(PAGES.with_borrow(|pages| {
            let all = pages
                .iter()
                .map(|page| outcome(page.window().set_access(Access::Read)));
            all.collect::<Vec<_>>().join(" ")
        })),
        "use-kept" => Ok(with_kept(|region| {
            let more = [
                outcome(region.duplicate(Rights::READ)),
                outcome(region.restrict(Rights::READ)),
                outcome(region.clear_poison()),
            ];
            format!("{} {}", outcomes(region), more.join(" "))
        })),
        // Handles by their numbers, which nobody gave to this guest.
        "forge" => {
            let region = unsafe { Region::from_handle(rest.parse().expect("a number")) };
            Ok(region.name())
        }
        "forge-drop" => {
            drop(unsafe { Region::from_handle(rest.parse().expect("a number")) });
            Ok("dropped".into())
        }
        // Notes who calls, and says who has.
        "log" => {
            SAID.with_borrow_mut(|said| said.push(rest.into()));
            end("busy 20")
        }
        "logged" => Ok(SAID.with_borrow(|said| said.join(" "))),
        "drop-all" => {
            PAGES.with_borrow_mut(Vec::clear);
            REGIONS.with_borrow_mut(Vec::clear);
            Ok("done".into())
        }
        _ => end(script),
    }
}

/// What a guest does with a region, lent or its own.
pub fn with(script: &str, it: &Region) -> Result<String, String> {
    let (verb, rest) = split(script);
    match verb {
        "see" => {
            let page = Page::map(it, 0, Access::Read).map_err(word)?;
            Ok(page.get(0).to_string())
        }
        "fill" => {
            let page = Page::map(it, 0, Access::Write).map_err(word)?;
            page.fill(number(rest));
            Ok("done".into())
        }
        "live" => {
            let page = Page::map(it, 0, Access::LiveWrite).map_err(word)?;
            page.fill(number(rest));
            Ok("done".into())
        }
        // Keeps the window.
        "fill-keep" => {
            let page = Page::map(it, 0, Access::Write).map_err(word)?;
            page.fill(number(rest));
            keep_page(page);
            Ok("done".into())
        }
        // Ends in some way while it writes, or reads.
        "writing" => {
            let page = Page::map(it, 0, Access::Write).map_err(word)?;
            page.set(0, 3);
            end(rest)
        }
        "reading" => {
            let _page = Page::map(it, 0, Access::Read).map_err(word)?;
            end(rest)
        }
        "copy" => {
            it.write_at(0, &[number(rest)]).map_err(word)?;
            Ok(it.read_at(0, 1).map_err(word)?[0].to_string())
        }
        "outcomes" => Ok(outcomes(it)),
        // What one who borrows may not do.
        "forbidden" => {
            let all = [
                outcome(it.duplicate(Rights::READ)),
                outcome(it.duplicate(Rights::empty())),
                outcome(it.freeze()),
            ];
            Ok(all.join(" "))
        }
        "rights" => Ok(format!("{:?}", it.rights())),
        "keep-restricted" => {
            let rights = Rights::READ | Rights::WRITE;
            keep_region(it.restrict(rights).map_err(word)?);
            Ok("done".into())
        }
        "drop" => Ok("done".into()),
        _ => end(script),
    }
}
