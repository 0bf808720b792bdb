//! A guest that caches. It keeps regions and windows, unpins and pins them as the dice
//! roll, and checks every byte that is said to be intact. If a byte is wrong, it exits with
//! a code of its own.
//!
//! The arguments are the seed, the number of steps, and the end.
#![allow(unsafe_code, missing_docs)] // Generated.

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/soak.wit"],
        world: "test:soak/cache",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });
}

use std::ops::Range;

use bindings::test::soak::friend;
use tombolo_guest::{
    Error, Pinned, Read, ReadWindow, Region, Rights, Unpinned, Write, WriteWindow,
};
use tombolo_test_guests::scenarios::SoakEnd;
use tombolo_test_guests::soak::{self, Dice, GRANULE, Part};

/// The number of regions at a time, and the numbers of granules and windows in each.
const REGIONS: usize = 7;
const GRANULES: usize = 24;
const WINDOWS: usize = 3;

/// The number of additional frozen regions.
const FROZEN: usize = 3;

/// The number of steps after which it begins anew, and after which it prints its tally.
const EPISODE: usize = 150;
const TALLY: usize = 25;

/// The outcomes of its acts.
#[derive(Default)]
struct Tally {
    intact: u64,
    lost: u64,
    refused: u64,
    lent: u64,
    /// The number of frozen regions that were purged.
    thawed: u64,
}

struct Cache {
    dice: Dice,
    tally: Tally,
    alone: bool,
    /// Frozen regions, each with its seed. The first version is intact, or the region is
    /// purged. They are pinned only while they are read.
    frozen: Vec<(Region, u64)>,
}

/// A window in its present state.
enum Shown<'r> {
    Read(ReadWindow<'r>),
    Write(WriteWindow<'r>),
    HiddenRead(Unpinned<'r, Read>),
    HiddenWrite(Unpinned<'r, Write>),
}

impl Shown<'_> {
    fn is_hidden(&self) -> bool {
        matches!(self, Self::HiddenRead(_) | Self::HiddenWrite(_))
    }

    fn writes(&self) -> bool {
        matches!(self, Self::Write(_) | Self::HiddenWrite(_))
    }
}

struct Pane<'r> {
    range: Range<usize>,
    shown: Shown<'r>,
}

/// A region, and its expected contents.
struct Item<'r> {
    region: &'r Region,
    seed: u64,
    parts: Vec<Part>,
    panes: Vec<Pane<'r>>,
    /// Whether the friend has a claim on it and knows the versions, which then stay.
    is_shared: bool,
}

fn bytes(range: &Range<usize>) -> Range<u64> {
    (range.start * GRANULE) as u64..(range.end * GRANULE) as u64
}

fn meet(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end
}

fn main() {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("cache: {panic}");
        std::process::exit(soak::WRONG);
    }));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seed, steps, then] = &arguments[..] else {
        panic!("three arguments")
    };
    let mut cache = Cache {
        dice: Dice::new(seed.parse().expect("a number")),
        tally: Tally::default(),
        alone: false,
        frozen: Vec::new(),
    };
    let steps: usize = steps.parse().expect("a number");
    match then.parse().expect("the end exists") {
        SoakEnd::GoOn => loop {
            cache.episode(EPISODE, SoakEnd::Return);
        },
        // Until the friend is gone, and some steps beyond.
        SoakEnd::Survive => {
            while !cache.alone {
                cache.episode(EPISODE, SoakEnd::Return);
            }
            cache.episode(steps, SoakEnd::Return);
        }
        then => {
            cache.episode(steps / 2, SoakEnd::Return);
            cache.episode(steps / 2, then);
        }
    }
}

impl Cache {
    /// Begins with new regions, and ends in the given way while it has them.
    fn episode(&mut self, steps: usize, then: SoakEnd) {
        let regions: Vec<Region> = (0..REGIONS).map(|_| self.create()).collect();
        let mut items: Vec<Item<'_>> = regions.iter().map(|region| self.item(region)).collect();
        for step in 0..steps {
            let item = self.dice.below(items.len());
            self.step(&mut items[item]);
            if step % TALLY == 0 {
                self.write_tally();
            }
        }
        self.write_tally();
        match then {
            SoakEnd::Return | SoakEnd::GoOn | SoakEnd::Survive => {}
            SoakEnd::Exit => std::process::exit(0),
            SoakEnd::Trap => core::arch::wasm32::unreachable(),
            SoakEnd::Spin => loop {
                std::hint::spin_loop();
            },
        }
    }

