use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;

use super::*;
use crate::host::Region;
use crate::limits::HostLimits;
use tombolo_test_util::child::alone;
use tombolo_test_util::proc_tree::ProcTree;

const MIB: u64 = 1 << 20;

/// A machine with a limit, which the host's regions and others use.
#[derive(Default)]
struct Machine {
    limit: u64,
    others: AtomicU64,
    swap: AtomicU64,
    /// It does not tell.
    fails: AtomicBool,
    looks: AtomicUsize,
    host: OnceLock<RegionHost>,
}

impl MemoryGauge for Machine {
    fn name(&self) -> String {
        "a machine".into()
    }

    fn headroom(&self, _: u64) -> io::Result<Headroom> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        if self.fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("it does not tell"));
        }
        let host = self.host.get().expect("it is there");
        let regions = host.regions();
        let regions: u64 = regions.iter().map(|region| region.resident()).sum();
        let used = self.others.load(Ordering::Relaxed) + regions;
        Ok(Headroom {
            memory: self.limit.saturating_sub(used),
            swap: self.swap.load(Ordering::Relaxed),
        })
    }
}

fn limits(margin: u64) -> HostLimits {
    HostLimits {
        budget: 1 << 30,
        margin,
        ..HostLimits::default()
    }
}

/// A host with a margin of 8 MiB, and its machine with 64 MiB.
fn host() -> (RegionHost, Arc<Machine>) {
    let machine = Arc::new(Machine {
        limit: 64 * MIB,
        ..Machine::default()
    });
    let host = RegionHost::with_gauge(limits(8 * MIB), machine.clone());
    assert!(machine.host.set(host.clone()).is_ok());
    (host, machine)
}

impl Machine {
    /// Others use so many bytes, from now on: what was known before is of no use.
    fn others(&self, bytes: u64) {
        self.others.store(bytes, Ordering::Relaxed);
        let host = self.host.get().expect("it is there");
        host.margin().good_until.store(0, Ordering::SeqCst);
        *host.margin().refusal() = None;
    }
}

/// A region of 1 MiB that is filled, and that nobody pins.
fn cached(host: &RegionHost) -> Region {
    let region = host.create("cached", MIB).unwrap();
    region.try_write(0..MIB).unwrap().fill(1);
    region.unpin(..).unwrap();
    region
}

/// Without pinning it, which may purge others.
fn is_intact(region: &Region) -> bool {
    region.usage().purged == 0
}

fn promise(host: &RegionHost) -> Promise {
    Promise::new(host, Arc::default())
}

// rule 8
#[test]
fn growth_purges_what_it_needs_oldest_first() {
    let (host, _machine) = host();
    let cache: Vec<Region> = (0..20).map(|_| cached(&host)).collect();
    let promise = promise(&host);
    // 64, of which 20 are used and 8 kept.
    promise.grow(36 * MIB).unwrap();
    assert_eq!(host.budget().purged, 0);
    promise.grow(3 * MIB).unwrap();
    assert_eq!(host.budget().purged, 3 * MIB);
    let intact: Vec<bool> = cache.iter().map(is_intact).collect();
    let expected: Vec<bool> = (0..20).map(|index| index >= 3).collect();
    assert_eq!(intact, expected);
}

// rule 8
#[test]
fn hopeless_growth_is_refused_and_purges_nothing() {
    let (host, _machine) = host();
    let _cache: Vec<Region> = (0..20).map(|_| cached(&host)).collect();
    let promise = promise(&host);
    // Half of the margin may be used: 60 with all of the cache.
    let short = promise.grow(61 * MIB).unwrap_err();
    let expected = ShortOfMemory {
        asked: 61 * MIB,
        left: 60 * MIB,
        margin: 8 * MIB,
    };
    assert_eq!(short, expected);
    assert_eq!(host.budget().purged, 0);
    promise.grow(60 * MIB).unwrap();
    assert_eq!(host.budget().purged, 20 * MIB);
    assert!(promise.grow(1).is_err());
    // Bytes that were promised to a guest that has ended are free.
    drop(promise);
    super::Promise::new(&host, Arc::default())
        .grow(60 * MIB)
        .unwrap();
}

