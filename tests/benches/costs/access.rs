//! Reading and writing in a window, in a guest's own memory, and natively.

use std::hint::black_box;

use crate::guests::Guests;
use crate::measure::Plan;
use crate::ratio::{Goal, Ratio};
use crate::table::Table;
use tombolo_test_guests::kernels;

/// Bytes that fit into the processor's caches.
const CACHED: usize = 1 << 20;

/// A size within the caches, and one beyond them.
const SIZES: [u64; 2] = [CACHED as u64, 64 << 20];

pub fn run(plan: &Plan) -> (Vec<Table>, Vec<Ratio>) {
    let guests = Guests::read();
    let mut table = Table::by_size("access", &SIZES);
    for _ in 0..plan.rounds() {
        guests.add(plan, "access", &SIZES, &mut [("access", &mut table)]);
        for (column, bytes) in SIZES.into_iter().enumerate() {
            let places = match bytes {
                _ if plan.quick => 1,
                bytes if bytes <= CACHED as u64 => 16,
                _ => 3,
            };
            let mut held = Vec::new();
            for _ in 0..places {
                held.push(natively(plan, bytes, column, &mut table));
            }
        }
    }
    let found = ratios(&table);
    (vec![table], found)
}

/// Measures natively what the guest does. Returns the memory, so that the next call uses
/// other memory, as the guest does.
fn natively(plan: &Plan, bytes: u64, column: usize, table: &mut Table) -> [Vec<u8>; 2] {
    let bytes = usize::try_from(bytes).expect("it is in memory");
    let (mut one, mut other) = (vec![2; bytes], vec![1; bytes]);
    let (repeats, times) = match bytes {
        _ if plan.quick => (2, 1),
        ..=CACHED => (5, 10),
        _ => (6, 1),
    };
    let mut time = |row: &str, act: &mut dyn FnMut()| {
        if bytes <= CACHED {
            act(); // The guest warms up in the same way.
        }
        table.cell(row, column).times(times, || {
            for _ in 0..times {
                act();
            }
        });
    };
    for _ in 0..repeats {
        time("fill: native", &mut || kernels::fill(&mut one, 1));
        time("sum: native", &mut || {
            black_box(kernels::sum(&one));
        });
        time("copy in: native", &mut || {
            one.copy_from_slice(&other);
        });
        time("copy out: native", &mut || {
            other.copy_from_slice(&one);
        });
        time("10,000 scattered reads: native", &mut || {
            black_box(kernels::scatter(&one, 10_000));
        });
    }
    [one, other]
}

fn ratios(table: &Table) -> Vec<Ratio> {
    let by = |what, above: &str, below: &str, column, most| {
        let (above, below) = (table.median(above, column), table.median(below, column));
        Ratio::of(what, above, below, Goal::AtMost(most))
    };
    let to_own = |what, act: &str, column| {
        let (window, own) = (format!("{act}: window"), format!("{act}: own memory"));
        by(what, &window, &own, column, 1.03)
    };
    let ratios = [
        to_own("fill 1 MiB: window / own memory", "fill", 0),
        to_own("fill 64 MiB: window / own memory", "fill", 1),
        to_own("sum 1 MiB: window / own memory", "sum", 0),
        to_own("sum 64 MiB: window / own memory", "sum", 1),
        to_own("copy in 1 MiB: window / own memory", "copy in", 0),
        to_own("copy out 1 MiB: window / own memory", "copy out", 0),
        to_own(
            "scattered reads of 64 MiB: window / own memory",
            "10,000 scattered reads",
            1,
        ),
        by(
            "fill 1 MiB with simd128: window / native",
            "fill, simd128: window",
            "fill: native",
            0,
            1.3,
        ),
        by(
            "sum 1 MiB with simd128: window / native",
            "sum, simd128: window",
            "sum: native",
            0,
            1.3,
        ),
        by(
            "fill 64 MiB with simd128: window / native",
            "fill, simd128: window",
            "fill: native",
            1,
            1.3,
        ),
        by(
            "sum 64 MiB with simd128: window / native",
            "sum, simd128: window",
            "sum: native",
            1,
            1.3,
        ),
    ];
    ratios.into_iter().flatten().collect()
}
