//! The step `imports`: which module of a crate may import which.
//!
//! A module imports another one if a path in it leads there, in `use` or elsewhere, by `crate::`,
//! `super::` or `self::`. If the path leads through a `use` of another module, the module that
//! defines the item counts. Tests in the module are read as well.
//!
//! Modules that lie side by side, at the top or in another module, do not import each other in a
//! circle. A module and those inside it may: they are one.

mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use self::paths::{Import, Modules, imports, module_of};
use crate::source::{self, File};

/// Modules that may import only some other modules of their crate.
struct Layer {
    /// The `src` of the crate.
    source: &'static str,
    module: &'static str,
    /// The modules that it may import, beside itself.
    may_import: &'static [&'static str],
}

/// The layers. Modules that are not named import what they want.
const LAYERS: &[Layer] = &[Layer {
    source: "host/core/src",
    module: "sys",
    may_import: &[],
}];

/// The crates that import each item from the module that defines it, and never through the
/// crate root.
const CRATES: &[&str] = &[
    "host/region/src",
    "host/exchange/src",
    "host/core/src",
    "host/app/src",
    "host/cli/src",
];

/// Returns one line for each import that is not allowed.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut errors = Vec::new();
    for source in CRATES {
        let directory = root.join(source);
        let library = ["lib.rs", "main.rs"].map(|it| directory.join(it));
        let library = library.iter().find(|it| it.is_file());
        let library = library.with_context(|| format!("{source} has no lib.rs or main.rs"))?;
        let modules = modules(&fs::read_to_string(library)?);
        let files = source::rust(&directory)?;
        let layers = LAYERS.iter().filter(|layer| layer.source == *source);
        let layers: Vec<_> = layers.collect();
        errors.extend(
            files
                .iter()
                .flat_map(|file| in_file(source, file, &modules, &layers)),
        );
        errors.extend(circles(source, &files));
    }
    Ok(errors)
}

fn in_file(
    source: &str,
    file: &File,
    modules: &BTreeSet<String>,
    layers: &[&Layer],
) -> Vec<String> {
    let module = module_of(&file.path).into_iter().next();
    let is_library = file.path.iter().next().is_none_or(|it| it != "bin");
    let module = module.filter(|_| is_library);
    let path = PathBuf::from(source).join(&file.path);
    let path = path.display();
    let layer = layers
        .iter()
        .find(|layer| Some(layer.module) == module.as_deref());
    let mut errors = Vec::new();
    for Import {
        line, path: item, ..
    } in imports(file)
    {
        let Some(name) = item.into_iter().next().filter(|it| it != "*") else {
            continue;
        };
        if !modules.contains(&name) {
            // Only the crate root may name its own items.
            if module.is_some() {
                errors.push(format!(
                    "{path}:{line}: `{name}` is imported through the crate root: import it from \
                     the module that defines it"
                ));
            }
            continue;
        }
        let Some(layer) = layer else { continue };
        if name != layer.module && !layer.may_import.contains(&name.as_str()) {
            errors.push(format!(
                "{path}:{line}: `{}` may not import `crate::{name}`",
                layer.module
            ));
        }
    }
    errors
}

/// Returns the modules and macros that a crate root declares.
fn modules(root: &str) -> BTreeSet<String> {
    let code = source::code(root);
    let words: Vec<_> = code
        .split(|it: char| !(it.is_alphanumeric() || it == '_'))
        .filter(|it| !it.is_empty())
        .collect();
    let pairs = words.windows(2);
    let declared = pairs.filter(|pair| ["mod", "macro_rules"].contains(&pair[0]));
    declared.map(|pair| pair[1].to_owned()).collect()
}

