//! The paths of a Rust source that begin at the crate root, at a parent or at the module itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use crate::source::{self, File};

/// The names on the way from the crate root to an item or a module.
pub(super) type ItemPath = Vec<String>;

/// A path in a source.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) line: usize,
    /// From the crate root. A glob is `*`.
    pub(super) path: ItemPath,
    /// The name by which the module of the file knows the item from here on, if this is a `use`
    /// of the module itself.
    known_as: Option<String>,
}

/// Returns the module of a file: nothing for the crate root.
pub(super) fn module_of(path: &Path) -> ItemPath {
    let names: Vec<_> = path.iter().filter_map(|it| it.to_str()).collect();
    let below = match names[..] {
        ["lib.rs" | "main.rs"] => &[],
        [.., "mod.rs"] => &names[..names.len() - 1],
        _ => &names[..],
    };
    let stem = |it: &&str| it.strip_suffix(".rs").unwrap_or(it).to_owned();
    below.iter().map(stem).collect()
}

/// Returns all paths in a file, also those in groups. A macro is none.
pub(super) fn imports(file: &File) -> Vec<Import> {
    let code = source::code(&file.text);
    let inline = inline_modules(&code);
    let mut imports = Vec::new();
    let mut at = 0;
    // All three words are as long.
    while let Some(found) = ["crate::", "super::", "self::"]
        .iter()
        .filter_map(|it| code[at..].find(it))
        .min()
    {
        let begin = at + found;
        let before = begin.checked_sub(1).map(|it| code.as_bytes()[it]);
        let is_word = before.is_some_and(|it| source::is_name(it) || it == b'$' || it == b':');
        let rest = &code[begin..];
        let supers = rest.split("super::").take_while(|it| it.is_empty()).count();
        let len = match supers {
            0 if rest.starts_with("self::") => "self::".len(),
            0 => "crate::".len(),
            _ => "super::".len() * supers,
        };
        at = begin + len;
        if is_word {
            continue;
        }
        let around: Vec<_> = inline.iter().filter(|it| it.0.contains(&begin)).collect();
        let mut module = module_of(&file.path);
        module.extend(around.iter().map(|it| it.1.clone()));
        if rest.starts_with("crate::") {
            module.clear();
        } else if supers > module.len() {
            continue;
        } else {
            module.truncate(module.len() - supers);
        }
        let is_use = around.is_empty() && ends_with_use(&code[..begin]);
        leaves(&code, at, &module, &mut |offset, path, alias| {
            let name = alias.or_else(|| path.last().cloned());
            imports.push(Import {
                line: source::line(&code, offset),
                path,
                known_as: name.filter(|_| is_use),
            });
        });
    }
    imports
}

/// Returns whether code ends with the word `use`.
fn ends_with_use(code: &str) -> bool {
    let before = code.trim_end().strip_suffix("use");
    before.is_some_and(|it| !it.bytes().next_back().is_some_and(source::is_name))
}

/// Calls `found` for each path of a tree of paths: with where its last name is, the path and the
/// name that it is renamed to. Returns where the tree ends.
fn leaves(
    code: &str,
    mut at: usize,
    prefix: &[String],
    found: &mut impl FnMut(usize, ItemPath, Option<String>),
) -> usize {
    let space = |at: usize| at + (code.len() - at - code[at..].trim_start().len());
    let name = |at: usize| {
        let len = code[at..].bytes().take_while(|&it| source::is_name(it));
        &code[at..at + len.count()]
    };
    let mut path = prefix.to_vec();
    loop {
        at = space(at);
        if code[at..].starts_with('{') {
            at = space(at + 1);
            while !code[at..].starts_with('}') {
                let end = space(leaves(code, at, &path, found));
                if !code[end..].starts_with([',', '}']) {
                    // It is no group of paths.
                    return end;
                }
                at = space(end + usize::from(code[end..].starts_with(',')));
            }
            return at + 1;
        }
        let word = match code[at..].starts_with('*') {
            true => "*",
            false => name(at),
        };
        if word.is_empty() {
            return at;
        }
        let (last, next) = (at, at + word.len());
        path.push(word.to_owned());
        at = next;
        let rest = code[next..].strip_prefix("::");
        if rest.is_some_and(|it| !it.starts_with('<')) {
            at += "::".len();
            continue;
        }
        if code[at..].starts_with('!') {
            return at;
        }
        let mut alias = None;
        if name(space(at)) == "as" {
            let begin = space(space(at) + "as".len());
            alias = Some(name(begin).to_owned());
            at = begin + name(begin).len();
        }
        if path.last().is_some_and(|it| it == "self") {
            path.pop();
        }
        found(last, path, alias);
        return at;
    }
}

