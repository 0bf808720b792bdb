//! The program `tombolo`, from outside.

use std::process::{Command, Output};

/// Runs `tombolo` with these arguments to its end.
fn tombolo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tombolo"))
        .args(arguments)
        .output()
        .expect("cargo built it")
}

#[test]
fn help_succeeds() {
    let output = tombolo(&["--help"]);
    assert!(output.status.success(), "{output:?}");
}
