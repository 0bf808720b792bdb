//! `tombolo run`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use super::failure::{Failure, GUEST_FAILED};
use super::grant::{Directory, Variable};
use super::limit::Limit;
use super::pressure::{self, Pressure, Score};
use super::signal::Signals;
use super::{component, json, report};
use crate::app::{App, AppBuilder, CommandSpec, End, GuestSpec, Outcome, StartError};
use crate::pressure::{Thresholds, detect};
use crate::{HostLimits, Limits};

/// Run components as the guests of one app.
///
/// What a guest imports is linked to the guest that exports it, by interface
/// name and compatible version, unless the host offers it: WASI 0.2 and
/// `tombolo:memory`. Then all guests that export `wasi:cli/run` are started;
/// these are the commands. The others live for as long as a command runs.
///
/// What comes after `--`, `--env` and `--dir` are for the first command. No
/// other guest has arguments, variables or directories. All guests can print.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Run {
    /// The components. A guest's name is that of its file, without `.wasm`.
    #[arg(required = true, value_name = "GUEST.wasm")]
    guests: Vec<PathBuf>,

    /// Arguments for the first command.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,

    /// Grant a directory to the first command, under another path if one is
    /// given, and only to read with `:ro`.
    #[arg(long = "dir", value_name = "HOST[::GUEST][:ro]")]
    dirs: Vec<Directory>,

    /// Set a variable for the first command, or pass one on.
    #[arg(long, value_name = "KEY[=VALUE]")]
    env: Vec<Variable>,

    /// Limit what each guest may hold and take: regions, handles, windows,
    /// descriptors, mappings, unpinned-spans (numbers); claimed-bytes, region-bytes, memory,
    /// copy-bytes (sizes, as in `64MiB`); call-time, run-time (as in `500ms`,
    /// or `none`).
    #[arg(long = "limit", value_name = "KEY=VALUE")]
    limits: Vec<Limit>,

    /// How much memory all regions may commit, as in `64MiB`. What would go over
    /// it is made room for by purging what no guest pins, least recently unpinned
    /// first, and else refused. By default half of the machine's memory, or of the
    /// limit of the cgroup if that is less.
    #[arg(long, value_name = "SIZE")]
    budget: Option<ByteSize>,

    /// What to do when memory is short.
    #[arg(long, value_name = "WHAT", default_value = "purge")]
    on_pressure: Pressure,

    /// Score a guest, from 0 to 1000: the higher, the sooner it is ended when
    /// memory is short. Others have 500. Among guests of one score, the one
    /// that was busy longest ago goes first.
    #[arg(long = "score", value_name = "GUEST=N")]
    scores: Vec<Score>,

    /// End no guest that is scored lower.
    #[arg(long, value_name = "N", default_value = "1", value_parser = pressure::floor)]
    floor: u16,

    /// Print at the end what the guests did, on stderr: windows, regions, calls,
    /// copies, and what was purged.
    #[arg(long)]
    report: bool,

    /// Print the report as JSON, one line on stderr.
    #[arg(long)]
    json: bool,
}

const EXIT_CODES: &str = "\
Exit codes:
  0, or any other  that of the first command
  2                nothing was started: bad usage, or guests that cannot be linked
  134              a guest trapped, or was ended by the host; if it was not the
                   first command, then only where that one succeeded
  130, 143         SIGINT or SIGTERM: the app was ended in order, commands at once,
                   and others when they had answered the calls that they were at,
                   a second later at most; a second signal ends it at once

Example:
  tombolo run --dir music::/music:ro player.wasm audioserver.wasm -- /music/song.wav";

impl Run {
    /// Runs it, to the end of all commands.
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let mut limits = Limits::default();
        for limit in self.limits {
            limit.apply(&mut limits);
        }
        let guests = component::read(&self.guests)?;
        let env = self
            .env
            .into_iter()
            .map(Variable::resolve)
            .collect::<Result<_, _>>()?;
        let dirs = self
            .dirs
            .into_iter()
            .map(Directory::open)
            .collect::<Result<_, _>>()?;
        let command = CommandSpec {
            args: self.args,
            env,
            dirs,
        };

        let mut host_limits = HostLimits::default();
        if let Some(budget) = self.budget {
            host_limits.budget = budget.as_u64();
        }
        let mut builder = App::builder()
            .limits(limits)
            .host_limits(host_limits)
            .command(command)
            .on_pressure(self.on_pressure.into())
            .floor(self.floor);
        for Score { guest, score } in self.scores {
            builder = builder.score(guest, score);
        }
        for (name, wasm) in guests {
            builder = builder.guest(GuestSpec {
                name,
                wasm,
                inherit_stdio: true,
                ..GuestSpec::default()
            });
        }

        let detected = detect(Thresholds::default());
        let note = detected.note().to_owned();
        match detected.into_source() {
            Some(source) => {
                tracing::info!("{note}");
                builder = builder.pressure(source);
            }
            None => tracing::warn!("{note}"),
        }

