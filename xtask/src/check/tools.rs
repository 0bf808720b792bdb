//! The steps that call other tools: rustfmt, clippy, rustdoc, cargo-deny and the like.

use std::process::Command;

use anyhow::{Result, bail};

use super::metadata::{self, Package};
use crate::packages::{
    GUESTS, INSTRUCTIONS, NATIVE_GUESTS, RACES, TOOLS, TOOLS_PROFILE, WITHOUT_WASMTIME,
};
use crate::run;
use xtask_guests as guests;

pub(crate) fn format() -> Result<()> {
    // Not on the default members alone, and not with the manifest's path twice.
    let mut cargo = guests::cargo();
    cargo.current_dir(run::root());
    run::run(cargo.args(["fmt", "--all", "--check"]), "cargo fmt")?;
    for manifest in ["fuzz/Cargo.toml", "tests/compare/Cargo.toml"] {
        let mut cargo = guests::cargo();
        cargo.current_dir(run::root());
        cargo.args(["fmt", "--check", "--manifest-path", manifest]);
        run::run(&mut cargo, manifest)?;
    }
    Ok(())
}

pub(crate) fn lint_host() -> Result<()> {
    clippy(&["--all-targets"])?;
    for package in RACES.iter().chain(&[INSTRUCTIONS]) {
        clippy(&["--all-targets", "-p", package])?;
    }
    clippy(&["--all-targets", "--profile", TOOLS_PROFILE, "-p", TOOLS])?;
    // Without the program's features, as an embedder may use it. With the same selection of
    // packages, so that wasmtime is not checked once more.
    clippy(&["--lib", "--no-default-features"])?;
    lint_locks()
}

/// Lints the pure crates with the locks of shuttle. A lock of std is then one whose races the
/// tests do not try.
fn lint_locks() -> Result<()> {
    let mut cargo = run::cargo("clippy");
    cargo.env("CLIPPY_CONF_DIR", run::root().join("xtask/locks"));
    cargo.args(["--lib", "-p", "tombolo-region", "-p", "tombolo-exchange"]);
    cargo.args(["--features", "shuttle"]);
    cargo.args(["--", "-D", "warnings"]);
    run::run(&mut cargo, "clippy, for locks")
}

pub(crate) fn lint_guests() -> Result<()> {
    let selected = |packages: &[&'static str]| {
        let arguments = packages.iter().flat_map(|&it| ["-p", it]);
        arguments.collect::<Vec<_>>()
    };
    // Built as for the tests, to share what was compiled for these.
    let directory = guests::directory(&run::target()?);
    let directory = directory.to_string_lossy();
    let mut arguments = vec!["--release", "--target", guests::TARGET];
    arguments.extend(["--target-dir", &*directory]);
    arguments.extend(selected(GUESTS));
    clippy(&arguments)?;

    let mut arguments = vec!["--all-targets"];
    arguments.extend(selected(NATIVE_GUESTS));
    clippy(&arguments)
}

fn clippy(arguments: &[&str]) -> Result<()> {
    let mut cargo = run::cargo("clippy");
    cargo.args(arguments).args(["--", "-D", "warnings"]);
    run::run(&mut cargo, "clippy")
}

pub(crate) fn document() -> Result<()> {
    // The published pages of the SDK have all features, too.
    for package in [&[][..], &["-p", "tombolo-guest", "--all-features"]] {
        let mut cargo = run::cargo("doc");
        cargo.arg("--no-deps").args(package);
        cargo.env("RUSTDOCFLAGS", "-D warnings");
        run::run(&mut cargo, "rustdoc")?;
    }
    Ok(())
}

/// Checks licences, duplicates and sources of dependencies.
pub(crate) fn deny() -> Result<()> {
    cargo_deny(&["bans", "licenses", "sources"])
}

/// Checks dependencies against a database of advisories, which cargo-deny fetches.
pub(crate) fn audit() -> Result<()> {
    cargo_deny(&["advisories"])
}

fn cargo_deny(checks: &[&str]) -> Result<()> {
    let mut cargo = guests::cargo();
    cargo
        .current_dir(run::root())
        .args(["deny", "check"])
        .args(checks);
    run::run(&mut cargo, "cargo deny")
}

/// Packages each published crate. Builds only those from their packages that do not need
/// wasmtime, which would be built once more for the others.
pub(crate) fn package() -> Result<()> {
    let published = published()?;
    let package = |arguments: &[&str], packages: &[&str]| {
        let mut cargo = run::cargo("package");
        cargo.args(["--allow-dirty", "--quiet"]).args(arguments);
        for package in packages {
            cargo.args(["-p", package]);
        }
        run::run(&mut cargo, "cargo package")
    };
    let all: Vec<_> = published.iter().map(|it| it.name.as_str()).collect();
    package(&["--no-verify"], &all)?;
    package(&[], WITHOUT_WASMTIME)
}

fn published() -> Result<Vec<Package>> {
    let mut packages = metadata::packages()?;
    packages.retain(|package| package.is_published);
    if packages.is_empty() {
        bail!("the workspace has no package to publish");
    }
    Ok(packages)
}

/// Checks each published crate without features, and with each of its features alone.
///
/// Each is selected alone, so that no other crate enables a feature for it. Where that
/// changes the features of wasmtime, cargo checks wasmtime once more.
pub(crate) fn features() -> Result<()> {
    for package in published()? {
        for features in feature_sets(&package) {
            eprintln!("Checking {} {}", package.name, features.join(" "));
            let mut cargo = run::cargo("check");
            cargo.args(["--quiet", "-p", &package.name]).args(&features);
            run::run(
                &mut cargo,
                &format!("{} {}", package.name, features.join(" ")),
            )?;
        }
    }
    Ok(())
}

/// Returns the arguments by which cargo enables no feature, each feature alone, and the
/// default ones.
fn feature_sets(package: &Package) -> Vec<Vec<String>> {
    let own = |it: &&String| *it != "default";
    let single = package.features.iter().filter(own);
    let single = single.map(|it| {
        let arguments = ["--no-default-features", "--features", it];
        arguments.map(str::to_owned).to_vec()
    });
    let none = vec!["--no-default-features".to_owned()];
    let has_default = package.features.iter().any(|it| it == "default");
    let default = has_default.then(Vec::new);
    std::iter::once(none).chain(single).chain(default).collect()
}

pub(crate) fn count_instructions() -> Result<()> {
    let mut cargo: Command = run::cargo("bench");
    run::run(cargo.args(["-p", INSTRUCTIONS]), "counting instructions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_is_enabled_alone() {
        let package = Package {
            name: "a".to_owned(),
            dependencies: Vec::new(),
            features: ["default", "loom", "serde"].map(str::to_owned).to_vec(),
            is_published: true,
        };
        let sets = feature_sets(&package);
        let sets: Vec<_> = sets.iter().map(|it| it.join(" ")).collect();
        assert_eq!(
            sets,
            [
                "--no-default-features",
                "--no-default-features --features loom",
                "--no-default-features --features serde",
                "",
            ]
        );
    }
}