    fn create(&mut self) -> Region {
        let size = (1 + self.dice.below(GRANULES)) * GRANULE;
        if self.dice.once_in(2) {
            match Region::create("cached", size as u64) {
                Ok(region) => return region,
                Err(error) => self.refused(&error),
            }
        }
        Region::create_unpinned("cached", size as u64).expect("it costs nothing")
    }

    fn item<'r>(&mut self, region: &'r Region) -> Item<'r> {
        let granules = usize::try_from(region.size()).expect("it is small") / GRANULE;
        let pinned = region.is_pinned(..).expect("it is ours");
        let part = Part {
            pinned,
            ..Part::default()
        };
        Item {
            region,
            seed: self.dice.roll(),
            parts: vec![part; granules],
            panes: Vec::new(),
            is_shared: false,
        }
    }

    /// Checks that the budget is the reason for a refusal.
    fn refused(&mut self, error: &Error) {
        assert!(matches!(error, Error::Exhausted(_)), "{error}");
        self.tally.refused += 1;
    }

    fn write_tally(&self) {
        let Tally {
            intact,
            lost,
            refused,
            lent,
            thawed,
        } = self.tally;
        std::fs::write(
            "/tally/cache",
            format!("{intact} {lost} {refused} {lent} {thawed} ."),
        )
        .expect("the directory is granted");
    }

    fn step(&mut self, item: &mut Item<'_>) {
        let range = self.dice.range(item.parts.len());
        match self.dice.below(22) {
            0..=3 => self.open(item, range),
            4..=5 => self.hide(item),
            6..=8 => self.show(item),
            9 => drop(item.take(&mut self.dice)),
            10 => self.unpin(item, range),
            11..=12 => self.pin(item, range),
            13 => {
                let pinned = item.region.is_pinned(bytes(&range)).expect("it is ours");
                assert_eq!(pinned, item.pins(&range));
            }
            14..=15 => self.write(item),
            16 => self.copy(item, range),
            17 => self.lend(item, range),
            18 => self.share(item),
            19 => self.freeze(),
            20 => self.look_at_frozen(),
            _ => self.have_looked(),
        }
        item.panes.iter().for_each(|pane| item.check(pane));
    }

    /// Maps a window, unless there are enough.
    fn open(&mut self, item: &mut Item<'_>, range: Range<usize>) {
        if item.panes.len() == WINDOWS {
            return;
        }
        let region = item.region;
        let write = self.dice.once_in(2);
        let shown = match write {
            true => region.try_write(bytes(&range)).map(Shown::Write),
            false => region.try_read(bytes(&range)).map(Shown::Read),
        };
        let conflicts = item.conflicts(&range, write);
        match shown {
            Ok(shown) => {
                assert!(!conflicts && item.pins(&range), "{range:?}");
                item.panes.push(Pane { range, shown });
            }
            Err(Error::WouldBlock) => assert!(conflicts, "{range:?}"),
            Err(Error::Unpinned) => assert!(!item.pins(&range), "{range:?}"),
            Err(error) => self.heal(item, &error),
        }
    }

    /// Clears poison, which only the friend leaves behind.
    fn heal(&mut self, item: &Item<'_>, error: &Error) {
        assert!(self.alone && *error == Error::Poisoned, "{error}");
        item.region.clear_poison().expect("it may write");
    }

    /// Unpins the bytes of a window.
    fn hide(&mut self, item: &mut Item<'_>) {
        let Some(Pane { range, shown }) = item.take(&mut self.dice) else {
            return;
        };
        let others = item.shows(&range);
        let refuse = |error: &Error| assert!(others && *error == Error::WouldBlock, "{error}");
        let shown = match shown {
            Shown::Read(window) => match window.unpin() {
                Ok(window) => Shown::HiddenRead(window),
                Err(refused) => {
                    refuse(refused.error());
                    Shown::Read(refused.into_window())
                }
            },
            Shown::Write(window) => match window.unpin() {
                Ok(window) => Shown::HiddenWrite(window),
                Err(refused) => {
                    refuse(refused.error());
                    Shown::Write(refused.into_window())
                }
            },
            hidden => {
                item.panes.push(Pane {
                    range,
                    shown: hidden,
                });
                return;
            }
        };
        if shown.is_hidden() {
            item.parts[range.clone()]
                .iter_mut()
                .for_each(|part| part.pinned = false);
        }
        item.panes.push(Pane { range, shown });
    }

    /// Pins the bytes of an unpinned window.
    fn show(&mut self, item: &mut Item<'_>) {
        let hidden = item.panes.iter().position(|pane| pane.shown.is_hidden());
        let Some(at) = hidden else { return };
        let Pane { range, shown } = item.panes.swap_remove(at);
        let shown = match shown {
            Shown::HiddenRead(window) => match window.pin() {
                Ok(pinned) => {
                    self.told(item, &range, pinned.is_lost());
                    Shown::Read(pinned.into_inner())
                }
                Err(refused) => {
                    self.refused(refused.error());
                    Shown::HiddenRead(refused.into_window())
                }
            },
            Shown::HiddenWrite(window) => match window.pin() {
                Ok(pinned) => {
                    self.told(item, &range, pinned.is_lost());
                    let mut window = pinned.into_inner();
                    item.refill(&range, &mut window);
                    Shown::Write(window)
                }
                Err(refused) => {
                    self.refused(refused.error());
                    Shown::HiddenWrite(refused.into_window())
                }
            },
            shown => shown,
        };
        item.panes.push(Pane { range, shown });
    }

    /// Records the result of a pin.
    fn told(&mut self, item: &mut Item<'_>, range: &Range<usize>, lost: bool) {
        match lost {
            true => self.tally.lost += 1,
            false => self.tally.intact += 1,
        }
        let parts = &mut item.parts[range.clone()];
        assert!(
            !lost || parts.iter().any(|part| !part.pinned),
            "what is pinned is never lost"
        );
        for part in parts {
            part.doubtful |= lost && !part.pinned;
            part.pinned = true;
        }
    }

    fn unpin(&mut self, item: &mut Item<'_>, range: Range<usize>) {
        match item.region.unpin(bytes(&range)) {
            Ok(()) => {
                assert!(!item.shows(&range), "{range:?}");
                item.parts[range]
                    .iter_mut()
                    .for_each(|it| it.pinned = false);
            }
            Err(error) => assert!(
                error == Error::WouldBlock && item.shows(&range),
                "{range:?}: {error}"
            ),
        }
    }

    fn pin(&mut self, item: &mut Item<'_>, range: Range<usize>) {
        match item.region.pin(bytes(&range)) {
            Ok(Pinned::Intact(())) => self.told(item, &range, false),
            Ok(Pinned::Lost(())) => self.told(item, &range, true),
            Err(error) => self.refused(&error),
        }
    }

    /// Writes a new version through a window.
    fn write(&mut self, item: &mut Item<'_>) {
        let panes = item.panes.iter_mut();
        let window = panes
            .filter_map(|pane| match &mut pane.shown {
                Shown::Write(window) => Some((pane.range.clone(), window)),
                _ => None,
            })
            .next();
        let Some((range, window)) = window else {
            return;
        };
        for (granule, place) in range.zip(window.chunks_mut(GRANULE)) {
            let part = &mut item.parts[granule];
            part.version += u32::from(!item.is_shared);
            (part.doubtful, part.torn) = (false, false);
            soak::fill(place, item.seed, granule, part.version);
        }
    }

    /// Copies some bytes out.
    fn copy(&mut self, item: &mut Item<'_>, range: Range<usize>) {
        const LENGTH: usize = 4096;
        let (granule, offset) = (range.start, self.dice.below(GRANULE / LENGTH) * LENGTH);
        let range = granule..granule + 1;
        let first = (granule * GRANULE + offset) as u64;
        match item.region.read_at(first, LENGTH as u64) {
            Ok(seen) => {
                assert!(!item.conflicts(&range, false) && item.pins(&range));
                soak::check(&seen, offset, item.seed, granule, item.parts[granule])
                    .expect("as it was written");
            }
            Err(Error::WouldBlock) => assert!(item.conflicts(&range, false)),
            Err(Error::Unpinned) => assert!(!item.pins(&range)),
            Err(error) => self.heal(item, &error),
        }
    }

    /// Lends the region with its windows, so that the friend reads or writes a part.
    fn lend(&mut self, item: &mut Item<'_>, range: Range<usize>) {
        let certain = |part: &Part| !part.doubtful && !part.torn;
        let write = !item.is_shared && self.dice.once_in(2);
        let can = item.pins(&range) && (write || item.parts[range.clone()].iter().all(certain));
        // The effects of a friend's death may not be visible yet.
        if self.alone || !can {
            return;
        }
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for pane in &mut item.panes {
            match &mut pane.shown {
                Shown::Read(window) => reads.push(window),
                Shown::Write(window) => writes.push(window),
                _ => {}
            }
        }
        let lent = item.region.lend((reads, writes));
        let first = u32::try_from(range.start).expect("it is small");
        let parts = &mut item.parts[range];
        let next = u32::from(write);
        let versions: Vec<u32> = parts.iter().map(|part| part.version + next).collect();
        let answer = match write {
            true => friend::fill(&lent, item.seed, first, &versions),
            false => friend::check(&lent, item.seed, first, &versions),
        };
        assert_ne!(answer, Ok(false), "what it lent was poisoned, and it lives");
        self.tally.lent += 1;
        if write {
            for part in parts {
                part.version += 1;
                (part.doubtful, part.torn) = (false, answer.is_err());
            }
        }
        self.answered(answer);
    }

    /// Moves a claim to the friend, which has its own pins from then on.
    fn share(&mut self, item: &mut Item<'_>) {
        if self.alone || item.parts.iter().any(|part| part.torn) {
            return;
        }
        let copy = item.region.duplicate(Rights::all()).expect("it is ours");
        let versions: Vec<u32> = item.parts.iter().map(|part| part.version).collect();
        let doubtful: Vec<bool> = item.parts.iter().map(|part| part.doubtful).collect();
        item.is_shared = true;
        self.answered(friend::keep(copy, item.seed, &versions, &doubtful));
    }

    /// Writes a region, freezes it, and unpins it.
    fn freeze(&mut self) {
        if self.frozen.len() == FROZEN {
            return;
        }
        let granules = 1 + self.dice.below(4);
        let region = match Region::create("frozen", (granules * GRANULE) as u64) {
            Ok(region) => region,
            Err(error) => return self.refused(&error),
        };
        let seed = self.dice.roll();
        let mut window = region.try_write(..).expect("it is new");
        for (granule, place) in window.chunks_mut(GRANULE).enumerate() {
            soak::fill(place, seed, granule, 1);
        }
        drop(window);
        region.freeze().expect("it is ours");
        region.unpin(..).expect("no window is there");
        self.frozen.push((region, seed));
    }

    /// Reads a frozen region, which is either intact as a whole or purged for good.
    fn look_at_frozen(&mut self) {
        if self.frozen.is_empty() {
            return;
        }
        let at = self.dice.below(self.frozen.len());
        let (region, seed) = &self.frozen[at];
        match region.pin(..) {
            Ok(pinned) => assert!(!pinned.is_lost(), "it goes as a whole"),
            Err(error) => {
                assert_eq!(error, Error::Purged);
                assert_eq!(region.unpin(..), Err(Error::Purged));
                self.tally.thawed += 1;
                self.frozen.swap_remove(at);
                return;
            }
        }
        let window = region.try_read(..).expect("it is pinned");
        for (granule, seen) in window.chunks(GRANULE).enumerate() {
            soak::check(seen, 0, *seed, granule, Part::of(1)).expect("as it was frozen");
        }
        drop(window);
        region.unpin(..).expect("no window is there");
    }

    fn have_looked(&mut self) {
        if !self.alone {
            let told = friend::look();
            if let Ok((intact, lost)) = told {
                self.tally.intact += intact;
                self.tally.lost += lost;
            }
            self.answered(told);
        }
    }

    /// Records the death of the friend, which fails in no other way.
    fn answered<T>(&mut self, answer: Result<T, String>) {
        self.alone |= answer.is_err();
    }
}

