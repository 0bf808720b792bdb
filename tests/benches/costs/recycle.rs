//! Regions with new memory, and regions with that of ended ones.

use tombolo::{HostLimits, RegionHost};
use tombolo_test_util::puppet::{Puppet, WRITE};

use crate::measure::{Plan, Times};
use crate::table::Table;

const SIZES: [u64; 4] = [64 << 10, 1 << 20, 10 << 20, 64 << 20];

/// A page of the kernel's.
const PAGE: usize = 4096;

/// Creates a host that keeps so many bytes of ended regions.
fn host(spare: u64) -> RegionHost {
    let mut limits = HostLimits::default();
    limits.spare = spare;
    RegionHost::with_limits(limits)
}

pub fn run(plan: &Plan) -> Vec<Table> {
    let mut hosts = Table::by_size("new and recycled regions, by the host program", &SIZES);
    let mut guests = Table::by_size("new and recycled regions, by a guest", &SIZES);
    for size in SIZES {
        host_program(plan, size, &mut hosts);
        guest(plan, size, &mut guests);
    }
    vec![hosts, guests]
}

fn host_program(plan: &Plan, size: u64, table: &mut Table) {
    let hosts = [host(0), host(2 * size)];
    let pool = hosts[1].pool("pooled", size, 1).unwrap();
    let mut times: [Times; 7] = Default::default();
    for _ in 0..plan.repeats(size) {
        let (untouched, touched) = times.split_at_mut(3);
        for (host, times) in hosts.iter().zip(&mut *untouched) {
            drop(host.create("any", size).unwrap());
            times.time(|| drop(host.create("any", size).unwrap()));
        }
        untouched[2].time(|| drop(pool.try_take().unwrap()));
        for (host, times) in hosts.iter().zip(touched.chunks_mut(2)) {
            let write = || {
                let region = host.create("any", size).unwrap();
                let mut bytes = region.try_write(..).unwrap();
                bytes.chunks_mut(PAGE).for_each(|page| page[0] = 1);
                drop(bytes);
                region
            };
            // So that its page tables are kept.
            drop(write());
            let region = times[0].time(write);
            times[1].time(|| drop(region));
        }
    }
    table.column(
        [
            "new: create and drop",
            "recycled: create and drop",
            "pooled: take and drop",
            "new: create, write to each page",
            "new: drop",
            "recycled: create, write to each page",
            "recycled: drop",
        ],
        times,
    );
}

fn guest(plan: &Plan, size: u64, table: &mut Table) {
    let hosts = [host(0), host(2 * size)];
    let length = u32::try_from(size).unwrap();
    let granules = length / (64 << 10);
    let mut guests = hosts.each_ref().map(|host| Puppet::new(host, "guest"));
    let at = guests.each_mut().map(|it| it.allocate(granules).unwrap());
    let mut times: [Times; 4] = Default::default();
    for _ in 0..plan.repeats(size) {
        for (index, times) in times.chunks_mut(2).enumerate() {
            let (guest, at) = (&mut guests[index], at[index]);
            let region = guest.create("any", size).unwrap().unwrap();
            let window = guest.map(region, 0, size, WRITE, at).unwrap().unwrap();
            guest.fill(at, length, 1).unwrap();
            guest.drop_window(window).unwrap();
            guest.drop_handle(region).unwrap();
            let (region, window) = times[0].time(|| {
                let region = guest.create("any", size).unwrap().unwrap();
                let window = guest.map(region, 0, size, WRITE, at).unwrap().unwrap();
                guest.fill(at, length, 1).unwrap();
                (region, window)
            });
            times[1].time(|| {
                guest.drop_window(window).unwrap();
                guest.drop_handle(region).unwrap();
            });
        }
    }
    table.column(
        [
            "new: create, map, fill",
            "new: unmap, drop",
            "recycled: create, map, fill",
            "recycled: unmap, drop",
        ],
        times,
    );
}
