//! `tombolo run`.

use std::path::PathBuf;
use std::process::ExitCode;

use bytesize::ByteSize;
use clap::Args;

use super::compile::Compile;
use super::failure::{Failure, GUEST_FAILED};
use super::grant::{Directory, Variable};
use super::limit::Limit;
use super::manifest::{self, Described, Instead};
use super::pressure::{self, Pressure, Score};
use super::printing::Printing;
use super::say::say;
use super::signal::Signals;
use super::{codes, component, json, means, purge, report};
use tombolo::pressure::{Thresholds, detect};
use tombolo::{HostLimits, Limits};
use tombolo_app::{App, AppBuilder, CommandExit, CommandSpec, GuestSpec, Outcome, StartError};
use tombolo_region::escape;

/// Run components as the guests of one app, or the app that a manifest
/// describes.
///
/// `tombolo run a.wasm b.wasm` runs components that are named one by one. `tombolo
/// run` runs the app that `tombolo.toml` describes, in which each guest has what
/// is written there, and nothing else.
///
/// What a guest imports is linked to the guest that exports it, by interface
/// name and compatible version, unless the host offers it: WASI 0.2 and
/// `tombolo:memory`. Then all guests that export `wasi:cli/run` are started;
/// these are the commands. The others live for as long as a command runs.
///
/// What comes after `--`, `--env` and `--dir` are for the first command. No
/// other guest has arguments, variables or directories. All guests can print.
/// With a manifest, arguments after `--` follow those that it gives to the first
/// command, and `--env`, `--dir` and `--limit` are refused: it says them for each
/// guest. Other options count more than the manifest.
///
/// The signal SIGUSR1 makes a running app purge all bytes that no guest pins, as if
/// memory were short. Guests learn of the loss when they pin the bytes.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(super) struct Run {
    /// The components. A guest's name is that of its file, without `.wasm`.
    /// Without any, a manifest describes the app.
    #[arg(value_name = "GUEST.wasm", conflicts_with = "file")]
    guests: Vec<PathBuf>,

    /// The manifest. Otherwise, if no component is named, `tombolo.toml` of this
    /// directory.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

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

    /// Limit what each guest may hold and use: regions, handles, windows,
    /// descriptors, mappings, unpinned-spans (numbers); claimed-bytes, region-bytes, memory,
    /// host-memory, copy-bytes (sizes, as in `64MiB`); call-time, run-time (as in `500ms`,
    /// or `none`).
    #[arg(long = "limit", value_name = "KEY=VALUE")]
    limits: Vec<Limit>,

    #[command(flatten)]
    compile: Compile,

    /// How much memory all regions may commit, as in `64MiB`. What would go over
    /// it is made room for by purging what no guest pins, least recently unpinned
    /// first, and else refused. By default half of the machine's memory, or of the
    /// limit of the cgroup if that is less.
    #[arg(long, value_name = "SIZE")]
    budget: Option<ByteSize>,

    /// How much memory to keep free, as in `64MiB`; 0 for none. When less is left, bytes
    /// that no guest pins are purged, least recently unpinned first. When less than half
    /// of the margin is left and there is nothing to purge, memories do not grow, regions
    /// are not committed, and `--on-pressure kill` ends guests, before the kernel ends
    /// the program. Growth of guests' memories counts, touched or not. By default an
    /// eighth of the machine's memory, or of the limit of the cgroup if that is less, and
    /// 256 MiB at most.
    #[arg(long, value_name = "SIZE")]
    margin: Option<ByteSize>,

    /// What to do when memory is short; otherwise what the manifest says, or
    /// `purge`.
    #[arg(long, value_name = "WHAT")]
    on_pressure: Option<Pressure>,

    /// Score a guest, from 0 to 1000: the higher, the sooner it is ended when
    /// memory is short. Others have 500. Among guests of one score, the one
    /// that was busy longest ago goes first.
    #[arg(long = "score", value_name = "GUEST=N")]
    scores: Vec<Score>,

    /// CommandExit no guest that is scored lower; otherwise what the manifest says, or 1.
    #[arg(long, value_name = "N", value_parser = pressure::floor)]
    floor: Option<u16>,

    #[command(flatten)]
    printing: Printing,

    /// Print at the end what the guests did, on stderr: windows, regions, calls,
    /// copies, and what was purged.
    #[arg(long)]
    report: bool,

    /// Print the report as JSON, one line on stderr.
    #[arg(long)]
    json: bool,
}

/// Returns the text that `--help` shows after the options.
fn after_help() -> String {
    format!("{}\n\n{EXAMPLES}", codes::help())
}

const EXAMPLES: &str = "\
Examples:
  tombolo run
  tombolo run -f app/tombolo.toml --budget 64MiB -- /music/song.wav
  tombolo run --dir music::/music:ro player.wasm audioserver.wasm -- /music/song.wav";

impl Run {
    /// Runs it, to the end of all commands.
    pub(super) fn run(mut self) -> Result<ExitCode, Failure> {
        let with_manifest = self.file.is_some() || self.guests.is_empty();
        let (json, report) = (self.json, self.report);
        let compile = std::mem::take(&mut self.compile);
        let printing = std::mem::take(&mut self.printing);
        let (mut builder, described) = match with_manifest {
            true => {
                let (builder, described) = self.described(compile.most_bytes())?;
                (builder, Some(described))
            }
            false => (self.named(compile.most_bytes())?, None),
        };
        builder = compile.apply(builder);
        printing.apply(builder.guests_mut())?;

        means::descriptors()?;
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
        let outcome = app(builder, described, &signals)?;
        for failure in &outcome.failures {
            say(&format!("error: {}\n", escape(failure)));
        }
        if json {
            say(&format!("{}\n", json::render(&outcome.report)));
        } else if report {
            say(&report::render(&outcome.report, super::fancy()));
        }
        let code = signals.code().unwrap_or_else(|| code(&outcome));
        Ok(ExitCode::from(code))
    }

