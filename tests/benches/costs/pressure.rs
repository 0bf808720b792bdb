//! From a report of memory pressure to free memory.
//!
//! A source of the benchmark's own reports, as the kernel's would on its thread.
//! When that returns, what nobody pins has been purged; that the kernel has the
//! pages back is looked at after each repeat, by what it says of the files.

use std::io;
use std::sync::{Arc, Mutex};

use tombolo::pressure::{Level, MemoryGauge, PressureSink, PressureSource, SystemGauge};
use tombolo::{GRANULE, Region, RegionHost};

use crate::measure::{Plan, SIZES, Times};
use crate::pins::host;
use crate::table::Table;

/// The size of each of several regions.
const PART: u64 = 1 << 20;

/// A source for which the benchmark speaks.
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
    let mut table = Table::by_size("a report until memory is free: median (9 of 10)", &SIZES);
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
                "critical, all of it is pinned",
                "moderate, half of one region goes",
                "critical, all of one region goes",
                "critical, all goes, in regions of 1 MiB",
            ],
            times,
        );
    }
    vec![table, margin(plan)]
}

/// What it costs to keep a margin, where there is enough memory.
fn margin(plan: &Plan) -> Table {
    const GROWTHS: u32 = 1000;
    let mut table = Table::new("what is left of memory", ["median (9 of 10)".to_owned()]);
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
        "a growth is asked for, of 1000 one after the other",
        "a look at the cgroups and the machine",
        "the same, with what of page cache is free",
    ];
    table.column(rows, times);
    table
}

/// Reports pressure where so many bytes are in regions of `part` bytes, or, if
/// that is 0, in one region that is pinned.
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

/// What the kernel has allocated, which is what the host thinks that it has.
fn resident(host: &RegionHost, regions: &[Region]) -> u64 {
    let resident = regions.iter().map(|region| region.usage().resident).sum();
    assert_eq!(host.budget().committed, resident);
    resident
}
