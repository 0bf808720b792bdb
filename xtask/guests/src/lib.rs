//! Building guests, by a cargo that another cargo started.
//!
//! The commands of this repository and the build script of its tests use it, so that both
//! find the same files.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that guests are compiled for.
pub const TARGET: &str = "wasm32-wasip2";

/// Returns whether the compiler has the standard library of [`TARGET`].
///
/// Asks the compiler and not rustup, which does not manage every toolchain.
///
/// # Errors
///
/// Fails when there is no compiler to ask.
pub fn target_is_installed() -> std::io::Result<bool> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()?;
    let directory = String::from_utf8_lossy(&output.stdout);
    Ok(output.status.success() && Path::new(directory.trim()).is_dir())
}

/// Returns the directory that guests are built into.
///
/// It is the same for `xtask` and for the tests, so that guests are built once,
/// and not the workspace's own, whose lock the cargo that waits for us holds.
pub fn directory(target: &Path) -> PathBuf {
    target.join("guests")
}

/// Returns where the guest that is built as `name` is found.
pub fn artifact(target: &Path, name: &str) -> PathBuf {
    directory(target)
        .join(TARGET)
        .join("release")
        .join(format!("{name}.wasm"))
}

/// Returns the command that builds the guests of `packages`.
pub fn build(target: &Path, packages: &[&str]) -> Command {
    let mut cargo = cargo();
    cargo
        .args(["build", "--release", "--target", TARGET, "--target-dir"])
        .arg(directory(target));
    for package in packages {
        cargo.args(["--package", package]);
    }
    // These are about the host program: sanitizers, the native processor's
    // instructions, clippy in the compiler's place.
    for name in [
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_ENCODED_RUSTFLAGS",
        "CLIPPY_ARGS",
        "RUSTC_LINKER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
    ] {
        cargo.env_remove(name);
    }
    cargo
}

/// Returns a command that starts cargo as from a shell.
///
/// The outer cargo sets variables that describe the package at hand. A build script that
/// watches such variables would run again whenever the two ways of starting cargo
/// alternate, as if its package had changed.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        if describes_a_package(&name) {
            cargo.env_remove(name);
        }
    }
    cargo
}

fn describes_a_package(name: &OsString) -> bool {
    const NAMES: &[&str] = &[
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "DEBUG",
        "HOST",
        "NUM_JOBS",
        "OPT_LEVEL",
        "OUT_DIR",
        "PROFILE",
        "TARGET",
    ];
    const PREFIXES: &[&str] = &[
        "CARGO_BIN_",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "DEP_",
    ];
    NAMES.iter().any(|known| name == OsStr::new(known))
        || PREFIXES
            .iter()
            .any(|prefix| name.to_string_lossy().starts_with(prefix))
}
