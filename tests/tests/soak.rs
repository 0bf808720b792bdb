//! Guests come and go, cache, unpin, crash and are killed, under a budget that is too small
//! for them. At all times, bytes that a guest is not told lost are as it wrote them. At the
//! end, the process holds no more than after the first round.
//!
//! The program has one test, because tests of one program share the process that is
//! checked.
//!
//! The test runs for `TOMBOLO_SOAK_SECONDS`, by default one, and until each event has
//! happened. `TOMBOLO_SOAK_SEED` seeds the choices. Threads interleave as the machine
//! decides, so a seed determines the acts and not their times.
//!
//! The test runs in a child process for two reasons. The parent ends it if it hangs. And its
//! allocator is told to return freed memory, so that remaining memory is a leak.

use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tombolo::pressure::Level;
use tombolo::{HostLimits, Limits, Pinned, Region, RegionError, RegionHost};
use tombolo_app::{App, AppBuilder, AppHandle, CommandExit, CommandSpec, Grant, Outcome};
use tombolo_test_guests::soak::{self, Dice, GRANULE, Part};
use tombolo_test_util::process::Process;
use tombolo_test_util::run::{one_thread, threads};
use tombolo_test_util::three_guests::{program, server};

use scenarios::SoakEnd;

tombolo_tests::guests!(soak);
tombolo_tests::scenarios!(soak);

/// The budget: about half of the regions of one guest, and a third of those of the host
/// program.
const BUDGET: u64 = 8 << 20;

/// The run time of a guest that spins.
const SPIN: Duration = Duration::from_millis(300);

/// The number of steps of a guest that ends by itself.
const STEPS: usize = 400;

/// The bytes that the process may have at the end beyond those after the first rounds. The
/// allocator keeps memory between pieces that are in use.
const MEMORY_SLACK: u64 = 4 << 20;

/// Settings with which the C library's allocator keeps little: one heap for all threads,
/// without free memory at its end.
const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "65536"),
    ("MALLOC_TRIM_THRESHOLD_", "0"),
];

/// An environment variable that is set in the child process.
const INSIDE: &str = "TOMBOLO_SOAK_INSIDE";

/// The longest time to wait for events that have not happened yet.
const RARE: Duration = Duration::from_secs(60);

/// The time beyond the requested duration after which the child counts as hanging.
const PATIENCE: Duration = Duration::from_secs(180);

/// The number of mappings by which the heap may differ.
const MAPPINGS_SLACK: usize = 12;

/// The way in which a guest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Returns,
    Exits,
    Crashes,
    Spins,
    IsKilled,
    /// The other guest is killed, perhaps while it is called.
    FriendIsKilled,
}

const WAYS: [Way; 6] = [
    Way::Returns,
    Way::Exits,
    Way::Crashes,
    Way::Spins,
    Way::IsKilled,
    Way::FriendIsKilled,
];

/// The reason for which guests are killed.
const REASON: &str = "the soak wants it";

impl Way {
    /// Returns the act of the guest after its steps.
    fn then(self) -> SoakEnd {
        match self {
            Way::Returns => SoakEnd::Return,
            Way::Exits => SoakEnd::Exit,
            Way::Crashes => SoakEnd::Trap,
            Way::Spins => SoakEnd::Spin,
            Way::IsKilled => SoakEnd::GoOn,
            Way::FriendIsKilled => SoakEnd::Survive,
        }
    }

