//! What things cost, measured: `cargo xtask bench` runs this and prints tables.
//!
//! Each group of rows is a module, which measures its rows side by side: a repeat
//! does all of them in turn, so that whatever else the machine has to do meets all
//! alike. What is printed is the median of the repeats, and the time that nine of
//! ten repeats kept to. Nothing is judged here: times are the machine's.
//!
//! | file | what |
//! |---|---|
//! | `pins` | pin, unpin, purge |
//! | `pressure` | from a report of memory pressure to free memory |
//! | `machine` | what they ran on |
//! | `measure` | repeats, medians |
//! | `table` | rows by sizes |

mod machine;
mod measure;
mod pins;
mod pressure;
#[path = "../../tests/puppet/mod.rs"]
mod puppet;
mod table;

use std::process::ExitCode;

use measure::Plan;
use table::Table;

/// A group of rows, by the name that picks it.
type Group = (&'static str, fn(&Plan) -> Vec<Table>);

const GROUPS: &[Group] = &[("pins", pins::run), ("pressure", pressure::run)];

fn main() -> ExitCode {
    let mut plan = Plan::default();
    let mut picked = Vec::new();
    for argument in std::env::args().skip(1) {
        match &*argument {
            "--quick" => plan.quick = true,
            // Cargo's own word to a benchmark.
            "--bench" => {}
            name if GROUPS.iter().any(|(known, _)| *known == name) => picked.push(argument),
            other => {
                let names: Vec<_> = GROUPS.iter().map(|(name, _)| *name).collect();
                eprintln!(
                    "error: what is `{other}`? `--quick`, or some of: {}",
                    names.join(", ")
                );
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{}", machine::describe());
    if plan.quick {
        println!("\nA few repeats, to see that it works: these are no figures.");
    }
    for (name, run) in GROUPS {
        if picked.is_empty() || picked.iter().any(|it| it == name) {
            run(&plan).iter().for_each(|table| println!("\n{table}"));
        }
    }
    ExitCode::SUCCESS
}
