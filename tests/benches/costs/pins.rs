//! Pin, unpin and purge, by a guest through the interface `pins` and by the host program.
//!
//! The times of a guest are measured from outside: the host program calls an export, which
//! calls the host. The first row is the time of an export that does nothing.

use tombolo::{HostLimits, RegionHost};
use tombolo_test_util::puppet::{Pinned, Puppet, WRITE};

use crate::measure::{Plan, SIZES, Times};
use crate::table::Table;

/// Creates a host with a budget of `bytes`.
pub fn host(bytes: u64) -> RegionHost {
    let mut limits = HostLimits::default();
    limits.budget = bytes;
    RegionHost::with_limits(limits)
}

pub fn run(plan: &Plan) -> Vec<Table> {
    let mut guests = Table::by_size("by a guest", &SIZES);
    let mut hosts = Table::by_size("by the host program", &SIZES);
    for size in SIZES {
        guest(plan, size, &mut guests);
        host_program(plan, size, &mut hosts);
    }
    vec![guests, hosts]
}

fn guest(plan: &Plan, size: u64, table: &mut Table) {
    let host = host(2 * size);
    let mut guest = Puppet::new(&host, "guest");
    let region = guest.create("mapped", size).unwrap().unwrap();
    let plain = guest.create("plain", size).unwrap().unwrap();
    let granules = u32::try_from(size / tombolo::GRANULE).unwrap();
    let (_, at) = guest.mapped(region, granules, WRITE);
    let length = u32::try_from(size).unwrap();

    let mut times: [Times; 9] = Default::default();
    for _ in 0..plan.repeats(size) {
        let [
            call,
            plain_unpin,
            plain_pin,
            unpin,
            pin,
            first,
            again,
            purge,
            lost,
        ] = &mut times;
        call.time(|| guest.pages().unwrap());

        plain_unpin
            .time(|| guest.unpin(plain, 0, 0).unwrap())
            .unwrap();
        let pinned = plain_pin.time(|| guest.pin(plain, 0, 0).unwrap());
        assert_eq!(pinned, Ok(Pinned::Intact));

        // Every page is there, and in the window's page table.
        guest.fill(at, length, 1).unwrap();
        unpin.time(|| guest.unpin(region, 0, 0).unwrap()).unwrap();
        let pinned = pin.time(|| guest.pin(region, 0, 0).unwrap());
        assert_eq!(pinned, Ok(Pinned::Intact));
        let sum = first.time(|| guest.sum(at, length).unwrap());
        assert_eq!(sum, again.time(|| guest.sum(at, length).unwrap()));

        guest.unpin(region, 0, 0).unwrap().unwrap();
        assert_eq!(purge.time(|| host.purge(size)), size);
        let pinned = lost.time(|| guest.pin(region, 0, 0).unwrap());
        assert_eq!(pinned, Ok(Pinned::Lost));
    }
    table.column(
        [
            "an empty call into the guest",
            "unpin, no window",
            "pin, no window",
            "unpin under a window, every page touched",
            "pin under a window",
            "then read all of it",
            "read it again",
            "purge, every page touched",
            "pin purged bytes under a window",
        ],
        times,
    );
}

fn host_program(plan: &Plan, size: u64, table: &mut Table) {
    let host = host(size);
    let region = host.create("the program's", size).unwrap();
    let mut times: [Times; 4] = Default::default();
    for _ in 0..plan.repeats(size) {
        let [unpin, pin, purge, purge_untouched] = &mut times;
        region.try_write(0..size).unwrap().fill(1);
        unpin.time(|| region.unpin(..)).unwrap();
        let pinned = pin.time(|| region.pin(..)).unwrap();
        assert_eq!(pinned, tombolo::Pinned::Intact);

        region.unpin(..).unwrap();
        assert_eq!(purge.time(|| host.purge(size)), size);
        assert_eq!(region.usage().resident, 0, "the kernel has it back");

        region.pin(..).unwrap();
        region.unpin(..).unwrap();
        assert_eq!(purge_untouched.time(|| host.purge(size)), size);
        region.pin(..).unwrap();
    }
    table.column(
        [
            "unpin",
            "pin",
            "purge, every page touched",
            "purge, no page touched",
        ],
        times,
    );
}