    fn victim(self) -> Option<&'static str> {
        match self {
            Way::IsKilled => Some("cache"),
            Way::FriendIsKilled => Some("friend"),
            _ => None,
        }
    }

    /// Returns the end of the command, and the text of the only failure, if there is one.
    fn end(self) -> (CommandExit, Option<&'static str>) {
        match self {
            Way::Returns | Way::Exits => (CommandExit::Exit(0), None),
            Way::Crashes => (CommandExit::Failed, Some("unreachable")),
            Way::Spins => (CommandExit::Failed, Some("time")),
            Way::IsKilled => (CommandExit::Failed, Some(REASON)),
            Way::FriendIsKilled => (CommandExit::Exit(0), Some(REASON)),
        }
    }

    fn check(self, outcome: &Outcome) {
        let (end, failure) = self.end();
        assert_eq!(outcome.end, end, "{self:?}: {:?}", outcome.failures);
        let mut failures = outcome.failures.iter();
        let is_expected = failures.all(|it| failure.is_some_and(|text| it.contains(text)));
        assert!(is_expected, "{self:?}: {:?}", outcome.failures);
        assert_eq!(
            outcome.failures.len(),
            usize::from(failure.is_some()),
            "{self:?}: {:?}",
            outcome.failures
        );
    }
}

/// Counts of events so far.
#[derive(Debug, Default)]
struct Tally {
    rounds: u64,
    killed: u64,
    crashes: u64,
    /// Results of pins, and refusals.
    intact: u64,
    lost: u64,
    refused: u64,
    lent: u64,
    /// The number of frozen regions that were found purged.
    thawed: u64,
    reports: u64,
    purges: u64,
    purged: u64,
}

impl Tally {
    /// Returns an event that has not happened yet, if there is one.
    fn lacks(&self) -> Option<&'static str> {
        let Tally {
            rounds,
            killed,
            crashes,
            intact,
            lost,
            refused,
            lent,
            thawed,
            reports,
            purges,
            purged,
        } = *self;
        let all = [
            ("rounds", rounds),
            ("guests killed", killed),
            ("crashes", crashes),
            ("pins that found their bytes", intact),
            ("pins that did not", lost),
            ("pins that were refused", refused),
            ("lends", lent),
            ("frozen regions found purged", thawed),
            ("reports of pressure", reports),
            ("purges", purges),
            ("bytes purged", purged),
        ];
        let lacking = all.into_iter().find(|(_, count)| *count == 0);
        lacking.map(|(what, _)| what)
    }
}

/// The holdings of the process.
#[derive(Debug)]
struct Holdings {
    descriptors: usize,
    memfds: usize,
    mapped_memfds: usize,
    /// GiB in the reservations of linear memories and their parts.
    reservations: u64,
    mappings: usize,
    shared_memory: u64,
    memory: u64,
    threads: Vec<String>,
}

impl Holdings {
    /// Returns the holdings once they stop changing. The kernel lists a joined thread for a
    /// while.
    fn settled() -> Holdings {
        let mut last = Holdings::now();
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let now = Holdings::now();
            if now.threads == last.threads {
                return now;
            }
            last = now;
        }
    }

    fn now() -> Holdings {
        let process = Process::current();
        let descriptors = process.descriptors().unwrap();
        let mappings = process.mappings().unwrap();
        let lengths = mappings.iter().map(|it| it.range.end - it.range.start);
        // No other mapping is so large.
        let reservations = lengths.filter(|length| *length >= 1 << 30);
        let threads = process.threads().unwrap();
        let mut threads: Vec<_> = threads.into_iter().map(|it| it.name).collect();
        threads.sort();
        Holdings {
            descriptors: descriptors.len(),
            memfds: descriptors.iter().filter(|it| it.memfd().is_some()).count(),
            mapped_memfds: mappings.iter().filter(|it| it.memfd().is_some()).count(),
            reservations: reservations.sum::<u64>() >> 30,
            mappings: mappings.len(),
            shared_memory: process.shared_memory().unwrap(),
            memory: process.resident_memory().unwrap(),
            threads,
        }
    }

    /// Checks that the process holds no more than before.
    fn assert_as(&self, before: &Holdings) {
        let exact = |it: &Holdings| {
            let Holdings {
                descriptors,
                memfds,
                mapped_memfds,
                reservations,
                shared_memory,
                ..
            } = *it;
            [
                descriptors as u64,
                memfds as u64,
                mapped_memfds as u64,
                reservations,
                shared_memory,
            ]
        };
        let both = format!("before: {before:?}\nafter: {self:?}");
        assert_eq!(exact(self), exact(before), "{both}");
        assert_eq!(self.threads, before.threads, "{both}");
        assert!(self.mappings <= before.mappings + MAPPINGS_SLACK, "{both}");
        assert!(self.memory <= before.memory + MEMORY_SLACK, "{both}");
    }
}

