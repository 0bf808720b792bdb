//! From a report of memory pressure to free memory.
//!
//! The benchmark's own source reports pressure, as the kernel's source would on its thread.
//! When the report returns, unpinned bytes are purged. After each repeat, the sizes of the
//! files show that the kernel has the pages.

use std::io;
use std::sync::{Arc, Mutex};

use tombolo::pressure::{Level, MemoryGauge, PressureSink, PressureSource, SystemGauge};
use tombolo::{GRANULE, Region, RegionHost};

use crate::measure::{Plan, SIZES, Times};
use crate::pins::host;
use crate::table::Table;

/// The size of each of several regions.
const PART: u64 = 1 << 20;

/// A source that the benchmark controls.
#[derive(Clone, Default)]
struct Own(Arc<Mutex<Option<PressureSink>>>);

impl PressureSource for Own {
    fn name(&self) -> String {
        "the benchmark".into()
    }

    fn start(self: Box<Self>, sink: PressureSink) -> io::Result<Box<dyn Send>> {
        *self.0.lock().unwrap() = Some(sink);
        Ok(self)
    }
}

pub fn run(plan: &Plan) -> Vec<Table> {
    let mut table = Table::by_size("from report to free memory", &SIZES);
    for size in SIZES {
        let mut times: [Times; 4] = Default::default();
        let [nothing, half, all, parts] = &mut times;
        report(plan, size, 0, Level::Critical, nothing);
        // A granule has no half.
        if size > GRANULE {
            report(plan, size, size, Level::Moderate, half);
        }
        report(plan, size, size, Level::Critical, all);
        if size > PART {
            report(plan, size, PART, Level::Critical, parts);
        }
        table.column(
            [
                "critical, everything pinned",
                "moderate, half of one region purged",
                "critical, one region purged",
                "critical, everything purged, in regions of 1 MiB",
            ],
            times,
        );
    }
    vec![table, margin(plan)]
}

/// Measures the cost of the margin while there is enough memory.
fn margin(plan: &Plan) -> Table {
    const GROWTHS: u32 = 1000;
    let mut table = Table::new("step", ["median (9 of 10)".to_owned()]);
    let mut times: [Times; 3] = Default::default();
    let [growth, look, exact] = &mut times;
    let (host, gauge) = (RegionHost::new(), SystemGauge::of_this_process());
    for _ in 0..plan.rounds() {
        growth.times(GROWTHS, || {
            for _ in 0..GROWTHS {
                host.may_grow(1).unwrap();
            }
        });
        look.time(|| gauge.headroom(0).unwrap());
        exact.time(|| gauge.headroom(u64::MAX).unwrap());
    }
    let rows = [
        "check one growth of 1000 in a row",
        "read cgroups and machine",
        "the same, and the reclaimable page cache",
    ];
    table.column(rows, times);
    table
}

/// Measures a report while `size` bytes are unpinned, in regions of `part` bytes. If `part`
/// is 0, they are in one pinned region.
fn report(plan: &Plan, size: u64, part: u64, level: Level, times: &mut Times) {
    let (host, own) = (host(size), Own::default());
    let _monitor = host.watch_pressure(own.clone(), |_, _| {}).unwrap();
    let sink = own.0.lock().unwrap().clone().unwrap();
    let each = if part == 0 { size } else { part };
    let regions: Vec<Region> = (0..size / each)
        .map(|_| host.create("cached", each).unwrap())
        .collect();
    for _ in 0..plan.repeats(size) {
        for region in &regions {
            region.pin(..).unwrap();
            region.try_write(0..each).unwrap().fill(1);
            if part > 0 {
                region.unpin(..).unwrap();
            }
        }
        times.time(|| sink.report(level));
        let left = match level {
            _ if part == 0 => size,
            Level::Moderate => size / 2,
            _ => 0,
        };
        assert_eq!(resident(&host, &regions), left);
        sink.report(Level::Normal);
    }
}

/// Returns the bytes that the kernel has allocated, after comparing them with the budget.
fn resident(host: &RegionHost, regions: &[Region]) -> u64 {
    let resident = regions.iter().map(|region| region.usage().resident).sum();
    assert_eq!(host.budget().committed, resident);
    resident
}
