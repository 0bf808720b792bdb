//! Calls to the host, to a guest of the same strand and to one of another strand, and a
//! thread wake-up alone.

use crate::bare::Bare;
use crate::guests::Guests;
use crate::measure::Plan;
use crate::native;
use crate::ratio::{Goal, Ratio};
use crate::table::Table;

const LEND: &str = "within a strand: one lent handle";
const WAKE: &str = "native thread wake-up";

pub fn run(plan: &Plan) -> (Vec<Table>, Vec<Ratio>) {
    let guests = Guests::read();
    let mut table = Table::new("calls", ["one".to_owned()]);
    let (mut dynamic, mut typed) = (Bare::new(false), Bare::new(true));
    let (repeats, times) = if plan.quick { (2, 1) } else { (60, 100) };
    for _ in 0..plan.rounds() {
        guests.add(plan, "calls", &[0], &mut [("calls", &mut table)]);
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
    let beyond = |row: &str| Some(table.median(row, 0)? - table.median(WAKE, 0)?);
    let by = |what, row: &str, least: &str| {
        Ratio::of(
            what,
            table.median(row, 0),
            table.median(least, 0),
            Goal::None,
        )
    };
    let ratios = [
        Ratio::time(
            "a call within a strand, one lent handle",
            table.median(LEND, 0),
            500.0,
        ),
        by(
            "the same / wasmtime alone, dynamic",
            LEND,
            "wasmtime alone, dynamic: one handle",
        ),
        by(
            "the same / wasmtime alone, typed",
            LEND,
            "wasmtime alone, typed: one handle",
        ),
        Ratio::time(
            "a call across strands, one lent handle, less one wake-up",
            beyond("across strands: one lent handle"),
            3000.0,
        ),
    ];
    (vec![table], ratios.into_iter().flatten().collect())
}
