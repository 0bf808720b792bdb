//! Calls to the host, to a guest of the same strand and to one of another strand, and a
//! thread wake-up alone.

use crate::bare::Bare;
use crate::guests::Guests;
use crate::measure::Plan;
use crate::native;
use crate::ratio::{Goal, Ratio};
use crate::table::Table;

const LEND: &str = "within a strand: one lent handle";
const ACROSS: &str = "across strands: one lent handle";
const WAKE: &str = "native thread wake-up";

pub fn run(plan: &Plan) -> (Vec<Table>, Vec<Ratio>) {
    let guests = Guests::read();
    let mut table = Table::new("calls", ["one".to_owned()]);
    let (mut dynamic, mut typed) = (Bare::new(false), Bare::new(true));
    let (repeats, times) = if plan.quick { (2, 1) } else { (60, 100) };
    for _ in 0..plan.rounds() {
        for group in ["calls", "across"] {
            guests.add(plan, group, &[0], &mut [("calls", &mut table)]);
        }
        for _ in 0..repeats {
            for (bare, how) in [(&mut dynamic, "dynamic"), (&mut typed, "typed")] {
                let row = format!("wasmtime alone, {how}: empty call");
                table.cell(&row, 0).times(times, || bare.nothing(times));
                let row = format!("wasmtime alone, {how}: one handle");
                table.cell(&row, 0).times(times, || bare.lend(times));
            }
        }
        let wake_ups = table.cell(WAKE, 0);
        for _ in 0..if plan.quick { 2 } else { 60 } {
            native::wake_up(50, wake_ups);
        }
    }
    let across = table.median(ACROSS, 0).zip(table.median(LEND, 0));
    let often = table.ninth_decile(ACROSS, 0).zip(table.median(LEND, 0));
    let beyond = |both: Option<(f64, f64)>| both.map(|(across, within)| across - within);
    let by = |what, row: &str, least: &str, goal| {
        Ratio::of(what, table.median(row, 0), table.median(least, 0), goal)
    };
    let ratios = [
        Ratio::time(
            "a call within a strand, one lent handle",
            table.median(LEND, 0),
            1000.0,
        ),
        by(
            "the same / wasmtime alone, dynamic",
            LEND,
            "wasmtime alone, dynamic: one handle",
            Goal::AtMost(1.25),
        ),
        by(
            "the same / wasmtime alone, typed",
            LEND,
            "wasmtime alone, typed: one handle",
            Goal::None,
        ),
        by(
            "an empty call within a strand / wasmtime alone, dynamic",
            "within a strand: empty call",
            "wasmtime alone, dynamic: empty call",
            Goal::AtMost(1.25),
        ),
        Ratio::time(
            "a call across strands, one lent handle, less one within a strand",
            beyond(across),
            300.0,
        ),
        Ratio::time("the same, nine times of ten", beyond(often), 300.0),
    ];
    (vec![table], ratios.into_iter().flatten().collect())
}