/// A directory that is removed when this is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        let name = format!("tombolo-soak-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    /// Returns the last counts that the guest wrote, unless it was killed while writing.
    fn take_tally(&self) -> Option<[u64; 5]> {
        let file = self.0.join("cache");
        let text = std::fs::read_to_string(&file).ok()?;
        std::fs::remove_file(file).unwrap();
        let numbers = text.strip_suffix(" .")?.split(' ');
        let numbers: Vec<u64> = numbers.map(|it| it.parse().unwrap()).collect();
        Some(numbers.try_into().unwrap())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn app(way: Way, seed: u64, directory: &Directory) -> AppBuilder {
    let dir = cap_std::fs::Dir::open_ambient_dir(&directory.0, cap_std::ambient_authority());
    let tally = Grant {
        dir: dir.unwrap(),
        host_path: directory.0.clone(),
        guest_path: "/tally".into(),
        read_only: false,
    };
    let command = CommandSpec {
        args: vec![seed.to_string(), STEPS.to_string(), way.then().to_string()],
        dirs: vec![tally],
        ..CommandSpec::default()
    };
    let mut host_limits = HostLimits::default();
    host_limits.budget = BUDGET;
    let mut limits = Limits::default();
    limits.run_time = (way == Way::Spins).then_some(SPIN);
    App::builder()
        .command(command)
        .limits(limits)
        .host_limits(host_limits)
        .guest(program("cache", guests::SOAK_CACHE))
        .guest(server("friend", guests::SOAK_FRIEND))
}

/// Runs an app to its end while threads interfere.
fn round(way: Way, seed: u64, directory: &Directory, tally: &mut Tally) {
    let mut dice = Dice::new(seed);
    // The guests run on one thread or on two.
    let runtime = match dice.once_in(2) {
        true => one_thread(),
        false => threads(2),
    };
    let app = app(way, dice.roll(), directory);
    let app = runtime.block_on(app.start()).unwrap();
    let host = app.host().clone();

    // Both threads run until they are told to end, at the latest at the end of this function.
    let (end_interfering, ended) = mpsc::channel();
    let (its, handle, theirs) = (Dice::new(dice.roll()), app.handle(), host.clone());
    let interfering = std::thread::spawn(move || interfere(way, its, &theirs, &handle, &ended));
    let (end_holding, ended) = mpsc::channel();
    let (its, theirs) = (Dice::new(dice.roll()), host.clone());
    let holding = std::thread::spawn(move || hold(its, &theirs, &ended));

    let outcome = runtime.block_on(app.run());
    drop((end_interfering, end_holding));
    let host_tally = holding
        .join()
        .expect("the host program holds what it should");
    let reports = interfering.join().expect("it only asks");
    drop(runtime);

    way.check(&outcome);
    let counts = host.counts();
    assert_eq!(counts.regions_created, counts.regions_freed);
    let budget = host.budget();
    assert_eq!((budget.committed, budget.purgeable), (0, 0), "{budget:?}");
    assert!(budget.committed_peak <= BUDGET, "{budget:?}");

    tally.rounds += 1;
    tally.killed += u64::from(way.victim().is_some());
    tally.crashes += u64::from(way == Way::Crashes);
    tally.purges += budget.purges;
    tally.purged += budget.purged;
    tally.reports += reports;
    for [intact, lost, refused, lent, thawed] in
        directory.take_tally().into_iter().chain([host_tally])
    {
        tally.intact += intact;
        tally.lost += lost;
        tally.refused += refused;
        tally.lent += lent;
        tally.thawed += thawed;
    }
}

/// Waits a moment. Returns whether to continue.
fn goes_on(ended: &Receiver<()>) -> bool {
    ended.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout)
}

