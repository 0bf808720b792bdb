//! The acts of the guests in the tests of calls. They use raw bindings, so that the SDK does
//! not prevent misuse.
//!
//! A script consists of a verb and its arguments.

#![allow(unsafe_code, clippy::undocumented_unsafe_blocks)]

use std::alloc::Layout;
use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::raw::regions::{ErrorCode, Region, Rights};
use crate::raw::windows::{self, Access, Window};

/// The number of bytes in a granule.
pub const GRANULE: u64 = 65536;

/// One granule of memory, and the window over it. The memory is never freed.
pub struct Page {
    memory: *mut u8,
    window: Option<Window>,
}

impl Page {
    /// Maps the granule of the region with this index.
    ///
    /// # Errors
    ///
    /// The errors of `map`.
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

    /// Returns the address of the granule.
    pub fn memory(&self) -> *const u8 {
        self.memory
    }

    /// Reads a byte, of the window or of the memory after its end.
    pub fn get(&self, at: usize) -> u8 {
        let byte = unsafe { self.memory.add(at) };
        unsafe { byte.read_volatile() }
    }

    /// Writes a byte.
    pub fn set(&self, at: usize, byte: u8) {
        let place = unsafe { self.memory.add(at) };
        unsafe { place.write_volatile(byte) }
    }

    /// Writes every byte.
    pub fn fill(&self, byte: u8) {
        (0..usize::try_from(GRANULE).unwrap()).for_each(|at| self.set(at, byte));
    }

    /// Returns whether every byte has this value.
    pub fn is_all(&self, byte: u8) -> bool {
        (0..usize::try_from(GRANULE).unwrap()).all(|at| self.get(at) == byte)
    }

    /// Returns the window, which must be open.
    pub fn window(&self) -> &Window {
        self.window.as_ref().expect("not closed")
    }

    /// Drops the window.
    pub fn close(&mut self) {
        self.window = None;
    }
}

/// Returns an error as WIT spells it.
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

/// Returns `ok`, or the error.
pub fn outcome<T>(result: Result<T, ErrorCode>) -> String {
    result.map_or_else(word, |_| "ok".into())
}

/// Returns the outcomes of all operations that need the bytes.
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

/// Keeps a page until `drop-all`.
pub fn keep_page(page: Page) {
    PAGES.with_borrow_mut(|pages| pages.push(page));
}

/// Keeps a region until it is taken, or until `drop-all`.
pub fn keep_region(region: Region) {
    REGIONS.with_borrow_mut(|regions| regions.push(region));
}

/// Returns whether a region is kept.
pub fn has_kept() -> bool {
    REGIONS.with_borrow(|regions| !regions.is_empty())
}

/// Calls `then` with the region that was kept last.
pub fn with_kept<T>(then: impl FnOnce(&Region) -> T) -> T {
    REGIONS.with_borrow(|regions| then(regions.last().expect("a region was kept")))
}

/// Takes the region that was kept last.
pub fn take_kept() -> Region {
    REGIONS.with_borrow_mut(|regions| regions.pop().expect("a region was kept"))
}

fn split(script: &str) -> (&str, &str) {
    script.split_once(' ').unwrap_or((script, ""))
}

fn number(text: &str) -> u8 {
    text.parse().expect("a number")
}

/// Ends or delays the guest, as `how` says.
fn end(how: &str) -> Result<String, String> {
    let (verb, rest) = split(how);
    match verb {
        "trap" => core::arch::wasm32::unreachable(),
        // Traps after a while with much memory, which takes time to be freed. So callers
        // are queued when the guest dies, and while it is dying.
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
        // Computes for this number of milliseconds.
        "busy" => {
            let begun = Instant::now();
            let long = Duration::from_millis(rest.parse().expect("a number"));
            while begun.elapsed() < long {}
            Ok("done".into())
        }
        "return" => Ok("done".into()),
        _ => Err(format!("unknown verb: {how}")),
    }
}

/// Plays a script that needs no region.
///
/// # Errors
///
/// The text that the script asks for.
pub fn say(script: &str) -> Result<String, String> {
    let (verb, rest) = split(script);
    match verb {
        "ping" => Ok("pong".into()),
        // The first bytes of the pages that were kept, even if their windows have ended.
        "look" => Ok(PAGES.with_borrow(|pages| {
            let bytes = pages.iter().map(|page| page.get(0).to_string());
            bytes.collect::<Vec<_>>().join(" ")
        })),
        // Whether the windows that were kept still work.
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
        // A handle's number that this guest does not own.
        "forge" => {
            let region = unsafe { Region::from_handle(rest.parse().expect("a number")) };
            Ok(region.name())
        }
        "forge-drop" => {
            drop(unsafe { Region::from_handle(rest.parse().expect("a number")) });
            Ok("dropped".into())
        }
        // Records the caller. Waits often, so that each guest that is ready gets its turn in
        // between, however slow the machine is.
        "log" => {
            SAID.with_borrow_mut(|said| said.push(rest.into()));
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok("done".into())
        }
        // The callers so far.
        "logged" => Ok(SAID.with_borrow(|said| said.join(" "))),
        "drop-all" => {
            PAGES.with_borrow_mut(Vec::clear);
            REGIONS.with_borrow_mut(Vec::clear);
            Ok("done".into())
        }
        _ => end(script),
    }
}

/// Plays a script with a region, lent or owned.
///
/// # Errors
///
/// The error that the region answers, as WIT spells it.
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
        // Ends or delays the guest while a window is open.
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
        // Operations that a lent handle does not permit.
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