/// Returns the bytes and the name of each module that is written within the file.
fn inline_modules(code: &str) -> Vec<(Range<usize>, String)> {
    let starts = code.match_indices("mod ").filter_map(|(at, word)| {
        let rest = &code[at + word.len()..];
        let len = rest.bytes().take_while(|&it| source::is_name(it)).count();
        let is_word = at == 0 || !source::is_name(code.as_bytes()[at - 1]);
        let body = rest[len..].trim_start().starts_with('{');
        let name = rest[..len].to_owned();
        (is_word && len > 0 && body).then_some((at, name))
    });
    let modules = starts.map(|(at, name)| (at..at + block(&code[at..]), name));
    modules.collect()
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

/// The modules of a crate, and the names that each of them uses.
pub(super) struct Modules(BTreeMap<ItemPath, BTreeMap<String, ItemPath>>);

impl Modules {
    /// Returns the modules of these files.
    pub(super) fn of(files: &[File]) -> Modules {
        let all: BTreeSet<_> = files.iter().map(|it| module_of(&it.path)).collect();
        let names = |file: &File| {
            let module = module_of(&file.path);
            let imports = imports(file).into_iter();
            let absolute = imports.filter_map(|it| Some((it.known_as?, it.path)));
            let mut names: BTreeMap<_, _> = absolute.collect();
            names.extend(of_children(file, &module, &all));
            (module, names)
        };
        Modules(files.iter().map(names).collect())
    }

    /// Returns the module that defines the item of a path, through the uses of other modules.
    pub(super) fn defining(&self, path: &[String]) -> ItemPath {
        let mut path = path.to_vec();
        // Uses may form a circle.
        for _ in 0..16 {
            let depth = (0..=path.len()).rev();
            let mut depth = depth.filter(|len| self.0.contains_key(&path[..*len]));
            let module = depth.next().unwrap_or(0);
            let name = path.get(module);
            let names = self.0.get(&path[..module]);
            let used = name.and_then(|name| names?.get(name));
            match used.filter(|used| path[..=module] != used[..]) {
                Some(used) => path = [&used[..], &path[module + 1..]].concat(),
                None => {
                    path.truncate(module);
                    break;
                }
            }
        }
        path
    }
}

/// Returns what a module uses of its children by paths that begin with their names.
fn of_children(
    file: &File,
    module: &ItemPath,
    all: &BTreeSet<ItemPath>,
) -> Vec<(String, ItemPath)> {
    let code = source::code(&file.text);
    let mut names = Vec::new();
    for (at, word) in code.match_indices("use ") {
        let begin = at + word.len();
        let is_word = at == 0 || !source::is_name(code.as_bytes()[at - 1]);
        let len = code[begin..].bytes().take_while(|&it| source::is_name(it));
        let child = code[begin..begin + len.count()].to_owned();
        if is_word && all.contains(&[&module[..], &[child]].concat()) {
            leaves(&code, begin, module, &mut |_, path, alias| {
                let name = alias.or_else(|| path.last().cloned());
                names.extend(name.map(|name| (name, path)));
            });
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::tests::file;
    use super::*;

    fn paths(path: &str, text: &str) -> Vec<String> {
        let imports = imports(&file(path, text)).into_iter();
        imports.map(|it| it.path.join("::")).collect()
    }

    #[test]
    fn paths_are_found_in_uses_and_code() {
        let text = "use crate::a::B;\nuse crate::{c, d::{E, crate_f, self}, G as H, *};\n\
                    pub(in crate::h) fn f(_: crate::i::J<crate::K>) { crate::k!(); $crate::l; }\n\
                    // crate::m\nconst N: &str = \"crate::n\";\nuse crate::{\n    o,\n};";
        let expected = [
            "a::B",
            "c",
            "d::E",
            "d::crate_f",
            "d",
            "G",
            "*",
            "h",
            "i::J",
            "K",
            "o",
        ];
        assert_eq!(paths("a.rs", text), expected);
        assert_eq!(imports(&file("a.rs", text)).pop().unwrap().line, 7);
    }

    #[test]
    fn super_and_self_are_followed() {
        let text = "use super::a::A;\nuse self::b::C;\n\
                    mod tests {\n    use super::*;\n    use super::super::d;\n}\n\
                    pub(super) fn f() { super::e(); Self::f(); }\n";
        assert_eq!(paths("x.rs", text), ["a::A", "x::b::C", "x::*", "d", "e"]);
        assert_eq!(
            paths("x/mod.rs", text),
            ["a::A", "x::b::C", "x::*", "d", "e"]
        );
        let nested = ["x::a::A", "x::y::b::C", "x::y::*", "x::d", "x::e"];
        assert_eq!(paths("x/y.rs", text), nested);
    }

    #[test]
    fn items_are_found_where_they_are_defined() {
        let files = [
            file("lib.rs", "mod a;\npub use a::Shown;"),
            file(
                "a/mod.rs",
                "mod b;\nmod c;\npub use b::Thing as Shown;\nuse self::c::Other;",
            ),
            file("a/b.rs", "pub struct Thing;"),
            file("a/c.rs", "pub use super::Other;"),
        ];
        let modules = Modules::of(&files);
        let defining = |path: &str| {
            let path: Vec<_> = path.split("::").map(str::to_owned).collect();
            modules.defining(&path).join("::")
        };
        assert_eq!(defining("a::b::Thing"), "a::b");
        assert_eq!(defining("a::Shown::new"), "a::b");
        assert_eq!(defining("Shown"), "a::b");
        assert_eq!(defining("a::f"), "a");
        assert_eq!(defining("f"), "");
        // It ends all the same.
        defining("a::Other");
    }
}
