//! The commands of this repository: `cargo xtask demo`, `cargo xtask cache`,
//! `cargo xtask frames`, `cargo xtask meter`, `cargo xtask test`, `cargo xtask soak`, `cargo xtask chaos`,
//! `cargo xtask bench`.

mod bench;
mod cache;
mod chaos;
mod demo;
mod frames;
mod guests;
mod libtest;
mod meter;
mod packages;
mod run;
mod soak;
mod test;
mod toolchain;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use lexopt::prelude::*;

const HELP: &str = "\
Sets up, shows and tests Tombolo.

Usage: cargo xtask demo [--wav FILE] [--gain DB]
       cargo xtask cache [--images DIR]
       cargo xtask frames [--images DIR] [-- ARGS]
       cargo xtask meter [--apart]
       cargo xtask test [ARGS]
       cargo xtask soak [--minutes N] [--seed N]
       cargo xtask chaos [--minutes N] [--seed N]
       cargo xtask bench [--quick] [--json] [GROUP]...

demo   Build everything, and have two sandboxed guests play music.
  --wav FILE   Play this recording. Without it, the demo renders a minute of music.
  --gain DB    Amplify by this many decibels.

cache  Build everything, and have a guest keep decoded images in memory that shrinks.
  --images DIR   Use these PNG images. Without it, some are made.

frames Build everything, and have four guests in parallel denoise and sharpen images.
  --images DIR   Use these PNG images, each once. Without it, some are made, and used
                 over and over. What follows `--` goes to the guest that decodes.

meter  Build everything, and have a guest watch the levels of a buffer that another fills.
  --apart        With each guest in a strand of its own, to see that it is refused.

test   Run all tests. What follows goes to each test program, as after `cargo test --`.

soak   Have guests cache, crash and be killed, and see that no byte and no memory is lost.
  --minutes N  Go on for so long, a minute by default; `0.2` is twelve seconds.
  --seed N     Try again what was tried with this seed, which the soak prints.

chaos  Kill guests of the frames pipeline at random moments, and see that each frame is
       right or reported, and that nothing leaks.
  --minutes N, --seed N   As of `soak`.

bench  Measure what things cost, and print tables. Without GROUP, all of them.
       A report with plots goes to `bench` in the target folder.
  --quick      Only see that it works, with a few repeats.
  --json       Print JSON, and tables to standard error.
  GROUP        `handover`, `access`, `calls`, `life`, `scale`, `pins` or `pressure`.
";

/// What to do.
enum Task {
    Demo(demo::Options),
    Cache(cache::Options),
    Test(Vec<std::ffi::OsString>),
    Frames(frames::Options),
    Meter(meter::Options),
    Soak(soak::Options),
    Chaos(soak::Options),
    Bench(bench::Options),
    Help,
}

fn main() -> ExitCode {
    let done = parse(lexopt::Parser::from_env()).and_then(|task| match task {
        Task::Demo(options) => demo::run(&options),
        Task::Cache(options) => cache::run(&options),
        Task::Test(arguments) => test::run(&arguments),
        Task::Frames(options) => frames::run(&options),
        Task::Meter(options) => meter::run(&options),
        Task::Soak(options) => soak::run(&options),
        Task::Chaos(options) => chaos::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Help => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
    });
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn parse(mut arguments: lexopt::Parser) -> Result<Task> {
    const HINT: &str = "see `cargo xtask --help`";
    let task = match arguments.next()? {
        Some(Value(task)) => task,
        Some(Short('h') | Long("help")) => return Ok(Task::Help),
        Some(other) => bail!("{}; {HINT}", other.unexpected()),
        None => bail!("which task? {HINT}"),
    };
    match task.to_str() {
        Some("demo") => {
            let mut options = demo::Options::default();
            while let Some(argument) = arguments.next()? {
                match argument {
                    Long("wav") => options.wav = Some(PathBuf::from(arguments.value()?)),
                    Long("gain") => {
                        let gain = arguments.value()?;
                        let gain = gain.parse().map_err(|error| anyhow!("--gain: {error}"))?;
                        options.gain = Some(gain);
                    }
                    Short('h') | Long("help") => return Ok(Task::Help),
                    other => bail!("{}; {HINT}", other.unexpected()),
                }
            }
            Ok(Task::Demo(options))
        }
        Some("cache") => {
            let mut options = cache::Options::default();
            while let Some(argument) = arguments.next()? {
                match argument {
                    Long("images") => options.images = Some(PathBuf::from(arguments.value()?)),
                    Short('h') | Long("help") => return Ok(Task::Help),
                    other => bail!("{}; {HINT}", other.unexpected()),
                }
            }
            Ok(Task::Cache(options))
        }
        Some("test") => Ok(Task::Test(arguments.raw_args()?.collect())),
        Some("frames") => {
            let mut options = frames::Options::default();
            while let Some(argument) = arguments.next()? {
                match argument {
                    Long("images") => options.images = Some(PathBuf::from(arguments.value()?)),
                    Short('h') | Long("help") => return Ok(Task::Help),
                    // What follows the dashes.
                    Value(value) => options.arguments.push(value),
                    other => bail!("{}; {HINT}", other.unexpected()),
                }
            }
            Ok(Task::Frames(options))
        }
        Some("meter") => {
            let mut options = meter::Options::default();
            while let Some(argument) = arguments.next()? {
                match argument {
                    Long("apart") => options.apart = true,
                    Short('h') | Long("help") => return Ok(Task::Help),
                    other => bail!("{}; {HINT}", other.unexpected()),
                }
            }
            Ok(Task::Meter(options))
        }
        Some(task @ ("soak" | "chaos")) => {
            let task = match task {
                "soak" => Task::Soak,
                _ => Task::Chaos,
            };
            let mut options = soak::Options::default();
            while let Some(argument) = arguments.next()? {
                match argument {
                    Long("minutes") => {
                        let minutes = arguments.value()?.parse();
                        options.minutes = minutes.map_err(|error| anyhow!("--minutes: {error}"))?;
                    }
                    Long("seed") => {
                        let seed = arguments.value()?.parse();
                        options.seed = Some(seed.map_err(|error| anyhow!("--seed: {error}"))?);
                    }
                    Short('h') | Long("help") => return Ok(Task::Help),
                    other => bail!("{}; {HINT}", other.unexpected()),
                }
            }
            Ok(task(options))
        }
        Some("bench") => {
            let mut options = bench::Options::default();
            while let Some(argument) = arguments.next()? {
                match argument {
                    Long("quick") => options.quick = true,
                    Long("json") => options.json = true,
                    Value(group) => options.groups.push(group),
                    Short('h') | Long("help") => return Ok(Task::Help),
                    other => bail!("{}; {HINT}", other.unexpected()),
                }
            }
            Ok(Task::Bench(options))
        }
        _ => bail!("no task is called `{}`; {HINT}", task.display()),
    }
}
