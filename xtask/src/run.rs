//! Running other programs.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use xtask_guests as guests;

/// Returns the root of the workspace.
///
/// Cargo names it when it starts this program. The place where this program was built may
/// be another: a checkout can move, and several can share a target directory.
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package.parent().expect("a member lies in its workspace");
        root.to_owned()
    })
}

/// Returns the target directory: this program is `<target>/<profile>/xtask`.
pub(crate) fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2);
    Ok(target
        .context("xtask lies in no target directory")?
        .to_owned())
}

/// Returns the command that runs a subcommand of cargo on the workspace's default members,
/// also from within one of them.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut cargo = guests::cargo();
    cargo.args([subcommand, "--manifest-path"]);
    cargo.arg(root().join("Cargo.toml"));
    cargo
}

/// Returns the target for which this machine compiles by default.
pub(crate) fn host_target() -> Result<String> {
    let output = Command::new("rustc")
        .args(["--print", "host-tuple"])
        .output()
        .context("cannot run the compiler, `rustc`")?;
    if !output.status.success() {
        bail!("rustc failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Runs a command that must succeed. `what` names it in the error.
pub(crate) fn run(command: &mut Command, what: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{what} failed, see above");
    }
    Ok(())
}

/// Returns the exit code to pass on, as a shell does: 128 plus the signal's number for a
/// program that was killed.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    #[cfg(unix)]
    use std::os::unix::process::ExitStatusExt;
    #[cfg(unix)]
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    #[cfg(not(unix))]
    let code = status.code();
    match code.map(u8::try_from) {
        Some(Ok(code)) => code.into(),
        _ => ExitCode::FAILURE,
    }
}
