//! A guest that takes several calls at a time.
#![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/tasks.wit"],
        world: "test:tasks/borrower",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });
    export!(Borrower);
    pub(crate) struct Borrower;
}

use std::cell::{Cell, RefCell};

use bindings::exports::test::tasks::counters::{self, GuestCounter};
use bindings::exports::test::tasks::sink::Guest;
use bindings::wasi::clocks::monotonic_clock::wait_for;
use tombolo_guest::Region;

/// The state that the calls of this guest share.
#[derive(Default)]
struct State {
    open: bool,
    filling: u32,
    mapped: u32,
    filled: Option<Result<u8, String>>,
    kept: Option<Region>,
    meeting: u32,
    met: u32,
    alone: u32,
    counted: u32,
    destroyed: u32,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

fn state<R>(change: impl FnOnce(&mut State) -> R) -> R {
    STATE.with_borrow_mut(change)
}

/// Waits until a condition holds.
async fn until(holds: impl Fn(&State) -> bool) {
    while !state(|state| holds(state)) {
        wait_for(1_000_000).await;
    }
}

async fn fill_once(it: &Region) -> Result<u8, String> {
    let mut window = it.try_write(..).map_err(|error| error.to_string())?;
    window[0] = window[0].wrapping_add(1);
    state(|state| state.mapped += 1);
    until(|state| state.open).await;
    window[1] = 77;
    Ok(window[0])
}

impl Guest for bindings::Borrower {
    async fn fill(it: &Region) -> Result<u8, String> {
        state(|state| state.filling += 1);
        let filled = fill_once(it).await;
        state(|state| {
            state.filling -= 1;
            state.filled = Some(filled.clone());
        });
        filled
    }

    async fn look(it: &Region) -> Result<u8, String> {
        until(|state| state.open).await;
        let window = it.try_read(..).map_err(|error| error.to_string())?;
        Ok(window[0])
    }

    async fn size(it: &Region) -> Result<u64, String> {
        Ok(it.size())
    }

    async fn filling() -> Result<(), String> {
        until(|state| state.mapped > 0).await;
        Ok(())
    }

    fn open() -> Result<(), String> {
        state(|state| state.open = true);
        Ok(())
    }

    async fn filled() -> Result<u8, String> {
        until(|state| state.filling == 0 && state.filled.is_some()).await;
        state(|state| state.filled.clone()).expect("it waited for it")
    }

    async fn keep(it: Region) -> Result<u64, String> {
        let size = it.size();
        state(|state| state.kept = Some(it));
        Ok(size)
    }

    async fn give() -> Result<Region, String> {
        state(|state| state.kept.take()).ok_or_else(|| "nothing is kept".to_owned())
    }

    async fn meet(count: u32) -> Result<u32, String> {
        state(|state| {
            state.meeting += 1;
            state.met = state.met.max(state.meeting);
        });
        until(|state| state.met >= count).await;
        // A call too many would begin meanwhile.
        wait_for(5_000_000).await;
        Ok(state(|state| {
            state.meeting -= 1;
            state.met
        }))
    }

    fn alone() -> Result<u32, String> {
        let alone = state(|state| {
            state.alone += 1;
            state.alone
        });
        std::thread::sleep(std::time::Duration::from_millis(5));
        state(|state| state.alone -= 1);
        Ok(alone)
    }

    async fn die() -> Result<(), String> {
        panic!("as it was told")
    }

    async fn spin() -> Result<(), String> {
        loop {
            std::hint::black_box(());
        }
    }

    async fn sleep() -> Result<(), String> {
        loop {
            wait_for(1_000_000_000).await;
        }
    }

    async fn count() -> Result<u32, String> {
        Ok(state(|state| {
            state.counted += 1;
            state.counted
        }))
    }
}

/// A resource of this guest.
pub(crate) struct Counter(Cell<u32>);

impl GuestCounter for Counter {
    fn make() -> Result<counters::Counter, String> {
        Ok(counters::Counter::new(Counter(Cell::new(0))))
    }

    async fn add(&self, number: u32) -> Result<u32, String> {
        wait_for(1_000_000).await;
        self.0.set(self.0.get() + number);
        Ok(self.0.get())
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        state(|state| state.destroyed += 1);
    }
}

impl counters::Guest for bindings::Borrower {
    type Counter = Counter;

    async fn destroyed() -> Result<u32, String> {
        Ok(state(|state| state.destroyed))
    }
}

fn main() {}
