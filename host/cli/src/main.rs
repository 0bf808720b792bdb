//! The program `tombolo`: parses arguments, calls the library, prints.
//!
//! What guests print goes where they print it. All that the program itself has
//! to say goes to stderr, so that a guest's stdout can be piped.
#![forbid(unsafe_code)]

mod check;
mod codes;
mod compile;
mod component;
mod failure;
mod grant;
mod inspect;
mod json;
mod limit;
mod log;
mod manifest;
mod means;
mod pressure;
mod printing;
mod purge;
mod repeats;
mod report;
mod run;
mod say;
mod signal;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand};
use rustix::process::{Resource, getrlimit};

use tombolo_app::CompilerProcess;
use tombolo_region::escape;

use self::failure::Failure;

/// Run WebAssembly sandboxes that share memory.
///
/// An app is a number of guests: components, named one by one (`tombolo run
/// a.wasm b.wasm`), or described in a manifest, `tombolo.toml` (`tombolo run`).
#[derive(Debug, Parser)]
#[command(name = "tombolo", version, disable_help_subcommand = true, after_help = codes::help())]
struct Cli {
    /// Show what happens, on stderr: `-v` the life of regions and windows and
    /// the calls between guests, `-vv` all steps. The environment variable
    /// `TOMBOLO_LOG` says more exactly what to show, as in
    /// `TOMBOLO_LOG=tombolo=trace`.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    Inspect(inspect::Inspect),
    /// Print the JSON schema of manifests, for editors.
    Schema,
    /// Compile components for another process of this program.
    #[command(name = compile::COMMAND, hide = true)]
    CompileComponents,
}

/// The stack of the thread that compiles and starts guests, in bytes. The main thread usually
/// has as much, but less under a lower `RLIMIT_STACK`.
const STACK: usize = 8 << 20;

/// Runs the program with the arguments of this process.
fn main() -> ExitCode {
    say::panics();
    signal::sanitize();
    let limit = getrlimit(Resource::Stack).current;
    if limit.is_some_and(|limit| limit < STACK as u64) {
        let roomy = std::thread::Builder::new().stack_size(STACK);
        if let Ok(thread) = roomy.name("tombolo-main".into()).spawn(with_arguments) {
            // As for a panic of the main thread.
            return thread.join().unwrap_or(ExitCode::from(101));
        }
    }
    with_arguments()
}

fn with_arguments() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => return usage(said),
    };
    if let Command::CompileComponents = cli.command {
        return CompilerProcess::serve();
    }
    let repeats = repeats::Repeats::default();
    let done = log::show(cli.verbose, repeats.clone()).and_then(|()| match cli.command {
        Command::Run(run) => run.run(),
        Command::Check(check) => check.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Schema => print(&manifest::schema()),
        Command::CompileComponents => Ok(ExitCode::SUCCESS),
    });
    repeats.finish();
    let code = match done {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            failure.code()
        }
    };
    say::finish();
    code
}

/// Prints what there is instead of arguments to work with: help, the version, or what is
/// wrong with them, in which they are escaped.
fn usage(said: clap::Error) -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let escaped: Vec<String> = arguments
        .iter()
        .map(|argument| escape(argument).to_string())
        .collect();
    let said = match arguments == escaped {
        true => said,
        // The same mistake, in other letters; or, if it was in the letters, the mistake
        // itself.
        false => Cli::try_parse_from(&escaped).err().unwrap_or(said),
    };
    let text = said.render();
    if said.use_stderr() {
        match fancy() {
            true => say::say(&text.ansi().to_string()),
            false => say::say(&text.to_string()),
        }
        return ExitCode::from(failure::NOT_STARTED);
    }
    print(&text.to_string()).unwrap_or(ExitCode::from(failure::NOT_STARTED))
}

/// Prints a result.
fn print(text: &str) -> Result<ExitCode, Failure> {
    let mut stdout = io::stdout().lock();
    let printed = stdout
        .write_all(say::plain(text).as_bytes())
        .and_then(|()| stdout.flush());
    match printed {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // Who reads it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::new(
            anyhow::Error::new(error).context("cannot print"),
        )),
    }
}

/// Whether stderr can show more than plain text.
fn fancy() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
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
