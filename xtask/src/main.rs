//! The commands of this repository, such as `cargo xtask demo` and `cargo xtask test`.

mod bench;
mod cache;
mod chaos;
mod check;
mod demo;
mod example;
mod frames;
mod fuzz;
mod libtest;
mod meter;
mod miri;
mod nightly;
mod packages;
mod run;
mod soak;
mod source;
mod test;
mod toolchain;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, demonstrates, tests and checks Tombolo.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
#[command(disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// A command. The comments are the help.
#[derive(Subcommand)]
enum Task {
    /// Run the music example: two sandboxed guests
    ///
    /// Builds the program and the guests, and runs two guests that process music.
    Demo(demo::Options),
    /// Run the cache example: purgeable memory that shrinks
    ///
    /// One guest keeps decoded images in less and less purgeable memory.
    Cache(cache::Options),
    /// Run the frames example: a pipeline in parallel
    ///
    /// Four guests decode, denoise, sharpen and encode images, in parallel.
    Frames(frames::Options),
    /// Run the meter example: plain shared memory in a strand
    ///
    /// One guest watches the levels of a buffer that another one fills.
    Meter(meter::Options),
    /// Run all tests, and print one line that sums up
    Test {
        /// Arguments for each test program, for example the name of a test
        #[arg(
            value_name = "ARGS",
            allow_hyphen_values = true,
            trailing_var_arg = true
        )]
        arguments: Vec<OsString>,
    },
    /// Run the quick checks, or the named ones
    Check(check::Options),
    /// Run the checks that `check --list` names, up to the first that fails
    Ci,
    /// Print the rules of the design, each with its tests
    Rules,
    /// Measure what things cost, and print tables
    ///
    /// A report with plots goes to `bench` in the target directory.
    Bench(bench::Options),
    /// Start, crash and kill guests, and look for leaks
    Soak(soak::Options),
    /// Kill guests of the frames example at random moments
    ///
    /// Each frame must be right or reported, and nothing may leak.
    Chaos(soak::Options),
    /// Fuzz `tombolo-region`
    Fuzz(fuzz::Options),
    /// Run the tests of `tombolo-region` under Miri
    Miri(miri::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Demo(options) => demo::run(&options),
        Task::Cache(options) => cache::run(&options),
        Task::Frames(options) => frames::run(&options),
        Task::Meter(options) => meter::run(&options),
        Task::Test { arguments } => test::run(&arguments),
        Task::Check(options) => check::run(&options),
        Task::Ci => check::run_all(),
        Task::Rules => check::print_rules(),
        Task::Bench(options) => bench::run(&options),
        Task::Soak(options) => soak::run(&options),
        Task::Chaos(options) => chaos::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Miri(options) => miri::run(&options),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_fits_80_columns() {
        let mut command = Arguments::command();
        let mut pages = vec![command.render_long_help().to_string()];
        for task in command.get_subcommands_mut() {
            pages.push(task.render_help().to_string());
            pages.push(task.render_long_help().to_string());
        }
        for line in pages.iter().flat_map(|page| page.lines()) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn test_passes_its_arguments_on() {
        let words = ["cargo xtask", "test", "a_name", "--nocapture"];
        let Task::Test { arguments } = Arguments::try_parse_from(words).ok().unwrap().task else {
            panic!("`test` is parsed as another task");
        };
        assert_eq!(arguments, ["a_name", "--nocapture"]);
    }
}