// rules 8, 10
#[test]
fn commit_without_memory_names_the_margin() {
    let (host, _machine) = host();
    let promise = promise(&host);
    promise.grow(50 * MIB).unwrap();
    let error = host.create("large", 11 * MIB).unwrap_err().to_string();
    assert!(error.starts_with("limit `margin` of the host"), "{error}");
    assert!(
        error.contains("11534336 more asked for, 10485760"),
        "{error}"
    );
    // Committed bytes count, touched or not.
    let region = host.create("small", 6 * MIB).unwrap();
    assert!(promise.grow(5 * MIB).is_err());
    drop(region);
    promise.grow(5 * MIB).unwrap();
    // Nothing is committed for what is not pinned.
    let unpinned = host.create_unpinned("unpinned", 11 * MIB).unwrap();
    assert!(unpinned.pin(..).is_err());
}

// rule 8
#[test]
fn commit_purges_for_itself() {
    let (host, machine) = host();
    let cache: Vec<Region> = (0..20).map(|_| cached(&host)).collect();
    machine.others(30 * MIB);
    let region = host.create("large", 10 * MIB).unwrap();
    assert_eq!(host.budget().purged, 4 * MIB);
    assert!(!is_intact(&cache[3]) && is_intact(&cache[4]));
    drop(region);
}

// rule 8
#[test]
fn swap_is_used_after_purgeable_bytes() {
    let (host, machine) = host();
    let _cache: Vec<Region> = (0..20).map(|_| cached(&host)).collect();
    machine.swap.store(100 * MIB, Ordering::Relaxed);
    let promise = promise(&host);
    promise.grow(140 * MIB).unwrap();
    assert_eq!(host.budget().purged, 20 * MIB);
    assert!(promise.grow(21 * MIB).is_err());
    promise.grow(20 * MIB).unwrap();
}

// rule 8
#[test]
fn failing_gauge_refuses_nothing() {
    let (host, machine) = host();
    machine.fails.store(true, Ordering::Relaxed);
    promise(&host).grow(1 << 40).unwrap();
    let tick = host.margin().tick(&host, 0);
    assert_eq!((tick.left, tick.short), (None, false));
}

#[test]
fn empty_margin_never_looks() {
    let machine = Arc::new(Machine::default());
    let host = RegionHost::with_gauge(limits(0), machine.clone());
    promise(&host).grow(1 << 40).unwrap();
    host.may_grow(1 << 40).unwrap();
    drop(host.create("any", MIB).unwrap());
    drop(host.keep_margin(|_| {}).unwrap());
    assert_eq!(machine.looks.load(Ordering::Relaxed), 0);
}

#[test]
fn most_growths_far_from_the_limit_take_no_look() {
    let (host, machine) = host();
    let promise = promise(&host);
    for _ in 0..1000 {
        promise.grow(1).unwrap();
    }
    assert!(machine.looks.load(Ordering::Relaxed) < 500);
}

#[test]
fn most_refusals_take_no_look() {
    let (host, machine) = host();
    let _cache: Vec<Region> = (0..20).map(|_| cached(&host)).collect();
    let promise = promise(&host);
    machine.looks.store(0, Ordering::Relaxed);
    for more in 0..1000 {
        let short = promise.grow(61 * MIB + more).unwrap_err();
        assert_eq!((short.asked, short.left), (61 * MIB + more, 60 * MIB));
        assert!(host.may_grow(60 * MIB + 1).is_err());
        assert!(host.create("large", 61 * MIB).is_err());
    }
    assert!(machine.looks.load(Ordering::Relaxed) < 1500);
    // A request that fits is not refused.
    promise.grow(60 * MIB).unwrap();
}

// rule 8
#[test]
fn embedders_growth_counts_while_asked_for() {
    let (host, machine) = host();
    let _cache: Vec<Region> = (0..20).map(|_| cached(&host)).collect();
    host.may_grow(40 * MIB).unwrap();
    assert_eq!(host.budget().purged, 4 * MIB);
    assert!(host.may_grow(61 * MIB).is_err());
    // The embedder's guest has touched it.
    machine.others(40 * MIB);
    host.may_grow(20 * MIB).unwrap();
    assert!(host.may_grow(21 * MIB).is_err());
}

