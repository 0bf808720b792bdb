//! Calls: of the host, of a guest in the same strand, of one in another; and how
//! long waking a thread takes by itself.

use crate::bare::Bare;
use crate::guests::Guests;
use crate::measure::Plan;
use crate::native;
use crate::ratio::Ratio;
use crate::table::Table;

pub fn run(plan: &Plan) -> (Vec<Table>, Vec<Ratio>) {
    let guests = Guests::read();
    let mut table = Table::new("calls", ["one".to_owned()]);
    let (mut dynamic, mut typed) = (Bare::new(false), Bare::new(true));
    let (repeats, times) = if plan.quick { (2, 1) } else { (60, 100) };
    for _ in 0..plan.rounds() {
        guests.add(plan, "calls", &[0], &mut [("calls", &mut table)]);
        for _ in 0..repeats {
            for (bare, how) in [(&mut dynamic, "dynamic"), (&mut typed, "typed")] {
                let row = format!("wasmtime alone, {how}: nothing");
                table.cell(&row, 0).times(times, || bare.nothing(times));
                let row = format!("wasmtime alone, {how}: one handle");
                table.cell(&row, 0).times(times, || bare.lend(times));
            }
        }
        let wake_ups = table.cell("waking a thread, natively", 0);
        for _ in 0..if plan.quick { 2 } else { 60 } {
            native::wake_up(50, wake_ups);
        }
    }
    (vec![table], Vec::new())
}
