//! `tombolo run`: runs an app from components or from a manifest.

use std::path::PathBuf;
use std::process::ExitCode;

use bytesize::ByteSize;
use clap::Args;

use super::compile::Compile;
use super::failure::{CommandFailure, GUEST_FAILED};
use super::grant::{Directory, Variable};
use super::guest_output::GuestOutput;
use super::limit::Limit;
use super::manifest::{self, DescribedApp, Overrides};
use super::pressure::{self, Pressure, Score};
use super::signal::ShutdownSignals;
use super::{component, exit_codes, json, purge_signal, report, resources, stderr};
use tombolo::pressure::{Thresholds, detect};
use tombolo::{HostLimits, Limits};
use tombolo_app::internal::AppBuilderInternals as _;
use tombolo_app::{App, AppBuilder, CommandExit, CommandSpec, GuestSpec, Outcome, StartError};
use tombolo_region::escape;

/// Run an app: components, or the guests of a manifest.
///
/// `tombolo run a.wasm b.wasm` runs the components as guests of one app.
/// `tombolo run` runs the app that `tombolo.toml` describes. There each guest
/// gets what the manifest grants it, and nothing else.
///
/// Each import of a guest is linked to the host (WASI 0.2, `tombolo:memory` and
/// `tombolo:app`), or else to the guest that exports the interface in a
/// compatible version. Then all guests that export `wasi:cli/run` start. They
/// are the commands. The other guests serve calls while any command runs.
///
/// `--env`, `--dir` and the arguments after `--` are for the first command.
/// Other guests get no arguments, variables or directories. All guests can
/// print. With a manifest, the arguments after `--` follow those of the first
/// command in the manifest. `--env`, `--dir` and `--limit` are then refused,
/// because the manifest sets them for each guest. `--budget`, `--margin`,
/// `--on-pressure`, `--oom-floor` and `--oom-score` override the manifest.
///
/// The signal SIGUSR1 makes a running app purge all bytes that no guest pins,
/// as if memory were short. Guests learn of the loss when they pin the bytes.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(super) struct RunCommand {
    /// The components. A guest is named after its file, without `.wasm`.
    /// Without any, a manifest describes the app.
    #[arg(value_name = "GUEST.wasm", conflicts_with = "file")]
    guests: Vec<PathBuf>,

    /// The manifest, if no component is named [default: tombolo.toml].
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Arguments for the first command.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,

    /// Grant a directory to the first command, at the path GUEST if given.
    /// `:ro` grants it for reading only.
    #[arg(long = "dir", value_name = "HOST[::GUEST][:ro]")]
    dirs: Vec<Directory>,

    /// Set an environment variable for the first command. Without a value,
    /// pass on the variable of this process.
    #[arg(long, value_name = "KEY[=VALUE]")]
    env: Vec<Variable>,

    /// Set a limit of each guest.
    ///
    /// Counts: `regions`, `handles`, `windows`, `vmas`, `descriptors`,
    /// `unpinned-spans`, `tasks`. Sizes, as in `64MiB`: `claimed-bytes`,
    /// `region-bytes`, `copy-bytes`, `memory`, `host-memory`. Times, as in `500ms`,
    /// or `none`: `call-time`, `run-time`.
    #[arg(long = "limit", value_name = "KEY=VALUE")]
    limits: Vec<Limit>,

    #[command(flatten)]
    compile: Compile,

    /// Set the memory that all regions together may commit, as in `64MiB`.
    ///
    /// A commit beyond the budget first purges bytes that no guest pins, the
    /// least recently unpinned ones first. If that is not enough, it is refused.
    /// The default is half of the machine's memory, or of the cgroup's limit if
    /// that is less.
    #[arg(long, value_name = "SIZE")]
    budget: Option<ByteSize>,

    /// Set the memory to keep free, as in `64MiB`; 0 for none.
    ///
    /// If less is free, bytes that no guest pins are purged, the least recently
    /// unpinned ones first. If less than half of the margin is free and nothing
    /// can be purged, memories do not grow, regions are not committed, and
    /// `--on-pressure kill` terminates guests before the kernel kills the
    /// program. Growth of a guest's memory counts before it is touched. The
    /// default is an eighth of the machine's memory, or of the cgroup's limit if
    /// that is less, and at most 256 MiB.
    #[arg(long, value_name = "SIZE")]
    margin: Option<ByteSize>,

    /// Set the reaction to memory pressure. The default is the manifest's
    /// `on-pressure`, or `purge`.
    #[arg(long, value_name = "REACTION")]
    on_pressure: Option<Pressure>,

    /// Set a guest's score, from 0 to 1000. The default is the manifest's
    /// `oom-score`, or 500.
    ///
    /// Under memory pressure, `--on-pressure kill` terminates the guest with the
    /// highest score first. Among guests of one score, it terminates the one
    /// that has been idle for longest.
    #[arg(long = "oom-score", value_name = "GUEST=N")]
    oom_scores: Vec<Score>,

    /// Never terminate guests with a lower score for memory. The default is the
    /// manifest's `oom-floor`, or 1.
    #[arg(long, value_name = "N", value_parser = pressure::oom_floor)]
    oom_floor: Option<u16>,

    #[command(flatten)]
    output: GuestOutput,

    /// At the end, print a report on stderr: windows, regions, calls, copied
    /// and purged bytes.
    #[arg(long)]
    report: bool,

    /// Print the report as one line of JSON on stderr.
    #[arg(long)]
    json: bool,
}

