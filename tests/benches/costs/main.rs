//! The costs of Tombolo: `cargo xtask bench` runs this and prints tables.
//!
//! Each group of rows is a module, which measures its rows side by side. A repeat runs all
//! of them in turn, so that other load on the machine affects all alike. The tables show
//! the median of the repeats and, in parentheses, the 90th percentile. No time fails the
//! run.
//!
//! | module | content |
//! |---|---|
//! | `handover` | a buffer passed from one guest to another, and the alternatives |
//! | `access` | reading and writing in windows |
//! | `calls` | calls and messages |
//! | `life` | creation and end of regions, windows and guests |
//! | `scale` | calls and windows beside many others |
//! | `pins` | pin, unpin, purge |
//! | `recycle` | regions with new memory, and with that of ended ones |
//! | `http` | the example's HTTP server beside the same with lists |
//! | `pressure` | the time from a report of memory pressure to free memory |
//! | `guests`, `composed`, `bare`, `native` | the measured programs |
//! | `machine` | a description of the machine |
//! | `measure`, `table`, `ratio`, `plot` | repeats, medians, rows, plots |
//! | `figure` | the figure in the README |

mod access;
mod bare;
mod calls;
mod composed;
mod figure;
mod guests;
mod handover;
mod http;
mod life;
mod machine;
mod measure;
mod native;
mod pins;
mod plot;
mod pressure;
mod ratio;
mod recycle;
mod scale;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use measure::Plan;
use ratio::{Ratio, Ratios};
use serde_json::{Value, json};
use table::Table;

/// The figures of a group.
type Found = (Vec<Table>, Vec<Ratio>);

/// A group of rows, with the name that selects it.
type Group = (&'static str, fn(&Plan) -> Found);

const GROUPS: &[Group] = &[
    ("handover", handover::run),
    ("access", access::run),
    ("calls", calls::run),
    ("life", life::run),
    ("scale", scale::run),
    ("pins", |plan| (pins::run(plan), Vec::new())),
    ("recycle", |plan| (recycle::run(plan), Vec::new())),
    ("http", http::run),
    ("pressure", |plan| (pressure::run(plan), Vec::new())),
];

struct Arguments {
    plan: Plan,
    picked: Vec<String>,
    /// Whether to print only JSON to standard output.
    json: bool,
    /// The folder of the report.
    report: Option<PathBuf>,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments {
        plan: Plan::default(),
        picked: Vec::new(),
        json: false,
        report: None,
    };
    let mut all = std::env::args().skip(1);
    while let Some(argument) = all.next() {
        match &*argument {
            "--quick" => found.plan.quick = true,
            "--json" => found.json = true,
            "--report" => found.report = all.next().map(PathBuf::from),
            // Cargo passes this to every benchmark.
            "--bench" => {}
            name if GROUPS.iter().any(|(known, _)| *known == name) => found.picked.push(argument),
            other => {
                let names: Vec<_> = GROUPS.iter().map(|(name, _)| *name).collect();
                return Err(format!(
                    "unknown argument `{other}`: pass `--quick`, `--json`, `--report FOLDER`, or some of: {}",
                    names.join(", ")
                ));
            }
        }
    }
    Ok(found)
}

fn main() -> ExitCode {
    let mut first = std::env::args().skip(1);
    match (first.next().as_deref(), first.next()) {
        (Some(native::PEER), Some(socket)) => {
            native::peer(&socket);
            return ExitCode::SUCCESS;
        }
        (Some(http::SERVER), Some(side)) => {
            http::serve(&side);
            return ExitCode::SUCCESS;
        }
        (Some(life::ALONE), Some(count)) => {
            life::alone(&count);
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let Arguments { plan, picked, .. } = &arguments;
    let mut text = machine::describe();
    if plan.quick {
        text += "\n\nThese are a few repeats to test the benchmark. Do not use the figures.";
    }
    let say = |text: &str| match arguments.json {
        true => eprintln!("{text}"),
        false => println!("{text}"),
    };
    say(&text);
    let (mut tables, mut ratios) = (Vec::new(), Vec::new());
    for (name, run) in GROUPS {
        if picked.is_empty() || picked.iter().any(|it| it == name) {
            let found = run(plan);
            for table in &found.0 {
                say(&format!("\n{table}"));
            }
            tables.extend(found.0);
            ratios.extend(found.1);
        }
    }
    if !ratios.is_empty() {
        say(&format!("\n{}", Ratios(&ratios)));
    }
    if arguments.json {
        println!("{}", json_report(&text, &tables, &ratios));
    }
    if let Some(folder) = &arguments.report {
        match report(folder, &text, &tables, &ratios) {
            Ok(()) => say(&format!(
                "\nreport: {}",
                folder.join("report.html").display()
            )),
            Err(error) => {
                eprintln!("error: cannot write to {}: {error}", folder.display());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn json_report(machine: &str, tables: &[Table], ratios: &[Ratio]) -> String {
    let ratios = ratios.iter().map(|ratio| {
        let mut object = json!({ "what": ratio.what, "value": ratio.value });
        if let Some(reached) = ratio.is_reached() {
            object["reached"] = reached.into();
        }
        object
    });
    let report = json!({
        "machine": machine,
        "tables": tables.iter().map(Table::json).collect::<Vec<_>>(),
        "ratios": ratios.collect::<Vec<Value>>(),
    });
    report.to_string()
}

/// Writes a page of tables and plots.
fn report(
    folder: &std::path::Path,
    machine: &str,
    tables: &[Table],
    ratios: &[Ratio],
) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(folder)?;
    let mut page = format!(
        "<!doctype html><meta charset=utf-8><title>The costs of Tombolo</title>\n\
         <body style='font-family: sans-serif'><pre>{machine}</pre>\n<pre>{}</pre>\n",
        escaped(&Ratios(ratios).to_string())
    );
    for (index, table) in tables.iter().enumerate() {
        if let Some(sizes) = table.sizes() {
            let name = format!("{index}.svg");
            plot::draw(table, &sizes, &folder.join(&name))?;
            if table.title() == handover::ALONE {
                figure::draw(table, &sizes, folder)?;
            }
            page += &format!("<img src='{name}' alt=''>\n");
        }
        page += &format!("<pre>{}</pre>\n", escaped(&table.to_string()));
    }
    std::fs::write(folder.join("report.html"), page)?;
    std::fs::write(
        folder.join("report.json"),
        json_report(machine, tables, ratios),
    )?;
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