/// Purges, changes the budget, reports pressure, and kills a guest once it has created some
/// windows. Returns the number of reports of pressure.
fn interfere(
    way: Way,
    mut dice: Dice,
    host: &RegionHost,
    handle: &AppHandle,
    ended: &Receiver<()>,
) -> u64 {
    let mut reports = 0;
    let mut victim = way.victim();
    let windows = 10 + dice.below(150) as u64;
    while goes_on(ended) {
        if host.counts().windows >= windows
            && let Some(victim) = victim.take()
        {
            handle.end_guest(victim, REASON).unwrap();
        }
        let some = dice.below(64) as u64 * GRANULE as u64;
        match dice.below(16) {
            0 => drop(host.purge(some)),
            1 => drop(host.set_budget(BUDGET - some)),
            2 => drop(host.set_budget(BUDGET)),
            3 => {
                reports += 1;
                host.report_pressure(match dice.once_in(4) {
                    true => Level::Critical,
                    false => Level::Moderate,
                });
            }
            4 => drop(host.report_pressure(Level::Normal)),
            _ => {}
        }
    }
    reports
}

/// Uses regions of the host program as guests use theirs, without lends. Returns how often pins
/// were intact, lost and refused, and how many frozen regions were found purged.
fn hold(mut dice: Dice, host: &RegionHost, ended: &Receiver<()>) -> [u64; 5] {
    let mut tally = [0; 5];
    let mut frozen = Vec::new();
    let mut held: Vec<Held> = (0..2).map(|_| Held::new(&mut dice, host)).collect();
    while goes_on(ended) {
        let at = dice.below(held.len());
        held[at].step(&mut dice, &mut tally);
        if dice.once_in(100) {
            held[at] = Held::new(&mut dice, host);
        }
        if frozen.len() < 2 {
            frozen.extend(Frozen::new(&mut dice, host));
        } else if dice.once_in(4) {
            let at = dice.below(frozen.len());
            if !frozen[at].look(&mut tally) {
                frozen.swap_remove(at);
            }
        }
    }
    tally
}

/// A frozen region of the host program, which is pinned only for checks.
struct Frozen(Region, u64);

impl Frozen {
    /// Creates and fills a region, unless there is no room.
    fn new(dice: &mut Dice, host: &RegionHost) -> Option<Frozen> {
        let size = ((1 + dice.below(8)) * GRANULE) as u64;
        let region = host.create("the program's, frozen", size).ok()?;
        let seed = dice.roll();
        let mut bytes = region.try_write(0..size).unwrap();
        for (granule, place) in bytes.chunks_mut(GRANULE).enumerate() {
            soak::fill(place, seed, granule, 1);
        }
        drop(bytes);
        region.freeze().unwrap();
        region.unpin(..).unwrap();
        Some(Frozen(region, seed))
    }

    /// Checks the bytes of the region. Returns whether it still has them.
    fn look(&self, tally: &mut [u64; 5]) -> bool {
        let Frozen(region, seed) = self;
        match region.pin(..) {
            Ok(pinned) => assert_eq!(pinned, Pinned::Intact),
            Err(RegionError::Purged) => {
                tally[4] += 1;
                let refused = region.duplicate(tombolo::Rights::ALL).map(|_| ());
                assert!(matches!(refused, Err(RegionError::Purged)), "{refused:?}");
                return false;
            }
            Err(error) => panic!("{error}"),
        }
        let bytes = region.try_read(..).unwrap();
        for (granule, seen) in bytes.chunks(GRANULE).enumerate() {
            soak::check(seen, 0, *seed, granule, Part::of(1)).unwrap();
        }
        drop(bytes);
        region.unpin(..).unwrap();
        true
    }
}

/// A region of the host program, and its expected contents.
struct Held {
    region: Region,
    seed: u64,
    parts: Vec<Part>,
}

