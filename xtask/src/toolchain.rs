//! The target that guests are compiled for.

use std::io::ErrorKind;
use std::process::Command;

use anyhow::{Context, Result, bail};

use xtask_guests as guests;

/// Adds the target that guests are compiled for, unless it is installed.
pub(crate) fn add_target() -> Result<()> {
    const TARGET: &str = guests::TARGET;
    if guests::target_is_installed().context("cannot run the compiler, `rustc`")? {
        return Ok(());
    }
    eprintln!("Adding the target {TARGET}, for which guests are compiled");
    match Command::new("rustup")
        .args(["target", "add", TARGET])
        .status()
    {
        Ok(status) if !status.success() => bail!(
            "rustup could not add the target {TARGET} (see above); it needs the network for that"
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "this toolchain cannot compile for {TARGET}, and there is no rustup to add the \
             target; install rustup from https://rustup.rs, or your distribution's standard library \
             for {TARGET}"
        ),
        Err(error) => Err(error).context("cannot run rustup"),
        Ok(_) if guests::target_is_installed()? => Ok(()),
        Ok(_) => bail!(
            "rustup added the target {TARGET} to a toolchain that is not in use; remove the \
             `rustc` that is not rustup's from the path"
        ),
    }
}
