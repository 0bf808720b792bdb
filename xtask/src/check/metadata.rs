//! Reads what `cargo metadata` prints.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run;

/// Returns the packages of the workspace, without what they resolve to.
pub(crate) fn packages() -> Result<Vec<Package>> {
    let value = metadata(&["--no-deps"])?;
    let packages = value["packages"].as_array();
    let packages = packages.context("cargo metadata has no `packages`")?;
    packages.iter().map(Package::read).collect()
}

/// Returns all that cargo knows of the workspace and of what it depends on.
pub(crate) fn full() -> Result<Value> {
    metadata(&[])
}

fn metadata(arguments: &[&str]) -> Result<Value> {
    let mut cargo = run::cargo("metadata");
    cargo.args(["--format-version", "1"]).args(arguments);
    let output = cargo.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")
}

/// Returns the name in a package's id, such as `path+file:///a/host#tombolo@0.1.0` or
/// `path+file:///a/xtask#0.1.0`.
pub(crate) fn name(id: &Value) -> Option<String> {
    let (url, fragment) = id.as_str()?.rsplit_once('#')?;
    let name = match fragment.split_once('@') {
        Some((name, _)) => name,
        None => url.rsplit('/').next()?,
    };
    Some(name.to_owned())
}

/// A package of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    /// The names of its dependencies, without those of tests.
    pub(crate) dependencies: Vec<String>,
    pub(crate) features: Vec<String>,
    /// Whether it may be published.
    pub(crate) is_published: bool,
}

impl Package {
    fn read(value: &Value) -> Result<Package> {
        let name = value["name"].as_str().context("a package has a name")?;
        let dependencies = value["dependencies"].as_array().into_iter().flatten();
        let dependencies = dependencies.filter(|it| it["kind"] != "dev");
        let features = value["features"].as_object().into_iter().flatten();
        Ok(Package {
            name: name.to_owned(),
            dependencies: dependencies
                .filter_map(|it| it["name"].as_str().map(str::to_owned))
                .collect(),
            features: features.map(|(name, _)| name.clone()).collect(),
            is_published: value["publish"].is_null(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_ids() {
        let name = |id: &str| name(&Value::from(id)).unwrap();
        assert_eq!(name("path+file:///a/host/core#tombolo@0.1.0"), "tombolo");
        assert_eq!(name("path+file:///a/xtask#0.1.0"), "xtask");
        assert_eq!(name("registry+https://example.org/index#a@1.0.0"), "a");
    }

    #[test]
    fn dependencies_of_tests_are_left_out() {
        let package = Package::read(&serde_json::json!({
            "name": "a", "publish": null, "features": {"default": [], "loom": []},
            "dependencies": [
                {"name": "b", "kind": null}, {"name": "c", "kind": "dev"},
                {"name": "d", "kind": "build"},
            ],
        }))
        .unwrap();
        assert_eq!(package.dependencies, ["b", "d"]);
        assert_eq!(package.features, ["default", "loom"]);
        assert!(package.is_published);
    }
}
