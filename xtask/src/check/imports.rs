//! The step `imports`: which module of a crate may import which.
//!
//! A module imports another one if a path in it names that module from the crate root, in
//! `use` or elsewhere: by `crate::`, or by as many `super::` as lead there. Tests in the
//! module are read as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

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

/// A path from the crate root.
#[derive(Debug, PartialEq, Eq)]
struct Import {
    line: usize,
    /// The name that follows the crate root.
    name: String,
}

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
    let module = module_of(&file.path);
    let path = PathBuf::from(source).join(&file.path);
    let path = path.display();
    let layer = layers
        .iter()
        .find(|layer| Some(layer.module) == module.as_deref());
    let mut errors = Vec::new();
    for Import { line, name } in imports(file) {
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

/// Returns the module of the crate that a file belongs to, and nothing for the crate root.
fn module_of(path: &Path) -> Option<String> {
    let first = path.iter().next()?.to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    let is_root = path.iter().count() == 1 && ["lib", "main"].contains(&name);
    (!is_root && first != "bin").then(|| name.to_owned())
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

/// Returns all paths from the crate root in a file, also those in a group. A macro is none.
fn imports(file: &File) -> Vec<Import> {
    let code = source::code(&file.text);
    let inline = inline_modules(&code);
    let mut imports = Vec::new();
    let mut at = 0;
    while let Some(found) = ["crate::", "super::"]
        .iter()
        .filter_map(|it| code[at..].find(it))
        .min()
    {
        let begin = at + found;
        let before = begin.checked_sub(1).map(|it| code.as_bytes()[it]);
        let is_word = before.is_some_and(|it| source::is_name(it) || it == b'$' || it == b':');
        let supers = code[begin..]
            .split("super::")
            .take_while(|it| it.is_empty())
            .count();
        // Both words are as long.
        at = begin + "super::".len() * supers.max(1);
        let depth = depth(&file.path) + inline.iter().filter(|it| it.contains(&begin)).count();
        if is_word || (supers > 0 && supers != depth) {
            continue;
        }
        let rest = &code[at..];
        let group = rest.strip_prefix('{').map(group_names);
        let names = group.unwrap_or_else(|| vec![(0, rest)]);
        for (offset, text) in names {
            let len = text.bytes().take_while(|&it| source::is_name(it)).count();
            if len > 0 && !text[len..].starts_with('!') {
                imports.push(Import {
                    line: source::line(&code, at + offset),
                    name: text[..len].to_owned(),
                });
            }
        }
    }
    imports
}

/// Returns how many modules deep the code of a file is.
fn depth(path: &Path) -> usize {
    let names: Vec<_> = path.iter().filter_map(|it| it.to_str()).collect();
    match names[..] {
        ["lib.rs" | "main.rs"] => 0,
        [.., "mod.rs"] => names.len() - 1,
        _ => names.len(),
    }
}

/// Returns the bytes of each module that is written within the file.
fn inline_modules(code: &str) -> Vec<Range<usize>> {
    let starts = code.match_indices("mod ").filter_map(|(at, word)| {
        let rest = &code[at + word.len()..];
        let len = rest.bytes().take_while(|&it| source::is_name(it)).count();
        let is_word = at == 0 || !source::is_name(code.as_bytes()[at - 1]);
        let body = rest[len..].trim_start().starts_with('{');
        (is_word && len > 0 && body).then_some(at)
    });
    starts.map(|at| at..at + block(&code[at..])).collect()
}

/// Returns where the first block of `code` ends.
fn block(code: &str) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Returns where the paths of a group begin, after its opening brace.
fn group_names(group: &str) -> Vec<(usize, &str)> {
    let mut names = Vec::new();
    let (mut depth, mut expects_name) = (1, true);
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 1 => expects_name = true,
            _ if expects_name && source::is_name(byte) => {
                expects_name = false;
                // One more for the brace.
                names.push((at + 1, &group[at..]));
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// Returns a line for each set of modules that import each other in a circle.
fn circles(source: &str, files: &[File]) -> Vec<String> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        if let Some(module) = module_of(&file.path) {
            let names = imports(file).into_iter().map(|it| it.name);
            graph.entry(module).or_default().extend(names);
        }
    }
    let circles = circles_of(&graph).into_iter();
    let lines =
        circles.map(|it| format!("{source}: import each other in a circle: {}", it.join(", ")));
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

    fn names(path: &str, text: &str) -> Vec<String> {
        imports(&file(path, text))
            .into_iter()
            .map(|it| it.name)
            .collect()
    }

    fn file(path: &str, text: &str) -> File {
        File {
            path: PathBuf::from(path),
            text: text.to_owned(),
        }
    }

    #[test]
    fn imports_are_found_in_uses_and_paths() {
        let text = "use crate::a::B;\nuse crate::{c, d::{E, crate_f}, G};\n\
                    pub(in crate::h) fn f(_: crate::i::J) { crate::k!(); $crate::l; }\n\
                    // crate::m\nconst N: &str = \"crate::n\";\nuse crate::{\n    o,\n};";
        assert_eq!(names("a.rs", text), ["a", "c", "d", "G", "h", "i", "o"]);
        assert_eq!(imports(&file("a.rs", text)).pop().unwrap().line, 7);
    }

    #[test]
    fn super_is_followed_to_the_crate_root() {
        let text = "use super::a::A;\nuse super::super::{b, c::C};\n\
                    mod tests {\n    use super::*;\n    use super::super::d;\n}\n\
                    pub(super) fn f() { super::e() }\n";
        assert_eq!(names("x.rs", text), ["a", "d", "e"]);
        assert_eq!(names("x/mod.rs", text), ["a", "d", "e"]);
        assert_eq!(names("x/y.rs", text), ["b", "c"]);
        assert_eq!(names("lib.rs", text), [""; 0]);
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
}
