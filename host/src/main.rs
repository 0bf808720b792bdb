//! The program `tombolo`; what it does is in the library's module `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tombolo::cli::main()
}