/// Returns the text that `--help` shows after the options.
fn after_help() -> String {
    format!("{}\n\n{EXAMPLES}", exit_codes::help())
}

const EXAMPLES: &str = "\
Examples:
  tombolo run
  tombolo run -f app/tombolo.toml --budget 64MiB -- /music/song.wav
  tombolo run --dir music::/m:ro player.wasm audioserver.wasm -- /m/song.wav";

impl RunCommand {
    /// Runs the app until all commands have ended.
    pub(super) fn run(mut self) -> Result<ExitCode, CommandFailure> {
        let with_manifest = self.file.is_some() || self.guests.is_empty();
        let (json, report) = (self.json, self.report);
        let compile = std::mem::take(&mut self.compile);
        let output = std::mem::take(&mut self.output);
        let (mut builder, described) = match with_manifest {
            true => {
                let (builder, described) = self.describe(compile.max_component_bytes())?;
                (builder, Some(described))
            }
            false => (self.name(compile.max_component_bytes())?, None),
        };
        builder = compile.apply(builder);
        output.apply(builder.guests_mut())?;

        resources::check_descriptors()?;
        let detected = detect(Thresholds::default());
        let note = detected.note().to_owned();
        match detected.into_source() {
            Some(source) => {
                tracing::info!("{note}");
                builder = builder.pressure(source);
            }
            None => tracing::warn!("{note}"),
        }

        let signals = ShutdownSignals::listen()?;
        let outcome = run_app(builder, described, &signals)?;
        for failure in &outcome.failures {
            stderr::print(&format!("error: {}\n", escape(failure)));
        }
        if json {
            stderr::print(&format!("{}\n", json::render(&outcome.report)));
        } else if report {
            stderr::print(&report::render(&outcome.report, stderr::has_colours()));
        }
        let code = signals.code().unwrap_or_else(|| code(&outcome));
        Ok(ExitCode::from(code))
    }

