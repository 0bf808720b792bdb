//! Reading and writing: in a window, in a guest's own memory, and natively.

use std::hint::black_box;

use crate::guests::Guests;
use crate::kernels;
use crate::measure::Plan;
use crate::ratio::{Goal, Ratio};
use crate::table::Table;

const BYTES: usize = 10 << 20;

pub fn run(plan: &Plan) -> (Vec<Table>, Vec<Ratio>) {
    let guests = Guests::read();
    let sizes = [BYTES as u64];
    let mut table = Table::by_size("access", &sizes);
    let (mut one, mut other) = (vec![0; BYTES], vec![1; BYTES]);
    for _ in 0..plan.rounds() {
        guests.add(plan, "access", &sizes, &mut [("access", &mut table)]);
        for _ in 0..if plan.quick { 2 } else { 12 } {
            let mut time = |row: &str, act: &mut dyn FnMut()| table.cell(row, 0).time(act);
            time("fill: natively", &mut || kernels::fill(&mut one, 1));
            time("sum: natively", &mut || {
                black_box(kernels::sum(&one));
            });
            time("copy in: natively", &mut || one.copy_from_slice(&other));
            time("copy out: natively", &mut || other.copy_from_slice(&one));
            time("100,000 scattered reads: natively", &mut || {
                black_box(kernels::scatter(&one, 100_000));
            });
        }
    }
    let ratio = |what, above: &str, below: &str, most| {
        let (above, below) = (table.median(above, 0), table.median(below, 0));
        Ratio::of(what, above, below, Goal::AtMost(most))
    };
    let ratios = [
        ratio(
            "fill: window by own memory",
            "fill: window",
            "fill: own memory",
            1.03,
        ),
        ratio(
            "sum: window by own memory",
            "sum: window",
            "sum: own memory",
            1.03,
        ),
        ratio(
            "copy in: window by own memory",
            "copy in: window",
            "copy in: own memory",
            1.03,
        ),
        ratio(
            "copy out: window by own memory",
            "copy out: window",
            "copy out: own memory",
            1.03,
        ),
        ratio(
            "scattered reads: window by own memory",
            "100,000 scattered reads: window",
            "100,000 scattered reads: own memory",
            1.03,
        ),
        ratio(
            "fill with simd128 by natively",
            "fill, simd128: window",
            "fill: natively",
            1.3,
        ),
        ratio(
            "sum with simd128 by natively",
            "sum, simd128: window",
            "sum: natively",
            1.3,
        ),
    ];
    let ratios = ratios.into_iter().flatten().collect();
    (vec![table], ratios)
}
