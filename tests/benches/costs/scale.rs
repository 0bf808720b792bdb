//! The cost of a hand-over beside many guests, regions and windows.

use crate::guests::Guests;
use crate::measure::Plan;
use crate::ratio::{Goal, Ratio};
use crate::table::Table;

pub fn run(plan: &Plan) -> (Vec<Table>, Vec<Ratio>) {
    let guests = Guests::read();
    let counts: &[usize] = match plan.quick {
        true => &[1, 10],
        false => &[1, 10, 100, 1000],
    };
    let columns = counts.iter().map(|count| format!("{count}"));
    let mut table = Table::new("number of others", columns);
    for _ in 0..plan.rounds().min(3) {
        for (column, count) in counts.iter().enumerate() {
            for (_, row, _, times) in guests.measure(plan, "few", *count) {
                let row = format!("guests: {row}");
                table.cell(&row, column).extend(times);
            }
            for what in ["regions", "windows"] {
                let group = format!("{what} {count}");
                for (_, row, _, times) in guests.measure(plan, &group, 0) {
                    let row = format!("{what}: {row}");
                    table.cell(&row, column).extend(times);
                }
            }
        }
    }
    let mut many = Table::new("with 10,000 windows", ["10000".to_owned()]);
    if !plan.quick {
        for (_, row, _, times) in guests.measure(plan, "windows 10000", 0) {
            many.cell(&row, 0).extend(times);
        }
    }
    let last = counts.len() - 1;
    let ratio = |what, row: &str| {
        let (above, below) = (table.median(row, last), table.median(row, 0));
        Ratio::of(what, above, below, Goal::AtMost(1.5))
    };
    let beside_many = |what, row: &str| {
        let (above, below) = (
            many.median(row, 0),
            table.median(&format!("windows: {row}"), 0),
        );
        Ratio::of(what, above, below, Goal::AtMost(1.5))
    };
    let ratios = [
        ratio("a call with a lent handle: 1000 guests / 1", "guests: lend"),
        ratio("the same, 1000 regions / 1", "regions: lend"),
        beside_many("the same, 10,000 windows / 1", "lend"),
        beside_many("map and unmap: 10,000 windows / 1", "map and unmap"),
    ];
    let ratios = ratios.into_iter().flatten().collect();
    (vec![table, many], ratios)
}
