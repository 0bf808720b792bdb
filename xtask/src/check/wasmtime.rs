//! The steps `one-wasmtime` and `one-wasmtime-built`: whether every command of this
//! repository shares one build of wasmtime, which takes minutes.
//!
//! `cargo build` ignores the features that development dependencies enable, and `cargo
//! test` does not. So the two build a crate twice if they share it with such a dependency.
//! The package `workspace-features` enables these features for all commands.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::metadata;
use super::tree::{self, Unit};
use crate::run;

/// The package that enables the features that all commands share.
const SHARED: &str = "workspace-features";

/// The selections of packages and features of this repository: a subcommand of cargo and
/// its arguments.
const SELECTIONS: &[(&str, &str)] = &[
    ("build", ""),
    // The same with the features of an embedder that enables nothing.
    ("clippy", "--no-default-features"),
    ("test", "-p tombolo -p workspace-features"),
    ("test", "-p tombolo-app -p workspace-features"),
    ("test", "-p tombolo-cli -p workspace-features"),
    ("test", "-p tombolo-race-tests"),
    ("test", "-p tombolo-loom-tests"),
];

/// Returns one line for each crate of wasmtime's that a command would build again.
///
/// Compiles nothing.
pub(crate) fn check() -> Result<Vec<String>> {
    let closure = closure(&metadata::full()?)?;
    let all = units("test", "")?;
    let mut errors = Vec::new();
    for (subcommand, arguments) in SELECTIONS {
        let units = units(subcommand, arguments)?;
        let command = format!("cargo {subcommand} {arguments}");
        let others = different(&units, &all, &closure).into_iter();
        errors.extend(others.map(|unit| explain(command.trim_end(), unit, &all)));
    }
    Ok(errors)
}

/// Returns the units that a command of cargo builds.
fn units(subcommand: &str, arguments: &str) -> Result<BTreeSet<Unit>> {
    let edges = match subcommand {
        "test" => "normal,build,dev",
        _ => "normal,build",
    };
    let arguments = arguments.split_whitespace().chain(["--edges", edges]);
    tree::units(&arguments.collect::<Vec<_>>())
}

/// Returns the units of `closure` in `units` that are not built like that in `all`.
fn different<'a>(
    units: &'a BTreeSet<Unit>,
    all: &BTreeSet<Unit>,
    closure: &BTreeSet<String>,
) -> Vec<&'a Unit> {
    let has_wasmtime = units.iter().any(|unit| is_wasmtime(&unit.package));
    let units = units
        .iter()
        .filter(|unit| has_wasmtime && closure.contains(&unit.package));
    units.filter(|unit| !all.contains(unit)).collect()
}

fn explain(selection: &str, unit: &Unit, all: &BTreeSet<Unit>) -> String {
    let same = |other: &&Unit| other.package == unit.package && other.for_build == unit.for_build;
    let other = all.iter().find(same).map(|other| &other.features);
    let list = |from: &BTreeSet<String>, without: &BTreeSet<String>| {
        let features: Vec<_> = from
            .difference(without)
            .map(|it| format!("`{it}`"))
            .collect();
        features.join(", ")
    };
    let section = if unit.for_build {
        "build-dependencies"
    } else {
        "dependencies"
    };
    match other {
        None => format!(
            "`{selection}` builds {}, and `cargo test` does not",
            unit.package
        ),
        Some(other) if unit.features.is_subset(other) => format!(
            "`{selection}` builds {} without {}, which `cargo test` enables: enable that in \
             `[{section}]` of `{SHARED}`",
            unit.package,
            list(other, &unit.features),
        ),
        Some(other) => format!(
            "`{selection}` builds {} with {}, which `cargo test` does not enable",
            unit.package,
            list(&unit.features, other),
        ),
    }
}

/// Returns wasmtime's crates and all that they depend on, each as `wasmtime v48.0.8`.
fn closure(metadata: &Value) -> Result<BTreeSet<String>> {
    let nodes = metadata["resolve"]["nodes"].as_array();
    let nodes = nodes.context("cargo metadata has no `resolve.nodes`")?;
    let packages = metadata["packages"].as_array();
    let packages = packages.context("cargo metadata has no `packages`")?;
    let names: BTreeMap<_, _> = packages
        .iter()
        .filter_map(|package| {
            let (name, version) = (package["name"].as_str()?, package["version"].as_str()?);
            Some((package["id"].as_str()?, format!("{name} v{version}")))
        })
        .collect();
    let edges: BTreeMap<_, _> = nodes
        .iter()
        .filter_map(|node| Some((node["id"].as_str()?, node["deps"].as_array()?)))
        .collect();

    let roots = names.iter().filter(|(_, name)| is_wasmtime(name));
    let mut open: Vec<_> = roots.map(|(id, _)| *id).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            let dependencies = edges.get(id).into_iter().copied().flatten();
            let dependencies = dependencies.filter(|it| !is_for_tests(it));
            open.extend(dependencies.filter_map(|it| it["pkg"].as_str()));
        }
    }
    if seen.is_empty() {
        bail!("the workspace does not depend on wasmtime");
    }
    Ok(seen
        .into_iter()
        .filter_map(|id| names.get(id).cloned())
        .collect())
}