impl Held {
    fn new(dice: &mut Dice, host: &RegionHost) -> Held {
        let granules = 1 + dice.below(24);
        let size = (granules * GRANULE) as u64;
        Held {
            region: host.create_unpinned("the program's", size).unwrap(),
            seed: dice.roll(),
            parts: vec![Part::default(); granules],
        }
    }

    fn step(&mut self, dice: &mut Dice, tally: &mut [u64; 5]) {
        let Held {
            region,
            seed,
            parts,
        } = self;
        let range = dice.range(parts.len());
        let (first, length) = (range.start * GRANULE, range.len() * GRANULE);
        let (first, length) = (first as u64, length as u64);
        let bytes = first..first + length;
        let lost = match region.pin(bytes.clone()) {
            Ok(pinned) => pinned == Pinned::Lost,
            Err(RegionError::Exhausted(_)) => {
                tally[2] += 1;
                // Pinned bytes use up the guests' budget too, so all are unpinned.
                region.unpin(..).unwrap();
                parts.iter_mut().for_each(|part| part.pinned = false);
                return;
            }
            Err(error) => panic!("{error}"),
        };
        tally[usize::from(lost)] += 1;
        for part in &mut parts[range.clone()] {
            part.doubtful |= lost && !part.pinned;
            part.pinned = true;
        }

        let seen = region.try_read(bytes.clone()).unwrap();
        for (granule, seen) in range.clone().zip(seen.chunks(GRANULE)) {
            soak::check(seen, 0, *seed, granule, parts[granule]).unwrap();
        }
        drop(seen);
        if dice.once_in(2) {
            let mut places = region.try_write(bytes.clone()).unwrap();
            for (granule, place) in range.clone().zip(places.chunks_mut(GRANULE)) {
                let part = &mut parts[granule];
                (part.version, part.doubtful) = (part.version + 1, false);
                soak::fill(place, *seed, granule, part.version);
            }
        }
        if !dice.once_in(4) {
            region.unpin(bytes).unwrap();
            parts[range].iter_mut().for_each(|part| part.pinned = false);
        }
    }
}

/// Returns a number from the environment.
fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text}: it is a number")))
}

/// Runs this test alone in a child process, which is killed if it hangs.
fn in_another_process(seconds: f64) {
    let name = "churn_leaks_nothing_and_loses_no_byte";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .envs(ALLOCATOR)
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs_f64(seconds) + PATIENCE;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() > end => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("it hangs: {seconds} seconds, and {PATIENCE:?} besides, are over");
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    assert!(status.success(), "{status}");
}

// rules 6, 7
#[test]
fn churn_leaks_nothing_and_loses_no_byte() {
    let seconds: f64 = variable("TOMBOLO_SOAK_SECONDS").unwrap_or(1.0);
    if std::env::var_os(INSIDE).is_none() {
        return in_another_process(seconds);
    }
    let seed: u64 = variable("TOMBOLO_SOAK_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.expect("it is later than 1970").as_secs()
    });
    println!("soak of {seconds} seconds with TOMBOLO_SOAK_SEED={seed}");
    let mut dice = Dice::new(seed);
    let directory = Directory::new();
    // This creates what a process has once: handlers and thread pools.
    for way in WAYS {
        round(way, dice.roll(), &directory, &mut Tally::default());
    }

    let before = Holdings::settled();
    let begin = Instant::now();
    let mut told = begin;
    let mut tally = Tally::default();
    // Each way comes equally often. On a busy machine, rare events may need more time.
    let goes_on = |tally: &Tally| {
        let elapsed = begin.elapsed();
        elapsed.as_secs_f64() < seconds || tally.lacks().is_some() && elapsed < RARE
    };
    while goes_on(&tally) {
        for way in WAYS {
            round(way, dice.roll(), &directory, &mut tally);
        }
        if told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            println!("after {} seconds: {tally:?}", begin.elapsed().as_secs());
        }
    }
    let after = Holdings::settled();
    println!("{tally:?}\nbefore: {before:?}\nafter: {after:?}");
    after.assert_as(&before);

    assert_eq!(tally.lacks(), None, "{tally:?}");
}