// rule 8
#[test]
fn tick_purges_what_the_margin_lacks() {
    let (host, machine) = host();
    let _cache: Vec<Region> = (0..20).map(|_| cached(&host)).collect();
    let tick = |others: u64| {
        machine.others(others * MIB);
        let tick = host.margin().tick(&host, 0);
        (tick.met, host.budget().purged / MIB, tick.short)
    };
    assert_eq!(tick(36), (Level::Normal, 0, false));
    assert_eq!(tick(41), (Level::Moderate, 5, false));
    assert_eq!(tick(41), (Level::Normal, 5, false));
    assert_eq!(tick(60), (Level::Moderate, 20, false));
    assert_eq!(tick(61), (Level::Critical, 20, true));
    machine.swap.store(MIB, Ordering::Relaxed);
    assert_eq!(tick(61), (Level::Moderate, 20, false));
}

// rule 8
#[test]
fn next_tick_reports_a_refused_growth() {
    let (host, _machine) = host();
    let promise = promise(&host);
    promise.grow(60 * MIB).unwrap();
    assert!(promise.grow(MIB).is_err());
    assert_eq!(host.margin().tick(&host, 0).met, Level::Critical);
    // Nobody is short of memory because somebody asks for a lot of it.
    assert!(promise.grow(1 << 40).is_err());
    assert_eq!(host.margin().tick(&host, 0).met, Level::Normal);
    // Such requests do not hide that small ones are refused.
    assert!(promise.grow(MIB).is_err());
    assert_eq!(host.margin().tick(&host, 0).met, Level::Critical);
}

/// Puts a figure into a file in one step: somebody may look at any moment.
fn put(tree: &ProcTree, file: &str, text: &str) {
    tree.write("new", text);
    std::fs::create_dir_all(tree.path(file).parent().unwrap()).unwrap();
    std::fs::rename(tree.path("new"), tree.path(file)).unwrap();
}

/// From the files of a cgroup to what guests are told, by the thread.
fn kept_in(tree: &ProcTree, usage: &str, limit: &str) {
    tree.write("proc/meminfo", "MemAvailable: 1048576 kB\nSwapFree: 0 kB\n");
    put(tree, usage, "0");
    put(tree, limit, &(64 * MIB).to_string());
    let gauge = SystemGauge::find(&tree.proc());
    let host = RegionHost::with_gauge(limits(8 * MIB), Arc::new(gauge));
    let cache: Vec<Region> = (0..4).map(|_| cached(&host)).collect();
    let (short, shorts) = mpsc::sync_channel(1);
    let keeper = host.keep_margin(move |left| {
        let _ = short.try_send(left);
    });
    let keeper = keeper.unwrap();
    let until = |is_so: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(60), "never");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    // 6 of 8 are left: what lacks is purged at each look, since the file does not change.
    put(tree, usage, &(58 * MIB).to_string());
    until(&|| !cache.iter().any(is_intact));
    assert_eq!(host.budget().purged, 4 * MIB);
    until(&|| host.pressure() == Level::Moderate);
    assert!(shorts.try_recv().is_err(), "half of the margin is there");

    put(tree, usage, &(61 * MIB).to_string());
    let left = shorts.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(left.memory, 3 * MIB);
    until(&|| host.pressure() == Level::Critical);
    assert!(host.may_grow(1).is_err());

    put(tree, usage, "0");
    until(&|| host.pressure() == Level::Normal);
    host.may_grow(MIB).unwrap();
    put(tree, usage, &(58 * MIB).to_string());
    until(&|| host.pressure() == Level::Moderate);
    drop(keeper);
    assert_eq!(host.pressure(), Level::Normal);
}

#[test]
fn margin_is_kept_in_a_cgroup_v2() {
    let (usage, limit) = ("memory.current", "memory.max");
    let at = |file| format!("sys/fs/cgroup/app/{file}");
    kept_in(&ProcTree::unified(), &at(usage), &at(limit));
    kept_in(&ProcTree::unified(), &at(usage), &at("memory.high"));
}

#[test]
fn margin_is_kept_in_a_cgroup_v1() {
    let mounts = [("/", "sys/fs/cgroup", "cgroup", "rw,memory")];
    let tree = ProcTree::new("4:memory:/app\n", &mounts);
    let at = |file| format!("sys/fs/cgroup/app/{file}");
    kept_in(
        &tree,
        &at("memory.usage_in_bytes"),
        &at("memory.limit_in_bytes"),
    );
}

