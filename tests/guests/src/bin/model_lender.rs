//! A command whose tasks lend, move, cancel and kill at random. Each task has a region, and a model
//! of it: the value of its first byte. It panics if the two differ.
#![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/model.wit"],
        world: "test:model/lender",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });
    export!(Lender);
    pub(crate) struct Lender;
}

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use bindings::test::model::sink;
use bindings::wasi::clocks::monotonic_clock::wait_for;
use tombolo_guest::{Error, Region};

/// The tasks, and the acts of each.
const TASKS: u64 = 4;
const ACTS: u32 = 50;
/// How often the borrower is killed at most.
const DEATHS: u32 = 3;

/// Lets other tasks run for about a millisecond.
async fn moment() {
    wait_for(1_000_000).await;
}

/// The deaths of the borrower.
#[derive(Default)]
struct Deaths {
    begun: Cell<u32>,
    /// Those after which it does not answer yet.
    open: Cell<u32>,
}

impl Deaths {
    /// Returns the state at the beginning of a call.
    fn before(&self) -> (u32, u32) {
        (self.begun.get(), self.open.get())
    }

    /// Returns whether a call that began then may have failed because of a death.
    fn excuse(&self, (begun, open): (u32, u32)) -> bool {
        open > 0 || self.begun.get() > begun
    }
}

/// A task, with its region and the model of that.
struct Task<'a> {
    deaths: &'a Deaths,
    random: u64,
    region: Region,
    value: u8,
}

fn fresh() -> Region {
    Region::create("modelled", 65536).expect("there is room")
}

/// Returns the first byte under a window of another task.
fn peek(at: usize) -> u8 {
    // SAFETY: The callers pass the address of a window of theirs. The read is volatile, because
    // what is there changes behind the compiler's back.
    unsafe { (at as *const u8).read_volatile() }
}

impl<'a> Task<'a> {
    fn new(deaths: &'a Deaths, seed: u64) -> Task<'a> {
        Task {
            deaths,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            region: fresh(),
            value: 0,
        }
    }

    /// Returns a random number below `end`.
    fn below(&mut self, end: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) as u32 % end
    }

    /// Returns a random byte that is neither 0 nor the present value, so that it can be told from
    /// these.
    fn byte(&mut self) -> u8 {
        loop {
            let byte = self.below(255) as u8 + 1;
            if byte != self.value {
                return byte;
            }
        }
    }

    async fn act(&mut self) {
        match self.below(20) {
            0 => self.kill().await,
            1..7 => self.put().await,
            7..12 => self.put_and_cancel().await,
            12..16 => self.see().await,
            _ => self.pass().await,
        }
    }

    /// Reads the byte after a call that failed. It has one of two values, and may be poisoned.
    async fn settle(&mut self, other: u8) {
        loop {
            match self.region.read_at(0, 1) {
                Ok(bytes) => {
                    assert!([self.value, other].contains(&bytes[0]), "{bytes:?}");
                    break;
                }
                Err(Error::Poisoned) => self.region.clear_poison().expect("it has the right"),
                Err(Error::WouldBlock) => moment().await,
                Err(error) => panic!("{error}"),
            }
        }
        // A call that waits for the next incarnation may still write to it.
        (self.region, self.value) = (fresh(), 0);
    }

    /// Lends beside a window, which shows zeros meanwhile.
    async fn put(&mut self) {
        let (byte, wait, before) = (self.byte(), self.below(3), self.deaths.before());
        let mut window = self.region.try_write(..).expect("nobody else has it");
        assert_eq!(window[0], self.value);
        let at = window.as_ptr() as usize;
        let put = {
            let lent = window.lend();
            let mut call = pin!(sink::put(&lent, byte, wait));
            let known = [self.value, byte];
            let deaths = self.deaths;
            watched(call.as_mut(), at, |shown| match deaths.excuse(before) {
                true => known.contains(&shown),
                false => shown == byte,
            })
            .await
        };
        match put {
            Ok(old) => {
                assert_eq!(old, self.value);
                assert_eq!(window[0], byte);
                self.value = byte;
            }
            Err(error) => {
                assert!(self.deaths.excuse(before), "{error}");
                drop(window);
                self.settle(byte).await;
            }
        }
    }

