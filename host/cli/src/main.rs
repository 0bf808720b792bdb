//! The program `tombolo`: runs, checks and inspects apps.
//!
//! Guests print to their own destinations. The program's own messages go to stderr, so that
//! the stdout of guests can be piped.
#![forbid(unsafe_code)]

mod check;
mod compile;
mod component;
mod exit_codes;
mod failure;
mod grant;
mod guest_output;
mod inspect;
mod json;
mod limit;
mod log;
mod manifest;
mod pressure;
mod purge_signal;
mod rate_limit;
mod report;
mod resources;
mod run;
mod signal;
mod stderr;
mod stdout;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rustix::process::{Resource, getrlimit};

use tombolo_app::CompilerProcess;
use tombolo_region::escape;

/// Run WebAssembly sandboxes that share memory.
///
/// An app consists of guests, which are WebAssembly components. Name them
/// (`tombolo run a.wasm b.wasm`), or describe the app in a manifest,
/// `tombolo.toml` (`tombolo run`).
#[derive(Debug, Parser)]
#[command(
    name = "tombolo",
    version,
    disable_help_subcommand = true,
    max_term_width = 80,
    after_help = exit_codes::help()
)]
struct Cli {
    /// Log the life of regions and windows and the calls between guests, on
    /// stderr.
    ///
    /// The environment variable `TOMBOLO_LOG` selects events in more detail,
    /// for example `TOMBOLO_LOG=tombolo_app=debug`.
    #[arg(short, long, global = true, overrides_with = "verbose")]
    verbose: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunCommand),
    Check(check::CheckCommand),
    Inspect(inspect::InspectCommand),
    /// Print the JSON schema of manifests, for editors.
    Schema,
    /// Compile components for another process of this program.
    #[command(name = compile::COMMAND, hide = true)]
    CompileComponents,
}

/// The stack size of the thread that compiles and starts guests, in bytes. The main thread
/// usually has as much, but less under a lower `RLIMIT_STACK`.
const STACK: usize = 8 << 20;

/// Runs the program with the arguments of this process.
fn main() -> ExitCode {
    stderr::install_panic_hook();
    signal::unblock_inherited();
    let limit = getrlimit(Resource::Stack).current;
    if limit.is_some_and(|limit| limit < STACK as u64) {
        let roomy = std::thread::Builder::new().stack_size(STACK);
        if let Ok(thread) = roomy.name("tombolo-main".into()).spawn(with_arguments) {
            // The exit code of a panic of the main thread.
            return thread.join().unwrap_or(ExitCode::from(101));
        }
    }
    with_arguments()
}

fn with_arguments() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(error),
    };
    if let Command::CompileComponents = cli.command {
        return CompilerProcess::serve();
    }
    let rate_limit = rate_limit::RateLimit::default();
    let result = log::init(cli.verbose, rate_limit.clone()).and_then(|()| match cli.command {
        Command::Run(run) => run.run(),
        Command::Check(check) => check.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Schema => stdout::print(&manifest::schema()),
        Command::CompileComponents => Ok(ExitCode::SUCCESS),
    });
    rate_limit.finish();
    let code = match result {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            failure.code()
        }
    };
    stderr::finish();
    code
}

/// Prints the help, the version, or a usage error, in which the arguments are escaped.
fn usage(error: clap::Error) -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let escaped: Vec<String> = arguments
        .iter()
        .map(|argument| escape(argument).to_string())
        .collect();
    let error = match arguments == escaped {
        true => error,
        // Usually the escaped arguments contain the same mistake. If not, the escaped
        // characters are the mistake.
        false => Cli::try_parse_from(&escaped).err().unwrap_or(error),
    };
    let text = error.render();
    if error.use_stderr() {
        match stderr::has_colours() {
            true => stderr::print(&text.ansi().to_string()),
            false => stderr::print(&text.to_string()),
        }
        return ExitCode::from(failure::NOT_STARTED);
    }
    stdout::print(&text.to_string()).unwrap_or(ExitCode::from(failure::NOT_STARTED))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_are_well_defined() {
        Cli::command().debug_assert();
    }
}
