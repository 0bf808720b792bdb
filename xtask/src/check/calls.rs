//! Instructions and allocations of whole calls between guests.
//!
//! Callgrind counts them in the benchmark `loops`, so they do not depend on the load of the
//! machine. They do depend a little on the processor, for which the C library chooses functions.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{bench, run, toolchain};

/// The calls of a repeat, so that the code around them does not matter.
const TIMES: u64 = 1000;

/// The most that a call may take.
struct Limit {
    /// The kind of call, as `tests/guests/src/bin/costs_user.rs` names it.
    kind: &'static str,
    instructions: u64,
    allocations: u64,
}

/// The limits, about a twentieth above the last counts.
const LIMITS: [Limit; 4] = [
    Limit {
        kind: "nothing",
        instructions: 7_200,
        allocations: 2,
    },
    Limit {
        kind: "lend",
        instructions: 10_750,
        allocations: 3,
    },
    Limit {
        kind: "kept",
        instructions: 11_600,
        allocations: 3,
    },
    Limit {
        kind: "pass",
        instructions: 17_800,
        allocations: 10,
    },
];

/// The functions that allocate.
const ALLOCATE: [&str; 5] = [
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
];

/// The instructions and allocations of a repeat, or of a call.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    instructions: u64,
    allocations: u64,
}

/// Counts what calls take. Returns those that take more than they may.
pub(crate) fn count() -> Result<Vec<String>> {
    toolchain::add_target()?;
    let dumps = run::target()?.join("loops");
    let _ = fs::remove_dir_all(&dumps);
    fs::create_dir_all(&dumps)?;
    let out = dumps.join("calls");
    let runner = [
        "valgrind".to_owned(),
        "--tool=callgrind".to_owned(),
        // Otherwise wasmtime's signal handlers find the registers of an earlier moment.
        "--vex-iropt-register-updates=allregs-at-mem-access".to_owned(),
        // The guest reads the clock before and after each repeat.
        "--dump-before=*monotonic_clock*now*".to_owned(),
        format!("--callgrind-out-file={}", out.display()),
    ];
    let runner = format!("target.{}.runner={runner:?}", run::host_target()?);
    let mut cargo = bench::cargo();
    cargo.args(["--config", &runner, "--bench", "loops", "--"]);
    cargo.args(LIMITS.map(|limit| format!("{}:{TIMES}:2", limit.kind)));
    run::run(cargo.env("LOOPS_ONE_THREAD", "1"), "the benchmark `loops`")?;
    let mut over = Vec::new();
    for (index, limit) in LIMITS.iter().enumerate() {
        let counts = of_kind(&out, index)?;
        eprintln!(
            "{:<8} {:>6} of {:>6} instructions, {:>2} of {:>2} allocations",
            limit.kind,
            counts.instructions,
            limit.instructions,
            counts.allocations,
            limit.allocations
        );
        over.extend(limit.violations(&counts));
    }
    Ok(over)
}

/// Returns what a call took in the second repeat of the kind with this index. There is a dump at
/// the beginning and the end of each repeat.
fn of_kind(out: &Path, index: usize) -> Result<Counts> {
    let path = format!("{}.{}", out.display(), 4 * index + 4);
    let text = fs::read_to_string(&path);
    let text = text.with_context(|| format!("Callgrind wrote no {path}"))?;
    let counts = Counts::read(&text).with_context(|| format!("{path} has no totals"))?;
    let each = Counts {
        instructions: counts.instructions / TIMES,
        allocations: counts.allocations / TIMES,
    };
    // A dump of a moment in between would be below any limit.
    if each.instructions < 1000 {
        bail!("{path} has no calls, but {counts:?}");
    }
    Ok(each)
}

impl Limit {
    /// Returns what is over the limit.
    fn violations(&self, counts: &Counts) -> impl Iterator<Item = String> {
        let each = [
            ("instructions", counts.instructions, self.instructions),
            ("allocations", counts.allocations, self.allocations),
        ];
        let over = each.into_iter().filter(|(_, taken, most)| taken > most);
        over.map(|(what, taken, most)| {
            format!(
                "a call of the kind `{}` takes {taken} {what}, and may take {most}: make it \
                 cheaper, or raise the limit in `xtask/src/check/calls.rs`",
                self.kind
            )
        })
    }
}

impl Counts {
    /// Reads a dump in Callgrind's format.
    fn read(text: &str) -> Option<Counts> {
        let mut counts = Counts::default();
        let mut allocates = false;
        // The numbers that stand for the names of functions that allocate.
        let mut known = Vec::new();
        for line in text.lines() {
            if let Some((_, name)) = line.split_once("fn=") {
                // A name follows its number at its first appearance.
                let (number, name) = name.split_once(' ').unwrap_or((name, ""));
                if ALLOCATE.contains(&name) {
                    known.push(number.to_owned());
                }
                allocates = line.starts_with("cfn=") && known.iter().any(|it| it == number);
            } else if let Some(calls) = line.strip_prefix("calls=")
                && allocates
            {
                let (times, _) = calls.split_once(' ')?;
                counts.allocations += times.parse::<u64>().ok()?;
            } else if let Some(totals) = line.strip_prefix("totals: ") {
                counts.instructions = totals.trim().parse().ok()?;
            }
        }
        (counts.instructions > 0).then_some(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dump_is_read() {
        let text = "\
version: 1\nevents: Ir\n\nob=(1) /lib/libc.so.6\nfl=(2) ???\nfn=(7) run\n0 12\n\
cfn=(8) malloc\ncalls=3 0\n0 60\ncfn=(9) free\ncalls=5 0\n0 50\n\n\
fn=(10) other\ncfn=(8)\ncalls=4 0\n0 80\n\nfn=(8)\n0 140\n\ntotals: 4711\n";
        let counts = Counts::read(text);
        let expected = Counts {
            instructions: 4711,
            allocations: 7,
        };
        assert_eq!(counts, Some(expected));
        assert_eq!(Counts::read("version: 1\n"), None);
    }

    #[test]
    fn counts_over_a_limit_are_violations() {
        let limit = Limit {
            kind: "lend",
            instructions: 100,
            allocations: 5,
        };
        let of = |instructions, allocations| {
            let counts = Counts {
                instructions,
                allocations,
            };
            limit.violations(&counts).count()
        };
        assert_eq!(
            [of(100, 5), of(101, 5), of(100, 6), of(101, 6)],
            [0, 1, 1, 2]
        );
    }
}