        let signals = Signals::listen()?;
        let outcome = app(builder, &signals)?;
        for failure in &outcome.failures {
            eprintln!("error: {}", report::printable(failure));
        }
        if self.json {
            eprintln!("{}", json::render(&outcome.report));
        } else if self.report {
            eprint!("{}", report::render(&outcome.report, super::fancy()));
        }
        let code = signals.code().unwrap_or_else(|| code(&outcome));
        Ok(ExitCode::from(code))
    }
}

/// How long the system may take with what guests asked of it, after a signal:
/// reading from a pipe to which nobody writes takes forever.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs the app. All that this program asks of the library is here.
fn app(builder: AppBuilder, signals: &Signals) -> Result<Outcome, Failure> {
    // Each strand can have a processor.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(anyhow::Error::new(error).context("cannot wait for events"))
        })?;
    let outcome = runtime.block_on(async {
        let app = builder.start().await.map_err(|error| {
            let hints = hints(&error);
            hints.into_iter().fold(Failure::new(error), Failure::hint)
        })?;
        signals.end(app.handle());
        Ok(app.run().await)
    });
    if signals.code().is_some() {
        runtime.shutdown_timeout(PATIENCE);
    }
    outcome
}

/// What to do about it, with what only this program knows.
fn hints(error: &StartError) -> Vec<String> {
    match error {
        StartError::NoSuchGuest(_) => {
            vec!["a guest's name is that of its file, without `.wasm`".into()]
        }
        _ => error.hints(),
    }
}

/// What the process ends with.
fn code(outcome: &Outcome) -> u8 {
    match outcome.end {
        // Stopped by nothing but a signal, which has its own codes.
        End::Failed | End::Stopped => GUEST_FAILED,
        End::Exit(0) if !outcome.failures.is_empty() => GUEST_FAILED,
        End::Exit(code) => code,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Command};
    use super::*;
    use crate::app::Report;

    fn parse(args: &[&str]) -> Result<Run, String> {
        let args = ["tombolo", "run"].iter().chain(args);
        match Cli::try_parse_from(args) {
            Ok(cli) => {
                let Command::Run(run) = cli.command;
                Ok(run)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn arguments_after_the_dashes_are_the_commands() {
        let run = parse(&[
            "--dir", "m::/m:ro", "a.wasm", "--env", "K=V", "b.wasm", "--report", "--", "song.wav",
            "--dir", "-x",
        ])
        .unwrap();
        assert_eq!(
            run.guests,
            [PathBuf::from("a.wasm"), PathBuf::from("b.wasm")]
        );
        assert_eq!(run.args, ["song.wav", "--dir", "-x"]);
        assert_eq!((run.dirs.len(), run.env.len()), (1, 1));
        assert!(run.report);
    }

    #[test]
    fn guests_are_required() {
        assert!(
            parse(&["--", "song.wav"])
                .unwrap_err()
                .contains("<GUEST.wasm>")
        );
    }

    #[test]
    fn option_of_a_guest_without_dashes_explains_them() {
        let error = parse(&["a.wasm", "--loud"]).unwrap_err();
        assert!(error.contains("'-- --loud'"), "{error}");
    }

    #[test]
    fn bad_limit_is_bad_usage() {
        let error = parse(&["a.wasm", "--limit", "window=3"]).unwrap_err();
        assert!(error.contains("there is no limit `window`"), "{error}");
    }

    #[test]
    fn pressure_has_defaults_and_options() {
        let run = parse(&["a.wasm"]).unwrap();
        assert_eq!((run.on_pressure, run.floor), (Pressure::Purge, 1));
        let run = parse(&[
            "a.wasm",
            "--on-pressure",
            "count",
            "--score",
            "a=3",
            "--score",
            "b=4",
            "--floor",
            "2",
        ])
        .unwrap();
        assert_eq!((run.on_pressure, run.floor), (Pressure::Count, 2));
        assert_eq!(run.scores.len(), 2);
        let error = parse(&["a.wasm", "--on-pressure", "panic"]).unwrap_err();
        assert!(error.contains("purge, count, kill"), "{error}");
        let error = parse(&["a.wasm", "--score", "a"]).unwrap_err();
        assert!(error.contains("as in `player=900`"), "{error}");
        let error = parse(&["a.wasm", "--floor", "1001"]).unwrap_err();
        assert!(error.contains("from 0 to 1000"), "{error}");
    }

    #[test]
    fn help_documents_the_exit_codes() {
        let help = parse(&["--help"]).unwrap_err();
        assert!(help.contains("Exit codes:"), "{help}");
        for code in ["134", "130, 143"] {
            assert!(help.contains(code), "{help}");
        }
    }

    #[test]
    fn failure_of_any_guest_is_no_success() {
        let code = |end, failures: &[&str]| {
            code(&Outcome {
                end,
                report: Report::default(),
                failures: failures.iter().map(|text| (*text).to_owned()).collect(),
            })
        };
        assert_eq!(code(End::Exit(0), &[]), 0);
        assert_eq!(code(End::Exit(3), &[]), 3);
        assert_eq!(code(End::Exit(3), &["`b` trapped"]), 3);
        assert_eq!(code(End::Exit(0), &["`b` trapped"]), 134);
        assert_eq!(code(End::Failed, &["`a` trapped"]), 134);
    }
}