/// Returns a line for each set of modules that lie side by side and import each other in a
/// circle.
fn circles(source: &str, files: &[File]) -> Vec<String> {
    let modules = Modules::of(files);
    // By the module in which they lie.
    let mut graphs: BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for file in files {
        let module = module_of(&file.path);
        for import in imports(file) {
            let other = modules.defining(&import.path);
            let both = module.iter().zip(&other);
            let same = both.take_while(|(one, other)| one == other).count();
            if let (Some(one), Some(other)) = (module.get(same), other.get(same)) {
                let graph = graphs.entry(module[..same].to_vec()).or_default();
                graph.entry(other.clone()).or_default();
                graph.entry(one.clone()).or_default().insert(other.clone());
            }
        }
    }
    let lines = graphs.into_iter().flat_map(|(module, graph)| {
        let place = match module.is_empty() {
            true => source.to_owned(),
            false => format!("{source}: in `{}`", module.join("::")),
        };
        let circles = circles_of(&graph).into_iter();
        circles.map(move |it| format!("{place}: import each other in a circle: {}", it.join(", ")))
    });
    lines.collect()
}

/// Returns the sets of modules that reach each other.
fn circles_of(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reach = |from: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(module) = open.pop() {
            for next in graph.get(module).into_iter().flatten() {
                if graph.contains_key(next) && seen.insert(next.as_str()) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = graph.keys().map(|it| (it.as_str(), reach(it))).collect();
    let mut circles: Vec<Vec<String>> = Vec::new();
    for (module, all) in &reached {
        if circles.iter().flatten().any(|it| it == module) {
            continue;
        }
        let back = all
            .iter()
            .filter(|it| *it != module && reached[*it].contains(module));
        let circle: BTreeSet<_> = back.copied().chain([*module]).collect();
        if circle.len() > 1 {
            circles.push(circle.into_iter().map(str::to_owned).collect());
        }
    }
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn file(path: &str, text: &str) -> File {
        File {
            path: PathBuf::from(path),
            text: text.to_owned(),
        }
    }

    #[test]
    fn way_through_the_crate_root_is_refused() {
        let modules = modules("pub mod a;\nmod b {}\n#[macro_use]\nmacro_rules! c { () => {} }");
        let text = "use crate::{a, b::B, Thing};\n";
        let errors = in_file("host/core/src", &file("b.rs", text), &modules, &[]);
        assert_eq!(errors.len(), 1);
        assert!(
            errors[0].starts_with("host/core/src/b.rs:1: `Thing`"),
            "{errors:?}"
        );
        assert!(in_file("host/core/src", &file("lib.rs", text), &modules, &[]).is_empty());
    }

    #[test]
    fn layer_imports_only_what_it_may() {
        let layer = Layer {
            source: "host/core/src",
            module: "sys",
            may_import: &["error"],
        };
        let modules = ["sys", "error", "regions"].map(str::to_owned).into();
        let text = "use crate::sys::map;\nuse crate::error::Error;\nuse crate::regions::Region;\n";
        let below = file("sys/memory.rs", text);
        let errors = in_file("host/core/src", &below, &modules, &[&layer]);
        assert_eq!(
            errors,
            ["host/core/src/sys/memory.rs:3: `sys` may not import `crate::regions`"]
        );
        let other = file("windows.rs", text);
        assert!(in_file("host/core/src", &other, &modules, &[&layer]).is_empty());
    }

    #[test]
    fn circles_are_sets_that_reach_each_other() {
        let graph = [("a", "b"), ("b", "c"), ("c", "b"), ("d", "d"), ("e", "a")];
        let graph = graph.map(|(from, to)| (from.to_owned(), BTreeSet::from([to.to_owned()])));
        assert_eq!(circles_of(&graph.into()), [["b", "c"]]);
    }

    #[test]
    fn circle_through_the_parents_uses_is_found() {
        let files = [
            file("lib.rs", "mod a;"),
            file(
                "a/mod.rs",
                "mod b;\nmod c;\npub use self::b::B;\npub struct A;",
            ),
            file("a/b.rs", "use super::A;\nuse super::c::C;\npub struct B;"),
            file("a/c.rs", "pub struct C(super::B);"),
        ];
        let expected = "host/core/src: in `a`: import each other in a circle: b, c";
        assert_eq!(circles("host/core/src", &files), [expected]);
        // The parent is none of those that lie side by side.
        assert_eq!(circles("host/core/src", &files[..3]), [""; 0]);
    }
}
