//! `cargo xtask check` and `cargo xtask ci`: the steps that every change must pass.
//!
//! The list of steps is here and nowhere else; `.ci/run` asks for it.

mod calls;
mod dependencies;
mod imports;
mod metadata;
mod path;
mod prose;
mod rules;
mod tools;
mod tree;
mod wasmtime;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{bench, cache, chaos, demo, frames, fuzz, meter, miri, run, soak, test};

/// One thing that must hold.
struct Step {
    name: &'static str,
    about: &'static str,
    when: When,
    run: fn() -> Result<()>,
}

/// The commands that run a step, beside `cargo xtask check STEP`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// `cargo xtask check` and `cargo xtask ci`.
    Quick,
    /// `cargo xtask ci`.
    Long,
    /// None: it needs a database from the network.
    Named,
}

/// All steps, in the order in which they run. Quick ones come first.
const STEPS: &[Step] = &[
    quick("fmt", "Formatting", tools::format),
    quick(
        "prose",
        "Words and beginnings that make prose hard to read",
        || refuse(&prose::check(run::root())?),
    ),
    quick(
        "path",
        "Sources compiled twice, and code that changes for tests",
        || refuse(&path::check(run::root())?),
    ),
    quick("dependencies", "Which crate may depend on which", || {
        refuse(&dependencies::check()?)
    }),
    quick("imports", "Which module may import which", || {
        refuse(&imports::check(run::root())?)
    }),
    quick("weight", "How many crates an embedder builds", || {
        refuse(&dependencies::weigh()?)
    }),
    quick(
        "one-wasmtime",
        "Features: all commands share one wasmtime",
        || refuse(&wasmtime::check()?),
    ),
    quick("rules", "Each rule of the design has a test", || {
        refuse(&rules::Table::read(run::root())?.errors())
    }),
    quick(
        "clippy",
        "Lints of the host and the tools",
        tools::lint_host,
    ),
    quick("clippy-guests", "Lints of the guests", tools::lint_guests),
    quick("docs", "Documentation", tools::document),
    long("deny", "Licences and sources of dependencies", tools::deny),
    long(
        "package",
        "Each published crate can be packaged",
        tools::package,
    ),
    long("fuzz", "Fuzzing, for 30 seconds a target", || {
        success(fuzz::run(&fuzz::Options::default())?)
    }),
    long("miri", "The tests of `tombolo-region` under Miri", || {
        success(miri::run(&miri::Options::default())?)
    }),
    long(
        "instructions",
        "Instructions of the hot paths",
        tools::count_instructions,
    ),
    long("calls", "Instructions and allocations of calls", || {
        refuse(&calls::count()?)
    }),
    long("demo", "The music example", || {
        success(demo::run(&demo::Options::default())?)
    }),
    long(
        "one-wasmtime-built",
        "The tests do not build wasmtime again",
        || refuse(&wasmtime::check_built()?),
    ),
    long(
        "demo-recording",
        "The music example plays its own output",
        || success(demo::run(&demo::Options::own_output()?)?),
    ),
    long(
        "demo-refusal",
        "The music example refuses a file that is not a recording",
        demo::refuse_licence,
    ),
    long(
        "cache",
        "The cache example under a shrinking budget",
        || success(cache::run(&cache::Options::default())?),
    ),
    long("frames", "The frames example, in parallel", || {
        success(frames::run(&frames::Options::default())?)
    }),
    long("meter", "The meter example, within a strand", || {
        success(meter::run(&meter::Options::default())?)
    }),
    long("bench", "The benchmarks work", || {
        success(bench::run(&bench::Options::quick())?)
    }),
    long("compare", "The comparison with iceoryx2 works", || {
        success(bench::run(&bench::Options::quick_comparison())?)
    }),
    long("soak", "Guests come and go, for half a minute", || {
        success(soak::run(&soak::Options::short())?)
    }),
    long(
        "chaos",
        "Guests are killed at random, for half a minute",
        || success(chaos::run(&soak::Options::short())?),
    ),
    long("test", "All tests", || success(test::run(&[])?)),
    long(
        "parked",
        "The tests of windows, all of which are parked",
        || success(test::run_parked()?),
    ),
    long(
        "concurrent",
        "All tests of guests, on engines with concurrency",
        || success(test::run_concurrent()?),
    ),
    long(
        "root",
        "The tests that need root, and a kernel with PSI",
        || success(test::run_ignored()?),
    ),
    long(
        "features",
        "Each feature of each library compiles alone",
        tools::features,
    ),
    named(
        "advisories",
        "Known vulnerabilities of dependencies",
        tools::audit,
    ),
];