    /// Returns the app of the named components.
    fn name(self, max_component_bytes: u64) -> Result<AppBuilder, CommandFailure> {
        let mut limits = Limits::default();
        for limit in self.limits {
            limit.apply(&mut limits);
        }
        let guests = component::read(&self.guests, max_component_bytes)?;
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
            .oom_floor(self.oom_floor.unwrap_or(1));
        for Score { guest, score } in self.oom_scores {
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

    /// Returns the app that a manifest describes.
    fn describe(
        self,
        max_component_bytes: u64,
    ) -> Result<(AppBuilder, DescribedApp), CommandFailure> {
        let path = manifest::find(self.file, "run")?;
        let shown = path.display();
        let refused = [
            ("--dir", self.dirs.is_empty(), "dirs"),
            ("--env", self.env.is_empty(), "env` or `pass-env"),
            ("--limit", self.limits.is_empty(), "limits"),
        ];
        if let Some((option, _, key)) = refused.iter().find(|(_, unused, _)| !unused) {
            return Err(CommandFailure::msg(format!(
                "`{option}` cannot be used with a manifest, which is `{shown}`"
            ))
            .hint(format!("set `{key}` of the guest in the manifest instead")));
        }
        let mut described = manifest::open(&path, max_component_bytes)?.good()?;
        let builder = described.builder(&Overrides {
            budget: self.budget.map(|budget| budget.as_u64()),
            margin: self.margin.map(|margin| margin.as_u64()),
            on_pressure: self.on_pressure,
            oom_floor: self.oom_floor,
            oom_scores: self.oom_scores,
        });
        let command = CommandSpec {
            args: self.args,
            ..CommandSpec::default()
        };
        Ok((builder.command(command), described))
    }
}

/// Starts the app and runs it to its end.
fn run_app(
    builder: AppBuilder,
    described: Option<DescribedApp>,
    signals: &ShutdownSignals,
) -> Result<Outcome, CommandFailure> {
    // Each strand can have a processor.
    let runtime = resources::runtime()?;
    let purges = purge_signal::listen(&runtime).map_err(|error| {
        CommandFailure::new(anyhow::Error::new(error).context("cannot listen for SIGUSR1"))
    })?;
    let outcome = runtime.block_on(async {
        let app = builder.start().await.map_err(|error| match described {
            Some(mut described) => {
                let problems = described.locate(&error);
                described.add(problems);
                described.failure()
            }
            None => {
                let hints = hints(&error);
                hints
                    .into_iter()
                    .fold(CommandFailure::start(&error), CommandFailure::hint)
            }
        })?;
        signals.shut_down(app.handle());
        tokio::spawn(purge_signal::serve(purges, app.handle()));
        Ok(app.run().await)
    });
    // Pending system calls do not delay the exit.
    runtime.shutdown_background();
    outcome
}

/// Returns the hints for an error, with those that only this program knows.
fn hints(error: &StartError) -> Vec<String> {
    match error {
        StartError::NoSuchGuest(_) => {
            vec!["a guest is named after its file, without `.wasm`".into()]
        }
        StartError::Output { .. } => vec![resources::THREADS.into()],
        _ => error.hints(),
    }
}

/// Returns the exit code of the process.
fn code(outcome: &Outcome) -> u8 {
    match outcome.end {
        // Only a signal stops an app, and it has a code of its own.
        CommandExit::Failed | CommandExit::Stopped => GUEST_FAILED,
        CommandExit::Exit(0) if !outcome.failures.is_empty() => GUEST_FAILED,
        CommandExit::Exit(code) => code,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// A program that is the command `run` alone.
    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        run: RunCommand,
    }

    fn parse(args: &[&str]) -> Result<RunCommand, String> {
        let parsed = Program::try_parse_from(["run"].iter().chain(args));
        let parsed = parsed.map_err(|error| error.to_string());
        parsed.map(|program| program.run)
    }

    #[test]
    fn arguments_after_dashes_are_for_the_command() {
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
    fn components_exclude_a_manifest() {
        assert!(parse(&["--", "song.wav"]).unwrap().guests.is_empty());
        let run = parse(&["-f", "app.toml", "--", "song.wav"]).unwrap();
        assert_eq!(run.file, Some(PathBuf::from("app.toml")));
        let error = parse(&["a.wasm", "-f", "app.toml"]).unwrap_err();
        assert!(error.contains("cannot be used with"), "{error}");
    }

    #[test]
    fn unknown_option_suggests_dashes() {
        let error = parse(&["a.wasm", "--loud"]).unwrap_err();
        assert!(error.contains("'-- --loud'"), "{error}");
    }

    #[test]
    fn unknown_limit_is_refused() {
        let error = parse(&["a.wasm", "--limit", "window=3"]).unwrap_err();
        assert!(error.contains("there is no limit `window`"), "{error}");
    }

    #[test]
    fn pressure_options_are_parsed() {
        let run = parse(&["a.wasm"]).unwrap();
        assert_eq!((run.on_pressure, run.oom_floor), (None, None));
        let run = parse(&[
            "a.wasm",
            "--on-pressure",
            "dry-run",
            "--oom-score",
            "a=3",
            "--oom-score",
            "b=4",
            "--oom-floor",
            "2",
        ])
        .unwrap();
        assert_eq!(
            (run.on_pressure, run.oom_floor),
            (Some(Pressure::DryRun), Some(2))
        );
        assert_eq!(run.oom_scores.len(), 2);
        let error = parse(&["a.wasm", "--on-pressure", "panic"]).unwrap_err();
        assert!(error.contains("purge, dry-run, kill"), "{error}");
        let error = parse(&["a.wasm", "--oom-score", "a"]).unwrap_err();
        assert!(error.contains("for example `player=900`"), "{error}");
        let error = parse(&["a.wasm", "--oom-floor", "1001"]).unwrap_err();
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
    fn failed_guest_changes_code_0_to_134() {
        let code = |end, failures: &[&str]| {
            let mut outcome = Outcome::default();
            outcome.end = end;
            outcome.failures = failures.iter().map(|text| (*text).to_owned()).collect();
            code(&outcome)
        };
        assert_eq!(code(CommandExit::Exit(0), &[]), 0);
        assert_eq!(code(CommandExit::Exit(3), &[]), 3);
        assert_eq!(code(CommandExit::Exit(3), &["`b` trapped"]), 3);
        assert_eq!(code(CommandExit::Exit(0), &["`b` trapped"]), 134);
        assert_eq!(code(CommandExit::Failed, &["`a` trapped"]), 134);
    }
}