    /// Cancels a lend. The window is gone then, and the borrower finishes.
    async fn put_and_cancel(&mut self) {
        let (byte, wait, before) = (self.byte(), self.below(4), self.deaths.before());
        let patience = self.below(3);
        let mut window = self.region.try_write(..).expect("nobody else has it");
        let at = window.as_ptr() as usize;
        let put = {
            let lent = window.lend();
            let mut call = pin!(sink::put(&lent, byte, wait));
            let stop = async {
                for _ in 0..patience {
                    moment().await;
                }
            };
            unless(call.as_mut(), stop).await
        };
        match put {
            Some(Ok(old)) => {
                assert_eq!((old, window[0]), (self.value, byte));
                self.value = byte;
                return;
            }
            Some(Err(error)) => {
                assert!(self.deaths.excuse(before), "{error}");
                drop(window);
                return self.settle(byte).await;
            }
            // The call had returned before it was cancelled.
            None if peek(at) != 0 && !self.deaths.excuse(before) => {
                assert_eq!(window[0], byte);
                self.value = byte;
                return;
            }
            None if peek(at) != 0 => {
                drop(window);
                return self.settle(byte).await;
            }
            None => {}
        }
        let gone = window.into_read().expect_err("it is gone");
        assert!(matches!(gone.error(), Error::Gone), "{gone:?}");
        drop(gone);
        loop {
            if self.deaths.excuse(before) {
                return self.settle(byte).await;
            }
            match self.region.read_at(0, 1) {
                Ok(bytes) if bytes[0] == byte => break,
                Ok(bytes) => assert_eq!(bytes[0], self.value),
                Err(Error::WouldBlock) => {}
                Err(error) => assert!(self.deaths.excuse(before), "{error}"),
            }
            moment().await;
        }
        self.value = byte;
    }

    /// Lends the region to read.
    async fn see(&mut self) {
        let (wait, before) = (self.below(3), self.deaths.before());
        match sink::see(&self.region, wait).await {
            Ok(byte) => assert_eq!(byte, self.value),
            Err(error) => assert!(self.deaths.excuse(before), "{error}"),
        }
    }

    /// Moves the region there and back.
    async fn pass(&mut self) {
        let (byte, wait, before) = (self.byte(), self.below(3), self.deaths.before());
        let region = std::mem::replace(&mut self.region, fresh());
        match sink::pass(region, byte, wait).await {
            Ok(region) => (self.region, self.value) = (region, byte),
            Err(error) => {
                assert!(self.deaths.excuse(before), "{error}");
                self.value = 0;
            }
        }
    }

    /// Kills the borrower, and waits until the next incarnation answers.
    async fn kill(&mut self) {
        if self.deaths.begun.get() == DEATHS {
            return;
        }
        self.deaths.begun.set(self.deaths.begun.get() + 1);
        self.deaths.open.set(self.deaths.open.get() + 1);
        sink::die().await.expect_err("it dies");
        while sink::see(&self.region, 0).await != Ok(self.value) {
            moment().await;
        }
        self.deaths.open.set(self.deaths.open.get() - 1);
    }
}

/// Awaits a call. Between its polls, the window of this guest shows zeros. Once the call has
/// returned, it may show a byte that is final, before the guest learns of the return.
async fn watched<T>(
    mut call: Pin<&mut impl Future<Output = T>>,
    at: usize,
    is_final: impl Fn(u8) -> bool,
) -> T {
    let mut last = 0;
    poll_fn(|context| {
        let polled = call.as_mut().poll(context);
        if polled.is_pending() {
            let shown = peek(at);
            assert!(shown == 0 || is_final(shown), "the window shows {shown}");
            assert!(last == 0 || shown == last, "the window changed to {shown}");
            last = shown;
        }
        polled
    })
    .await
}

/// Polls a future until it is done or `stop` is. Returns its output, if it is done.
async fn unless<T>(mut future: Pin<&mut impl Future<Output = T>>, stop: impl Future) -> Option<T> {
    let mut stop = pin!(stop);
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        stop.as_mut().poll(context).map(|_| None)
    })
    .await
}

/// Awaits all futures together.
async fn all<F: Future<Output = ()>>(futures: Vec<F>) {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        match futures.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

impl bindings::exports::wasi::cli::run::Guest for bindings::Lender {
    async fn run() -> Result<(), ()> {
        let seed = std::env::args().nth(1).expect("it is given a seed");
        let seed: u64 = seed.parse().expect("it is a number");
        let deaths = Deaths::default();
        let deaths = &deaths;
        let tasks = (0..TASKS).map(|task| async move {
            let mut task = Task::new(deaths, seed * TASKS + task + 1);
            for _ in 0..ACTS {
                task.act().await;
            }
        });
        all(tasks.collect()).await;
        Ok(())
    }
}

fn main() {}
