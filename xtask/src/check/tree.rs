//! Reads what `cargo tree` prints.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

use crate::run;

/// A crate as cargo builds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unit {
    /// The name and the version, for example `wasmtime v48.0.8`.
    pub(crate) package: String,
    /// The enabled features.
    pub(crate) features: BTreeSet<String>,
    /// Whether it is built for a proc macro or a build script. Such a crate has features of
    /// its own.
    pub(crate) for_build: bool,
}

impl Unit {
    /// Returns the name without the version.
    pub(crate) fn name(&self) -> &str {
        self.package.split(' ').next().unwrap_or_default()
    }
}

/// Returns the units that `cargo tree` prints with these arguments. The target must be
/// named, or cargo would merge the two kinds of units.
pub(crate) fn units(arguments: &[&str]) -> Result<BTreeSet<Unit>> {
    let mut cargo = run::cargo("tree");
    cargo.args(["--charset", "ascii", "--format", "{p} [{f}]", "--target"]);
    cargo.arg(run::host_target()?).args(arguments);
    let output = cargo.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!(
            "cargo tree failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(text: &str) -> Result<BTreeSet<Unit>> {
    let mut units = BTreeSet::new();
    // For each level, whether the package that was printed last is built for the build.
    let mut for_build = vec![false];
    // For each level, whether the children are build dependencies.
    let mut under_heading = vec![false];
    for line in text.lines().filter(|line| !line.is_empty()) {
        let body = line.trim_start_matches(['|', '`', '-', ' ']);
        let level = (line.len() - body.len()) / 4;
        if body.ends_with("-dependencies]") {
            under_heading.truncate(level + 1);
            under_heading[level] = body == "[build-dependencies]";
            continue;
        }
        for_build.truncate(level);
        under_heading.truncate(level);
        let (package, rest) = body
            .split_once(" [")
            .with_context(|| format!("cargo tree printed `{line}`"))?;
        let (features, _) = rest
            .split_once(']')
            .with_context(|| format!("cargo tree printed `{line}`"))?;
        let inherits = level > 0 && (for_build[level - 1] || under_heading[level - 1]);
        let is_for_build = inherits || package.contains(" (proc-macro)");
        for_build.push(is_for_build);
        under_heading.push(false);
        units.insert(Unit {
            package: package.split(' ').take(2).collect::<Vec<_>>().join(" "),
            features: features
                .split(',')
                .filter(|it| !it.is_empty())
                .map(str::to_owned)
                .collect(),
            for_build: is_for_build,
        });
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
embed v0.1.0 (/a [b]/embed) [default]
|-- anyhow v1.0.104 [default,std]
|-- clap v4.6.9 []
|   |-- clap_derive v4.6.9 (proc-macro) [default]
|   |   `-- anyhow v1.0.104 []
|   |-- memchr v2.8.3 [std]
|   [build-dependencies]
|   `-- cc v1.0.0 [parallel]
|       `-- libc v0.2.1 []
`-- libc v0.2.1 [std]
[build-dependencies]
`-- autocfg v1.0.0 []
[dev-dependencies]
`-- wat v1.0.0 [] (*)

other v0.1.0 (/a/other) []
";

    #[test]
    fn units_for_the_build_are_told_apart() {
        let units = parse(&TREE.replace("/a [b]", "/a")).unwrap();
        let of = |for_build: bool| {
            let units = units.iter().filter(|it| it.for_build == for_build);
            units.map(Unit::name).collect::<Vec<_>>()
        };
        assert_eq!(of(true), ["anyhow", "autocfg", "cc", "clap_derive", "libc"]);
        assert_eq!(
            of(false),
            ["anyhow", "clap", "embed", "libc", "memchr", "other", "wat"]
        );
    }

    #[test]
    fn features_are_read() {
        let units = parse(TREE.split_at(TREE.find("|--").unwrap()).1).unwrap();
        let anyhow: Vec<_> = units.iter().filter(|it| it.name() == "anyhow").collect();
        assert_eq!(anyhow.len(), 2);
        assert!(anyhow[0].features.is_empty() && anyhow[0].for_build);
        assert!(anyhow[1].features.contains("std") && !anyhow[1].for_build);
    }

    #[test]
    fn unexpected_output_is_an_error() {
        assert!(parse("warning: what is this").is_err());
    }
}
