//! Handing over a buffer, by Tombolo and by each alternative.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::composed::Composed;
use crate::guests::Guests;
use crate::machine;
use crate::measure::Plan;
use crate::native::{self, Peer, Use};
use crate::ratio::{Goal, Ratio};
use crate::table::Table;
use tombolo_test_guests::kernels;

const MIB: u64 = 1 << 20;
const SIZES: [u64; 6] = [4 << 10, 64 << 10, MIB, 10 * MIB, 100 * MIB, 1024 * MIB];

/// The title of the table without filling and reading.
pub const ALONE: &str = "hand-over alone";

/// The rows that ratios compare.
const ACROSS: &str = "lend across strands, windows kept";
const WAKE: &str = "native thread wake-up";
const LIST: &str = "`list<u8>` in a call";
const KEPT: &str = "lend, windows kept";
const ANEW: &str = "lend and remap, every page touched";
const MOVED: &str = "move there and back";
const OWN: &str = "own memory, not handed over";

/// The environment variable with the path of `tests/compare`, which measures other libraries.
const OTHERS: &str = "TOMBOLO_COMPARE";

/// Measures other libraries, and adds their rows. The largest size would take too much memory,
/// because they have several buffers of it.
fn others(program: &OsStr, plan: &Plan, bytes: u64, column: usize, tables: [&mut Table; 2]) {
    if bytes > 100 * MIB {
        return;
    }
    let repeats = if plan.quick { "2" } else { "10" };
    let output = Command::new(program)
        .args([&bytes.to_string(), repeats])
        .stderr(Stdio::inherit())
        .output();
    let output = output.expect("`cargo xtask bench compare` built it");
    assert!(output.status.success(), "{}", output.status);
    let [alone, whole] = tables;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut parts = line.split('\t');
        let table = match parts.next() {
            Some("alone") => &mut *alone,
            _ => &mut *whole,
        };
        let row = parts.next().expect("a line has a name");
        let times = parts.map(|time| time.parse().expect("it is a number"));
        table.cell(row, column).extend(times);
    }
}

pub fn run(plan: &Plan) -> (Vec<Table>, Vec<Ratio>) {
    let guests = Guests::read();
    let sizes = &SIZES[..if plan.quick { 4 } else { SIZES.len() }];
    let mut alone = Table::by_size(ALONE, sizes);
    let mut whole = Table::by_size("fill, hand over, read", sizes);
    for _ in 0..plan.rounds() {
        let tables = &mut [("alone", &mut alone), ("whole", &mut whole)];
        guests.add(plan, "handover", sizes, tables);
        guests.add(plan, "across", sizes, tables);
        for _ in 0..if plan.quick { 2 } else { 20 } {
            native::wake_up(50, alone.cell(WAKE, 0));
        }
        let mut composed = Composed::new();
        if let Some(program) = std::env::var_os(OTHERS) {
            for (column, bytes) in sizes.iter().enumerate() {
                others(&program, plan, *bytes, column, [&mut alone, &mut whole]);
            }
        }
        for (column, bytes) in sizes.iter().enumerate() {
            let mut peer = Peer::new(*bytes);
            kernels::fill(&mut peer.memory, 1);
            peer.tell(Use::Touch);
            composed.pass(*bytes, true);
            let repeats = if *bytes > 10 * MIB { 2 } else { 10 };
            for _ in 0..repeats {
                alone
                    .cell("`list<u8>` in one composed component", column)
                    .time(|| composed.pass(*bytes, false));
                alone
                    .cell("two processes, descriptor passed and mapped", column)
                    .time(|| peer.hand(Use::Not));
                alone
                    .cell("two processes, passed, every page touched", column)
                    .time(|| peer.hand(Use::Touch));
                alone
                    .cell("two processes, mappings kept", column)
                    .time(|| peer.tell(Use::Not));
                whole
                    .cell("`list<u8>` in one composed component", column)
                    .time(|| composed.pass(*bytes, true));
                whole
                    .cell("two processes, descriptor passed and mapped", column)
                    .time(|| {
                        kernels::fill(&mut peer.memory, 2);
                        peer.hand(Use::Sum);
                    });
                whole.cell("two processes, mappings kept", column).time(|| {
                    kernels::fill(&mut peer.memory, 2);
                    peer.tell(Use::Sum);
                });
            }
        }
    }
    let ten = sizes.iter().position(|size| *size == 10 * MIB).unwrap_or(0);
    let last = sizes.len() - 1;
    let across = alone.median(ACROSS, 0).zip(alone.median(KEPT, 0));
    let ratios = [
        Ratio::time(
            "lend, windows kept: the largest",
            alone.median(KEPT, last),
            1000.0,
        ),
        Ratio::of(
            "`list<u8>` / lend with windows kept, 10 MiB",
            alone.median(LIST, ten),
            alone.median(KEPT, ten),
            Goal::AtLeast(1000.0),
        ),
        Ratio::of(
            "`list<u8>` / lend and remap, faults included, 10 MiB",
            alone.median(LIST, ten),
            alone.median(ANEW, ten),
            Goal::AtLeast(if machine::has_huge_pages() {
                30.0
            } else {
                15.0
            }),
        ),
        Ratio::of(
            "fill, move, sum, move back / fill and sum of own memory, 10 MiB",
            whole.median(MOVED, ten),
            whole.median(OWN, ten),
            Goal::AtMost(1.5),
        ),
        Ratio::of(
            "lend, windows kept: 1 GiB / 4 KiB",
            alone.median(KEPT, last),
            alone.median(KEPT, 0),
            Goal::AtMost(1.2),
        ),
        Ratio::time(
            "lend across strands, windows kept, 4 KiB, less one within a strand",
            across.map(|(across, within)| across - within),
            300.0,
        ),
    ];
    (vec![alone, whole], ratios.into_iter().flatten().collect())
}
