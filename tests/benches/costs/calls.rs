//! Calls to the host, to a guest of the same strand and to one of another strand, and a
//! thread wake-up alone. Calls are measured on engines without concurrency support and with it.

use crate::bare::Bare;
use crate::guests::Guests;
use crate::life;
use crate::measure::Plan;
use crate::native;
use crate::ratio::{Goal, Ratio};
use crate::table::Table;

/// The columns: engines without concurrency support, and with it.
const COLUMNS: [&str; 2] = ["off", "on"];

const HOST: &str = "a call to the host";
const EMPTY: &str = "within a strand: empty call";
const LEND: &str = "within a strand: one lent handle";
const ACROSS: &str = "across strands: one lent handle";
const WAKE: &str = "native thread wake-up";

pub fn run(plan: &Plan) -> (Vec<Table>, Vec<Ratio>) {
    let guests = [Guests::read(), Guests::read().concurrent()];
    let title = "calls, by concurrency support";
    let mut table = Table::new(title, COLUMNS.map(str::to_owned));
    let mut bare = [false, true].map(|on| [false, true].map(|typed| Bare::new(typed, on)));
    let (repeats, times) = if plan.quick { (2, 1) } else { (60, 100) };
    for _ in 0..plan.rounds() {
        for group in ["calls", "across"] {
            for (column, guests) in guests.iter().enumerate() {
                guests.add_to(plan, group, "calls", &mut table, column);
            }
        }
        for _ in 0..repeats {
            for (column, bare) in bare.iter_mut().enumerate() {
                for (bare, how) in bare.iter_mut().zip(["dynamic", "typed"]) {
                    let row = format!("wasmtime alone, {how}: empty call");
                    table
                        .cell(&row, column)
                        .times(times, || bare.nothing(times));
                    let row = format!("wasmtime alone, {how}: one handle");
                    table.cell(&row, column).times(times, || bare.lend(times));
                }
            }
        }
        life::by_concurrency(plan, &mut table);
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
    let on =
        |what, row: &str| Ratio::of(what, table.median(row, 1), table.median(row, 0), Goal::None);
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
        on("with concurrency / without: a call to the host", HOST),
        on("the same: an empty call within a strand", EMPTY),
        on("the same: one lent handle within a strand", LEND),
        on("the same: one lent handle across strands", ACROSS),
        on("the same: the start of a guest", life::LIVES[0]),
    ];
    (vec![table], ratios.into_iter().flatten().collect())
}
