//! The pinned nightly toolchain, which Miri and the fuzzers need.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::run;

/// The file that pins it. Commands within `fuzz` use it by themselves.
const FILE: &str = "fuzz/rust-toolchain.toml";

/// Returns a command that starts the nightly's cargo, in the root of the workspace.
pub(crate) fn cargo() -> Result<Command> {
    let mut cargo = Command::new("rustup");
    cargo
        .args(["run", &toolchain()?, "cargo"])
        .current_dir(run::root());
    // These name the stable toolchain.
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        cargo.env_remove(name);
    }
    cargo.env("CARGO_TARGET_DIR", run::target()?);
    Ok(cargo)
}

/// Returns the name of the toolchain, for example `nightly-2026-05-20`.
pub(crate) fn toolchain() -> Result<String> {
    let text = fs::read_to_string(run::root().join(FILE));
    let text = text.with_context(|| format!("cannot read {FILE}"))?;
    channel(&text).with_context(|| format!("{FILE} has no `toolchain.channel`"))
}

fn channel(text: &str) -> Option<String> {
    let file: toml_edit::DocumentMut = text.parse().ok()?;
    Some(file.get("toolchain")?.get("channel")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_is_read() {
        let text = "# a\n[toolchain]\nchannel = \"nightly-2026-05-20\"\nprofile = \"minimal\"\n";
        assert_eq!(channel(text).as_deref(), Some("nightly-2026-05-20"));
        assert_eq!(channel("[toolchain]\n"), None);
    }
}
