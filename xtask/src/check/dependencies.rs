//! The steps `dependencies` and `weight`: which crate may depend on which, and how many an
//! embedder builds.

use std::collections::BTreeSet;

use anyhow::Result;

use super::metadata::{self, Package};
use super::tree;

/// Which crates of the workspace each crate may depend on, beside for its tests.
const ALLOWED: &[(&str, &[&str])] = &[
    ("tombolo-region", &[]),
    ("tombolo-exchange", &["tombolo-region"]),
    ("tombolo", &["tombolo-region"]),
    (
        "tombolo-app",
        &["tombolo", "tombolo-exchange", "tombolo-region"],
    ),
    ("tombolo-cli", &["tombolo", "tombolo-app", "tombolo-region"]),
    ("tombolo-guest", &[]),
    (
        "tombolo-race-tests",
        &["tombolo-exchange", "tombolo-region"],
    ),
];

/// Which crates may not be anywhere below a crate.
const ABSENT: &[(&str, &[&str])] = &[
    ("tombolo-region", &["libc", "wasmtime"]),
    ("tombolo-exchange", &["libc", "wasmtime"]),
    ("tombolo-guest", &["libc", "tokio", "wasmtime"]),
    ("tombolo-race-tests", &["wasmtime"]),
];

/// The crate that embedders depend on, and how many crates that may be at most.
const EMBEDDED: &str = "tombolo";
const MOST: usize = 120;

/// Returns one line for each dependency that is not allowed.
pub(crate) fn check() -> Result<Vec<String>> {
    let packages = metadata::packages()?;
    let mut errors = edges(&packages);
    for (name, absent) in ABSENT {
        if !packages.iter().any(|it| it.name == *name) {
            continue;
        }
        let below = below(name)?;
        let found = below.iter().filter(|it| absent.contains(&it.as_str()));
        errors.extend(found.map(|it| format!("{name} depends on {it}, directly or not")));
    }
    Ok(errors)
}

fn edges(packages: &[Package]) -> Vec<String> {
    let names: BTreeSet<_> = packages.iter().map(|it| it.name.as_str()).collect();
    let mut errors = Vec::new();
    for (name, allowed) in ALLOWED {
        let Some(package) = packages.iter().find(|it| it.name == *name) else {
            errors.push(format!("the workspace has no package {name}"));
            continue;
        };
        let inside = package.dependencies.iter().map(String::as_str);
        let inside: BTreeSet<_> = inside.filter(|it| names.contains(it)).collect();
        let refused = inside.into_iter().filter(|it| !allowed.contains(it));
        errors.extend(refused.map(|it| {
            let allowed = match allowed {
                [] => "no crate of this workspace".to_owned(),
                names => names.join(", "),
            };
            format!("{name} depends on {it}: it may depend on {allowed}")
        }));
    }
    errors
}

/// Returns the names of all crates that a crate depends on with its default features.
fn below(package: &str) -> Result<BTreeSet<String>> {
    let units = tree::units(&["-p", package, "--edges", "normal"])?;
    let names = units.iter().map(|unit| unit.name().to_owned());
    Ok(names.filter(|name| name != package).collect())
}

/// Prints how many crates an embedder builds, and returns a line if these are too many.
pub(crate) fn weigh() -> Result<Vec<String>> {
    let units = tree::units(&["-p", EMBEDDED, "--edges", "normal"])?;
    let packages: BTreeSet<_> = units.iter().map(|unit| &unit.package).collect();
    let count = packages.len();
    println!("{EMBEDDED} with its default features is {count} crates, of {MOST} at most");
    let error = format!(
        "{EMBEDDED} is {} crates too heavy",
        count.saturating_sub(MOST)
    );
    Ok((count > MOST).then_some(error).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            dependencies: dependencies.iter().map(|&it| it.to_owned()).collect(),
            features: Vec::new(),
            is_published: true,
        }
    }

    #[test]
    fn edges_go_one_way() {
        let packages = [
            package("tombolo-region", &["rangemap", "tombolo"]),
            package("tombolo-exchange", &["tombolo"]),
            package("tombolo", &["tombolo-region", "tombolo-app"]),
            package("tombolo-app", &["tombolo"]),
            package("tombolo-cli", &["tombolo-app"]),
            package("tombolo-race-tests", &[]),
        ];
        assert_eq!(
            edges(&packages),
            [
                "tombolo-region depends on tombolo: it may depend on no crate of this workspace",
                "tombolo-exchange depends on tombolo: it may depend on tombolo-region",
                "tombolo depends on tombolo-app: it may depend on tombolo-region",
                "the workspace has no package tombolo-guest",
            ]
        );
    }
}