impl<'r> Item<'r> {
    fn take(&mut self, dice: &mut Dice) -> Option<Pane<'r>> {
        match self.panes.len() {
            0 => None,
            count => Some(self.panes.swap_remove(dice.below(count))),
        }
    }

    /// Returns whether the claim pins all of a range.
    fn pins(&self, range: &Range<usize>) -> bool {
        self.parts[range.clone()].iter().all(|part| part.pinned)
    }

    /// Returns whether a window shows some of a range.
    fn shows(&self, range: &Range<usize>) -> bool {
        let mut panes = self.panes.iter();
        panes.any(|pane| !pane.shown.is_hidden() && meet(&pane.range, range))
    }

    /// Returns whether the lock prevents another window there.
    fn conflicts(&self, range: &Range<usize>, write: bool) -> bool {
        let mut panes = self.panes.iter();
        panes.any(|pane| (write || pane.shown.writes()) && meet(&pane.range, range))
    }

    /// Recreates lost bytes.
    fn refill(&mut self, range: &Range<usize>, window: &mut [u8]) {
        for (granule, place) in range.clone().zip(window.chunks_mut(GRANULE)) {
            let part = &mut self.parts[granule];
            soak::check(place, 0, self.seed, granule, *part).expect("as it was left");
            if part.doubtful {
                soak::fill(place, self.seed, granule, part.version);
                part.doubtful = false;
            }
        }
    }

    /// Checks every byte that a window shows.
    fn check(&self, pane: &Pane<'_>) {
        let window: &[u8] = match &pane.shown {
            Shown::Read(window) => window,
            Shown::Write(window) => window,
            _ => return,
        };
        for (granule, seen) in pane.range.clone().zip(window.chunks(GRANULE)) {
            soak::check(seen, 0, self.seed, granule, self.parts[granule])
                .expect("as it was written");
        }
    }
}