// rule 8
#[test]
fn reported_level_and_margins_level_coexist() {
    let host = RegionHost::new();
    host.set_level(|levels| levels.margin = Level::Moderate);
    host.report_pressure(Level::Critical);
    assert_eq!(host.pressure(), Level::Critical);
    host.report_pressure(Level::Normal);
    assert_eq!(host.pressure(), Level::Moderate);
    host.set_level(|levels| levels.margin = Level::Normal);
    assert_eq!(host.pressure(), Level::Normal);
}

/// Returns a host with a kept file of 1 MiB. In a process of its own, because other tests may
/// fork.
fn with_ended_region() -> (RegionHost, Arc<Machine>) {
    let (host, machine) = host();
    let ended = host.create("ended", MIB).unwrap();
    ended.try_write(..).unwrap().fill(1);
    drop(ended);
    assert_eq!(host.budget().spare, MIB);
    (host, machine)
}

// rule 8
#[test]
fn growth_gives_up_ended_regions_first() {
    alone(
        "host::margin::tests::growth_gives_up_ended_regions_first",
        || {
            let (host, machine) = with_ended_region();
            let cached = cached(&host);
            // The gauge does not see the file: it says what is left without it, and no less.
            machine.others(55 * MIB + 1);
            assert!(host.may_grow(1).is_ok());
            assert_eq!(host.budget().spare, 0);
            drop(cached);
        },
    );
}

// rule 8
#[test]
fn ended_region_is_used_again_below_the_margin() {
    alone(
        "host::margin::tests::ended_region_is_used_again_below_the_margin",
        || {
            let (host, machine) = with_ended_region();
            machine.others(61 * MIB);
            assert!(host.create("other", MIB / 2).is_err());
            assert_eq!(host.budget().spare, MIB, "it would not help");
            machine.others(61 * MIB);
            let next = host.create("next", MIB).unwrap();
            assert_eq!(host.counts().regions_recycled, 1);
            drop(next);
        },
    );
}

// rule 8
#[test]
fn idle_pool_counts_once() {
    alone("host::margin::tests::idle_pool_counts_once", || {
        let (host, machine) = host();
        let pool = host.pool("body", 16 * MIB, 1).unwrap();
        pool.warm().unwrap();
        // The gauge does not see the pool: these are 40 and 16.
        machine.others(56 * MIB);
        assert_eq!(host.may_grow(4 * MIB), Ok(()));
        assert!(host.may_grow(5 * MIB).is_err());
        let region = pool.try_take().unwrap();
        machine.others(40 * MIB);
        assert_eq!(host.may_grow(4 * MIB), Ok(()));
        drop(region);
    });
}

// rule 8
#[test]
fn tick_gives_up_ended_regions_first() {
    alone(
        "host::margin::tests::tick_gives_up_ended_regions_first",
        || {
            let (host, machine) = with_ended_region();
            machine.others(60 * MIB);
            let _ = host.margin().tick(&host, 0);
            assert_eq!(host.budget().spare, 0);
        },
    );
}

// rule 8
#[test]
fn refused_request_refuses_no_other_one() {
    let (host, machine) = host();
    let promise = |host: &RegionHost| Promise::new(host, Arc::default());
    let refused = std::thread::scope(|scope| {
        let (ended, huge) = (Arc::new(AtomicBool::new(false)), promise(&host));
        let insisting = scope.spawn({
            let ended = ended.clone();
            move || {
                let mut granted = 0;
                while !ended.load(Ordering::SeqCst) {
                    granted += u64::from(huge.grow(1 << 40).is_ok());
                }
                granted
            }
        });
        let small = promise(&host);
        let refused = (0..2000).find(|_| {
            // Neither an allowance nor a refusal is known.
            machine.others(0);
            small.grow(4096).is_err()
                || host.may_grow(4096).is_err()
                || host.create("small", 65_536).is_err()
        });
        ended.store(true, Ordering::SeqCst);
        assert_eq!(insisting.join().unwrap(), 0);
        refused
    });
    assert_eq!(refused, None, "a small request was refused");
}
