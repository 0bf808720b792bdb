//! Which guests are commands.

use wasmtime::Engine;
use wasmtime::component::types::{ComponentFunc, ComponentItem, Type};

use super::name::Name;
use super::resources::Resources;
use super::{Part, print};

/// The interface that makes a guest a command.
const RUN: &str = "wasi:cli/run";

/// Finds the commands among `parts`: those that export `wasi:cli/run` of WASI
/// 0.2, as the index of the part and the name of the export.
pub(crate) fn entries(engine: &Engine, parts: &[Part<'_>]) -> Vec<(usize, String)> {
    let mut entries = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let ty = part.component.component_type();
        let newest = ty
            .exports(engine)
            .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentInstance(_)))
            .map(|(name, _)| Name::parse(name))
            .filter(|name| name.path == RUN && name.is_wasi_p2())
            .max_by(|a, b| a.version.cmp(&b.version));
        if let Some(name) = newest {
            entries.push((index, name.text.to_owned()));
        }
    }
    entries
}

/// Finds what is called as the export of a command is and does not make a command: as
/// the name of the guest and of the export.
pub(crate) fn near_entries(engine: &Engine, parts: &[Part<'_>]) -> Vec<(String, String)> {
    let mut near = Vec::new();
    for part in parts {
        let ty = part.component.component_type();
        for (name, _) in ty.exports(engine) {
            let name = Name::parse(name);
            // What is no version is still part of the path.
            if name.path.split('@').next() == Some(RUN) {
                near.push((part.name.to_owned(), name.text.to_owned()));
            }
        }
    }
    near
}

/// Returns what is wrong with the function `run` of a command, if it cannot be called.
pub(crate) fn misfit(engine: &Engine, part: &Part<'_>, export: &str) -> Option<String> {
    let ty = part.component.component_type();
    let interface = match ty.get_export(engine, export)?.ty {
        ComponentItem::ComponentInstance(interface) => interface,
        _ => return None,
    };
    let function = match interface.get_export(engine, "run").map(|item| item.ty) {
        Some(ComponentItem::ComponentFunc(function)) => function,
        _ => return Some("has no function `run`".to_owned()),
    };
    (!is_run(&function)).then(|| {
        let found = print::function(&Resources::none(), &function);
        format!("has `run` as `{found}`")
    })
}

/// Returns whether this is `func() -> result`.
fn is_run(ty: &ComponentFunc) -> bool {
    let mut results = ty.results();
    let answers = match (results.next(), results.next()) {
        (Some(Type::Result(result)), None) => result.ok().is_none() && result.err().is_none(),
        _ => false,
    };
    answers && !ty.async_() && ty.params().len() == 0
}

#[cfg(test)]
mod tests {
    use crate::{App, GuestSpec};

    /// Checks an app of one guest, which exports this interface with these functions.
    fn errors(export: &str, functions: &str) -> Vec<String> {
        let text = format!(
            "(component
               (core module $m
                 (memory (export \"memory\") 1)
                 (func (export \"realloc\") (param i32 i32 i32 i32) (result i32) i32.const 0)
                 (func (export \"nothing\") (result i32) i32.const 0)
                 (func (export \"list\") (param i32 i32) (result i32) i32.const 0))
               (core instance $c (instantiate $m))
               (func $good (result (result)) (canon lift (core func $c \"nothing\")))
               (func $number (result u32) (canon lift (core func $c \"nothing\")))
               (func $code (result (result (error u8))) (canon lift (core func $c \"nothing\")
                 (memory (core memory $c \"memory\"))))
               (func $list (param \"args\" (list string)) (result (result))
                 (canon lift (core func $c \"list\") (memory (core memory $c \"memory\"))
                   (realloc (core func $c \"realloc\"))))
               (instance $i {functions})
               (export {export:?} (instance $i)))"
        );
        let wasm = wat::parse_str(text).expect("it is well-formed");
        let findings = App::builder().guest(GuestSpec::new("a", wasm)).check();
        findings.errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn command_with_run_as_it_is_to_be_is_good() {
        for version in ["0.2.0", "0.2.1", "0.2.99"] {
            let export = format!("wasi:cli/run@{version}");
            let errors = errors(&export, "(export \"run\" (func $good))");
            assert_eq!(errors, [""; 0]);
        }
    }

    #[test]
    fn other_version_of_run_is_named() {
        for export in ["wasi:cli/run@0.3.0", "wasi:cli/run@0.1.0", "wasi:cli/run"] {
            assert_eq!(
                errors(export, "(export \"run\" (func $good))"),
                [format!(
                    "none of the guests is a command: this host runs `wasi:cli/run` of version \
                     0.2, and `a` exports `{export}`"
                )]
            );
        }
    }

    #[test]
    fn no_run_at_all_is_said_as_such() {
        assert_eq!(
            errors("test:some/runner", "(export \"run\" (func $good))"),
            ["none of the guests exports `wasi:cli/run`, so that there is nothing to start"]
        );
    }

    #[test]
    fn run_of_another_type_is_found() {
        for (functions, found) in [
            (
                "(export \"run\" (func $list))",
                "has `run` as `func(args: list<string>) -> result`",
            ),
            (
                "(export \"run\" (func $number))",
                "has `run` as `func() -> u32`",
            ),
            (
                "(export \"run\" (func $code))",
                "has `run` as `func() -> result<_, u8>`",
            ),
            ("(export \"walk\" (func $good))", "has no function `run`"),
        ] {
            assert_eq!(
                errors("wasi:cli/run@0.2.1", functions),
                [format!(
                    "`a` exports `wasi:cli/run@0.2.1`, which {found}; a command has it as \
                     `func() -> result`"
                )]
            );
        }
    }
}
