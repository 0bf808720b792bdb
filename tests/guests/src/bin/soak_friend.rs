//! The guest that the cache of the soak test lends to and shares with.
#![allow(unsafe_code, missing_docs)] // Generated.

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/soak.wit"],
        world: "test:soak/friendly",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });
    export!(Friend);
    pub(crate) struct Friend;
}

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Once;

use bindings::Friend;
use bindings::exports::test::soak::friend::Guest;
use tombolo_guest::{Error, Pinned, Region};
use tombolo_test_guests::soak::{self, Dice, GRANULE, Part};

/// The number of claims that it keeps.
const KEPT: usize = 3;

struct Kept {
    region: Region,
    seed: u64,
    parts: Vec<Part>,
}

struct Friendly {
    dice: Dice,
    kept: Vec<Kept>,
}

thread_local! {
    static FRIENDLY: RefCell<Friendly> = const {
        RefCell::new(Friendly { dice: Dice::FIRST, kept: Vec::new() })
    };
}

fn bytes(range: &Range<usize>) -> Range<u64> {
    (range.start * GRANULE) as u64..(range.end * GRANULE) as u64
}

/// Makes a panic end this guest with a code of its own.
fn tell_panics() {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            eprintln!("friend: {panic}");
            std::process::exit(soak::WRONG);
        }));
    });
}

/// Checks that the lock or the memory is the reason for a refusal.
fn refused(error: &Error) {
    assert!(
        matches!(
            error,
            Error::WouldBlock | Error::Exhausted(_) | Error::Poisoned
        ),
        "{error}"
    );
}

/// Returns the granules of a lend.
fn lent(first: u32, versions: &[u32]) -> Range<usize> {
    let first = usize::try_from(first).expect("32 bits");
    first..first + versions.len()
}

impl Guest for Friend {
    fn check(it: &Region, seed: u64, first: u32, versions: Vec<u32>) -> Result<bool, String> {
        tell_panics();
        let range = lent(first, &versions);
        // Only the lender changes pins.
        assert_eq!(it.unpin(bytes(&range)), Err(Error::NotPermitted));
        assert_eq!(it.pin(bytes(&range)), Err(Error::NotPermitted));
        let window = match it.try_read(bytes(&range)) {
            // By the lender, which has been killed with a window to write. No guest
            // receives this answer.
            Err(Error::Poisoned) => return Ok(false),
            window => window.expect("it was lent"),
        };
        for ((granule, version), seen) in range.zip(versions).zip(window.chunks(GRANULE)) {
            soak::check(seen, 0, seed, granule, Part::of(version)).expect("as it was lent");
        }
        Ok(true)
    }

    fn fill(it: &Region, seed: u64, first: u32, versions: Vec<u32>) -> Result<bool, String> {
        tell_panics();
        let range = lent(first, &versions);
        let mut window = match it.try_write(bytes(&range)) {
            // As above.
            Err(Error::Poisoned) => return Ok(false),
            window => window.expect("it was lent"),
        };
        for ((granule, version), place) in range.zip(versions).zip(window.chunks_mut(GRANULE)) {
            soak::fill(place, seed, granule, version);
        }
        Ok(true)
    }

    fn keep(
        it: Region,
        seed: u64,
        versions: Vec<u32>,
        doubtful: Vec<bool>,
    ) -> Result<bool, String> {
        tell_panics();
        let mut parts = Vec::new();
        for (granule, (version, doubtful)) in versions.into_iter().zip(doubtful).enumerate() {
            let range = bytes(&(granule..granule + 1));
            parts.push(Part {
                version,
                doubtful,
                torn: false,
                // As the claim that it was duplicated from.
                pinned: it.is_pinned(range).expect("it is ours"),
            });
        }
        FRIENDLY.with_borrow_mut(|friendly| {
            friendly.kept.push(Kept {
                region: it,
                seed,
                parts,
            });
            if friendly.kept.len() > KEPT {
                friendly.kept.remove(0);
            }
        });
        Ok(true)
    }

    fn look() -> Result<(u64, u64), String> {
        tell_panics();
        FRIENDLY.with_borrow_mut(|friendly| {
            let mut told = (0, 0);
            for kept in &mut friendly.kept {
                let range = friendly.dice.range(kept.parts.len());
                look(kept, range.clone(), &mut told);
                if !friendly.dice.once_in(4) {
                    kept.region
                        .unpin(bytes(&range))
                        .expect("no window is there");
                    kept.parts[range]
                        .iter_mut()
                        .for_each(|it| it.pinned = false);
                }
            }
            Ok(told)
        })
    }
}

/// Pins a range, reads it, and recreates lost bytes.
fn look(kept: &mut Kept, range: Range<usize>, told: &mut (u64, u64)) {
    let pinned = match kept.region.pin(bytes(&range)) {
        Ok(pinned) => pinned,
        Err(error) => return refused(&error),
    };
    match pinned {
        Pinned::Intact(()) => told.0 += 1,
        Pinned::Lost(()) => told.1 += 1,
    }
    for part in &mut kept.parts[range.clone()] {
        part.doubtful |= pinned.is_lost() && !part.pinned;
        part.pinned = true;
    }
    let window = match kept.region.try_read(bytes(&range)) {
        Ok(window) => window,
        Err(error) => return refused(&error),
    };
    for (granule, seen) in range.clone().zip(window.chunks(GRANULE)) {
        soak::check(seen, 0, kept.seed, granule, kept.parts[granule]).expect("as it was kept");
    }
    if !kept.parts[range.clone()].iter().any(|part| part.doubtful) {
        return;
    }
    let mut window = match window.into_write() {
        Ok(window) => window,
        Err(error) => return refused(error.error()),
    };
    for (granule, place) in range.zip(window.chunks_mut(GRANULE)) {
        soak::fill(place, kept.seed, granule, kept.parts[granule].version);
        kept.parts[granule].doubtful = false;
    }
}

fn main() {}