const fn quick(name: &'static str, about: &'static str, run: fn() -> Result<()>) -> Step {
    Step {
        name,
        about,
        when: When::Quick,
        run,
    }
}

const fn long(name: &'static str, about: &'static str, run: fn() -> Result<()>) -> Step {
    Step {
        name,
        about,
        when: When::Long,
        run,
    }
}

const fn named(name: &'static str, about: &'static str, run: fn() -> Result<()>) -> Step {
    Step {
        name,
        about,
        when: When::Named,
        run,
    }
}

/// The steps to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The steps to run, by name; the quick ones if none is given
    #[arg(value_name = "STEP")]
    steps: Vec<String>,
    /// Print the name of each step of `ci` and what it checks
    #[arg(long)]
    list: bool,
}

/// Runs the named steps, or all quick ones.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.list {
        print!("{}", list());
        return Ok(ExitCode::SUCCESS);
    }
    let steps: Vec<_> = if options.steps.is_empty() {
        chosen(&[When::Quick])
    } else {
        options
            .steps
            .iter()
            .map(|name| find(name))
            .collect::<Result<_>>()?
    };
    Ok(run_steps(&steps, false))
}

/// Runs the quick and the long steps, up to the first that fails.
pub(crate) fn run_all() -> Result<ExitCode> {
    Ok(run_steps(&chosen(&[When::Quick, When::Long]), true))
}

fn chosen(when: &[When]) -> Vec<&'static Step> {
    let steps = STEPS.iter().filter(|step| when.contains(&step.when));
    steps.collect()
}

fn find(name: &str) -> Result<&'static Step> {
    STEPS
        .iter()
        .find(|step| step.name == name)
        .with_context(|| format!("there is no step `{name}`; see `cargo xtask check --list`"))
}

/// Returns one line for each step that `cargo xtask ci` runs: its name and what it checks.
fn list() -> String {
    let steps = chosen(&[When::Quick, When::Long]);
    let width = steps.iter().map(|step| step.name.len()).max().unwrap_or(0);
    let lines = steps
        .iter()
        .map(|step| format!("{:width$}  {}\n", step.name, step.about));
    lines.collect()
}

fn run_steps(steps: &[&Step], stops: bool) -> ExitCode {
    let began = Instant::now();
    let mut failed = Vec::new();
    for step in steps {
        eprintln!("\n=== {}: {}", step.name, step.about);
        let step_began = Instant::now();
        let result = (step.run)();
        let seconds = step_began.elapsed().as_secs_f64();
        match result {
            Ok(()) => eprintln!("=== {}: passed ({seconds:.1} s)", step.name),
            Err(error) => {
                eprintln!(
                    "error: {error:#}\n=== {}: FAILED ({seconds:.1} s)",
                    step.name
                );
                failed.push(step.name);
            }
        }
        if stops && !failed.is_empty() {
            break;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    if failed.is_empty() {
        eprintln!("\n=== All {} steps passed ({seconds:.1} s)", steps.len());
        ExitCode::SUCCESS
    } else {
        eprintln!("\n=== Failed ({seconds:.1} s): {}", failed.join(", "));
        ExitCode::FAILURE
    }
}

/// Prints the violations, and fails if there are any.
fn refuse(violations: &[String]) -> Result<()> {
    for line in violations {
        eprintln!("{line}");
    }
    match violations.len() {
        0 => Ok(()),
        1 => bail!("1 violation"),
        count => bail!("{count} violations"),
    }
}

/// Fails unless a command succeeded.
fn success(code: ExitCode) -> Result<()> {
    if code != ExitCode::SUCCESS {
        bail!("the command failed, see above");
    }
    Ok(())
}

/// Prints the rules with their tests, and fails if a rule has none.
pub(crate) fn print_rules() -> Result<ExitCode> {
    let table = rules::Table::read(run::root())?;
    print!("{}", table.render());
    refuse(&table.errors())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), STEPS.len());
    }

    #[test]
    fn list_fits_a_terminal() {
        assert!(list().lines().all(|line| line.chars().count() <= 79));
    }

    #[test]
    fn quick_steps_come_first() {
        let first_long = STEPS.iter().position(|step| step.when == When::Long);
        let after = &STEPS[first_long.unwrap()..];
        assert!(after.iter().all(|step| step.when != When::Quick));
    }

    #[test]
    fn unknown_step_is_an_error() {
        let error = find("nonsense").err().unwrap().to_string();
        assert!(error.contains("--list"), "{error}");
    }
}
