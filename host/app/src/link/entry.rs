//! Finds the guests that are commands.

use wasmtime::Engine;
use wasmtime::component::types::{ComponentFunc, ComponentItem, Type};

use super::name::Name;
use super::resources::Resources;
use super::{Part, print};

/// The interface that makes a guest a command.
const RUN: &str = "wasi:cli/run";

/// Returns the commands among `parts`: each guest that exports `wasi:cli/run` of WASI 0.2
/// or 0.3, with the name of the newest such export.
pub(crate) fn entries<'a>(engine: &Engine, parts: &[Part<'a>]) -> Vec<(Part<'a>, String)> {
    let mut entries = Vec::new();
    for part in parts {
        let ty = part.component.component_type();
        let newest = ty
            .exports(engine)
            .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentInstance(_)))
            .map(|(name, _)| Name::parse(name))
            .filter(|name| name.path == RUN && name.is_wasi())
            .max_by(|a, b| a.version.cmp(&b.version));
        if let Some(name) = newest {
            entries.push((*part, name.text.to_owned()));
        }
    }
    entries
}

/// Returns exports that are named like the export of a command, but have another version or none.
/// Each is the name of the guest and of the export.
pub(crate) fn near_entries(engine: &Engine, parts: &[Part<'_>]) -> Vec<(String, String)> {
    let mut near = Vec::new();
    for part in parts {
        let ty = part.component.component_type();
        for (name, _) in ty.exports(engine) {
            let name = Name::parse(name);
            // An invalid version is part of the path.
            if name.path.split('@').next() == Some(RUN) {
                near.push((part.name.to_owned(), name.text.to_owned()));
            }
        }
    }
    near
}

/// Returns how the function `run` of a command differs from the type that it must have, if it
/// does: `func() -> result`, or `async func() -> result` in WASI 0.3.
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
    (!is_run(&function, runs_async(export))).then(|| {
        let found = print::function(&Resources::none(), &function);
        format!("has `run` as `{found}`")
    })
}

/// Returns whether the function `run` of this interface is async.
pub(crate) fn runs_async(export: &str) -> bool {
    Name::parse(export).is_wasi_p3()
}

/// Returns whether the type is `func() -> result`, or the same as an async function.
fn is_run(ty: &ComponentFunc, is_async: bool) -> bool {
    let mut results = ty.results();
    let answers = match (results.next(), results.next()) {
        (Some(Type::Result(result)), None) => result.ok().is_none() && result.err().is_none(),
        _ => false,
    };
    answers && ty.async_() == is_async && ty.params().len() == 0
}

#[cfg(test)]
mod tests {
    use crate::builder::AppBuilder;
    use crate::spec::GuestSpec;

    /// Returns the errors of an app with one guest, which exports this interface.
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
        let findings = AppBuilder::default()
            .guest(GuestSpec::new("a", wasm))
            .check();
        findings.errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn run_of_wasi_0_2_makes_a_command() {
        for version in ["0.2.0", "0.2.1", "0.2.99"] {
            let export = format!("wasi:cli/run@{version}");
            let errors = errors(&export, "(export \"run\" (func $good))");
            assert_eq!(errors, [""; 0]);
        }
    }

    #[test]
    fn error_names_run_of_another_version() {
        for export in ["wasi:cli/run@0.4.0", "wasi:cli/run@0.1.0", "wasi:cli/run"] {
            assert_eq!(
                errors(export, "(export \"run\" (func $good))"),
                [format!(
                    "none of the guests is a command: this host runs `wasi:cli/run` of versions \
                     0.2 and 0.3, and `a` exports `{export}`"
                )]
            );
        }
    }

    #[test]
    fn run_of_wasi_0_3_is_async() {
        assert_eq!(
            errors("wasi:cli/run@0.3.0", "(export \"run\" (func $good))"),
            [
                "`a` exports `wasi:cli/run@0.3.0`, which has `run` as `func() -> result`; a \
                 command has it as `async func() -> result`"
            ]
        );
    }

    #[test]
    fn error_without_any_run() {
        assert_eq!(
            errors("test:some/runner", "(export \"run\" (func $good))"),
            ["none of the guests exports `wasi:cli/run`, so that there is nothing to start"]
        );
    }

    #[test]
    fn run_of_another_type_is_an_error() {
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