/// Returns whether a dependency in cargo's metadata is one of tests alone.
fn is_for_tests(dependency: &Value) -> bool {
    let kinds = dependency["dep_kinds"].as_array();
    kinds.is_some_and(|kinds| kinds.iter().all(|it| it["kind"] == "dev"))
}

/// Builds what `cargo test` builds, and returns one line for each crate of wasmtime's that
/// cargo compiled for that.
///
/// It has to run after a command that builds the program, such as `cargo xtask demo`.
pub(crate) fn check_built() -> Result<Vec<String>> {
    let mut cargo = run::cargo("test");
    cargo.args(["--no-run", "--message-format", "json-render-diagnostics"]);
    let output = cargo
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("building the tests failed, see above");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let compiled = compiled(&text)?.into_iter().filter(|it| is_wasmtime(it));
    Ok(compiled
        .map(|name| format!("`cargo test` compiled {name} after `cargo build` had"))
        .collect())
}

/// Returns whether a crate is a part of wasmtime.
///
/// If cargo compiles a dependency of such a crate again, it compiles that crate again too.
fn is_wasmtime(name: &str) -> bool {
    name.starts_with("wasmtime") || name.starts_with("cranelift")
}

/// Returns the libraries that cargo compiled, by its messages.
fn compiled(messages: &str) -> Result<BTreeSet<String>> {
    let mut compiled = BTreeSet::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line).context("cargo's message")?;
        let is_library = message["profile"]["test"] == false;
        if message["reason"] == "compiler-artifact" && message["fresh"] == false && is_library {
            compiled.extend(metadata::name(&message["package_id"]));
        }
    }
    Ok(compiled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(package: &str, features: &[&str], for_build: bool) -> Unit {
        Unit {
            package: package.to_owned(),
            features: features.iter().map(|&it| it.to_owned()).collect(),
            for_build,
        }
    }

    #[test]
    fn only_crates_of_the_closure_count() {
        let wasmtime = unit("wasmtime v48.0.8", &[], false);
        let mut units: BTreeSet<_> =
            [unit("a v1.0.0", &[], false), unit("b v1.0.0", &[], false)].into();
        let all = [unit("a v1.0.0", &["std"], false), wasmtime.clone()].into();
        let closure = ["a v1.0.0".to_owned()].into();
        // Without wasmtime there is nothing to build again.
        assert!(different(&units, &all, &closure).is_empty());
        units.insert(wasmtime);
        assert_eq!(
            different(&units, &all, &closure),
            [&unit("a v1.0.0", &[], false)]
        );
    }

    #[test]
    fn features_for_the_build_are_compared_apart() {
        let wasmtime = unit("wasmtime v48.0.8", &[], false);
        let units: BTreeSet<_> = [unit("a v1.0.0", &[], true), wasmtime].into();
        let all = [
            unit("a v1.0.0", &[], false),
            unit("a v1.0.0", &["std"], true),
        ]
        .into();
        let closure = ["a v1.0.0".to_owned()].into();
        let found = different(&units, &all, &closure);
        let text = explain("cargo build", found[0], &all);
        assert_eq!(
            text,
            "`cargo build` builds a v1.0.0 without `std`, which `cargo test` enables: enable \
             that in `[build-dependencies]` of `workspace-features`"
        );
    }

    #[test]
    fn closure_follows_all_but_tests() {
        let dependency =
            |to: &str, kind: Value| serde_json::json!({"pkg": to, "dep_kinds": [{"kind": kind}]});
        let names = ["wasmtime", "a", "b", "c", "d"];
        let packages =
            names.map(|it| serde_json::json!({"id": it, "name": it, "version": "1.0.0"}));
        let metadata = serde_json::json!({
            "packages": packages,
            "resolve": {"nodes": [
                {"id": "wasmtime", "deps": [
                    dependency("a", Value::Null), dependency("c", "dev".into()),
                ]},
                {"id": "a", "deps": [dependency("b", "build".into())]},
                {"id": "b", "deps": [dependency("wasmtime", Value::Null)]},
                {"id": "c", "deps": []},
                {"id": "d", "deps": [dependency("wasmtime", Value::Null)]},
            ]},
        });
        let closure = closure(&metadata).unwrap();
        assert_eq!(
            closure.into_iter().collect::<Vec<_>>(),
            ["a v1.0.0", "b v1.0.0", "wasmtime v1.0.0"]
        );
    }

    #[test]
    fn compiled_libraries_are_read_from_messages() {
        let message = |name: &str, fresh: bool, test: bool| {
            let id = format!("registry+https://example.org#{name}@1.0.0");
            serde_json::json!({
                "reason": "compiler-artifact", "package_id": id, "fresh": fresh,
                "profile": {"test": test},
            })
            .to_string()
        };
        let messages = [
            message("wasmtime", false, false),
            message("wasmtime-wasi", true, false),
            message("tests", false, true),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let compiled = compiled(&messages.join("\n")).unwrap();
        assert_eq!(compiled.into_iter().collect::<Vec<_>>(), ["wasmtime"]);
    }
}