    /// The app whose guests are named one by one.
    fn named(self, most_bytes: u64) -> Result<AppBuilder, Failure> {
        let mut limits = Limits::default();
        for limit in self.limits {
            limit.apply(&mut limits);
        }
        let guests = component::read(&self.guests, most_bytes)?;
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
        if let Some(margin) = self.margin {
            host_limits.margin = margin.as_u64();
        }
        let mut builder = App::builder()
            .limits(limits)
            .host_limits(host_limits)
            .command(command)
            .on_pressure(self.on_pressure.unwrap_or_default().into())
            .oom_floor(self.floor.unwrap_or(1));
        for Score { guest, score } in self.scores {
            builder = builder.oom_score(guest, score);
        }
        for (name, wasm) in guests {
            builder = builder.guest(GuestSpec {
                name,
                wasm: wasm.into(),
                inherit_stdio: true,
                ..GuestSpec::default()
            });
        }
        Ok(builder)
    }

    /// The app that a manifest describes.
    fn described(self, most_bytes: u64) -> Result<(AppBuilder, Described), Failure> {
        let path = manifest::find(self.file, "run")?;
        let shown = path.display();
        let refused = [
            ("--dir", self.dirs.is_empty(), "dirs"),
            ("--env", self.env.is_empty(), "env` or `pass-env"),
            ("--limit", self.limits.is_empty(), "limits"),
        ];
        if let Some((option, _, key)) = refused.iter().find(|(_, unused, _)| !unused) {
            return Err(Failure::says(format!(
                "`{option}` cannot be used with a manifest, here `{shown}`"
            ))
            .hint(format!(
                "write it there, as `{key}` of the guest that is to have it"
            )));
        }
        let mut described = manifest::open(&path, most_bytes)?.good()?;
        let builder = described.builder(&Instead {
            budget: self.budget.map(|budget| budget.as_u64()),
            margin: self.margin.map(|margin| margin.as_u64()),
            on_pressure: self.on_pressure,
            floor: self.floor,
            scores: self.scores,
        });
        let command = CommandSpec {
            args: self.args,
            ..CommandSpec::default()
        };
        Ok((builder.command(command), described))
    }
}

/// Runs the app. All that this program asks of the library is here.
fn app(
    builder: AppBuilder,
    described: Option<Described>,
    signals: &Signals,
) -> Result<Outcome, Failure> {
    // Each strand can have a processor.
    let runtime = means::runtime()?;
    let purge_signal = purge::listen(&runtime).map_err(|error| {
        Failure::new(anyhow::Error::new(error).context("cannot wait for SIGUSR1"))
    })?;
    let outcome = runtime.block_on(async {
        let app = builder.start().await.map_err(|error| match described {
            Some(mut described) => {
                let problems = described.place(&error);
                described.add(problems);
                described.failure()
            }
            None => {
                let hints = hints(&error);
                hints
                    .into_iter()
                    .fold(Failure::start(&error), Failure::hint)
            }
        })?;
        signals.end(app.handle());
        tokio::spawn(purge::heed(purge_signal, app.handle()));
        Ok(app.run().await)
    });
    // Nobody waits for what the system is still at.
    runtime.shutdown_background();
    outcome
}

/// What to do about it, with what only this program knows.
fn hints(error: &StartError) -> Vec<String> {
    match error {
        StartError::NoSuchGuest(_) => {
            vec!["a guest's name is that of its file, without `.wasm`".into()]
        }
        StartError::Output { .. } => vec![means::THREADS.into()],
        _ => error.hints(),
    }
}

/// What the process ends with.
fn code(outcome: &Outcome) -> u8 {
    match outcome.end {
        // Stopped by nothing but a signal, which has its own codes.
        CommandExit::Failed | CommandExit::Stopped => GUEST_FAILED,
        CommandExit::Exit(0) if !outcome.failures.is_empty() => GUEST_FAILED,
        CommandExit::Exit(code) => code,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Command};
    use super::*;
    use tombolo_app::Report;

    fn parse(args: &[&str]) -> Result<Run, String> {
        let args = ["tombolo", "run"].iter().chain(args);
        match Cli::try_parse_from(args) {
            Ok(cli) => {
                let Command::Run(run) = cli.command else {
                    panic!("not `run`");
                };
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
    fn guests_or_a_manifest() {
        assert!(parse(&["--", "song.wav"]).unwrap().guests.is_empty());
        let run = parse(&["-f", "app.toml", "--", "song.wav"]).unwrap();
        assert_eq!(run.file, Some(PathBuf::from("app.toml")));
        let error = parse(&["a.wasm", "-f", "app.toml"]).unwrap_err();
        assert!(error.contains("cannot be used with"), "{error}");
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
        assert_eq!((run.on_pressure, run.floor), (None, None));
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
        assert_eq!(
            (run.on_pressure, run.floor),
            (Some(Pressure::Count), Some(2))
        );
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
        for code in ["134", "129, 130, 143, 152"] {
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
        assert_eq!(code(CommandExit::Exit(0), &[]), 0);
        assert_eq!(code(CommandExit::Exit(3), &[]), 3);
        assert_eq!(code(CommandExit::Exit(3), &["`b` trapped"]), 3);
        assert_eq!(code(CommandExit::Exit(0), &["`b` trapped"]), 134);
        assert_eq!(code(CommandExit::Failed, &["`a` trapped"]), 134);
    }
}
