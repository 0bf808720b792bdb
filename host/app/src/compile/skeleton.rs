//! Makes a component of the same type with next to no code.

use std::collections::BTreeMap;

use wasmparser::{
    BinaryReaderError, ConstExpr, Encoding, ExportSectionReader, ExternalKind, Operator, Parser,
    Payload, TableInit, TypeRef,
};

/// The sections of a component that contain a core module or a component.
const MODULE: u8 = 1;
const COMPONENT: u8 = 4;

const FUNCTIONS: u8 = 3;
const EXPORTS: u8 = 7;
const CODE: u8 = 10;

/// The code of a function without locals: its size, `unreachable`, `end`.
const STUB: [u8; 4] = [3, 0, 0x00, 0x0b];

/// Returns a component with the same imports and exports as `wasm`, and the same types. Its core
/// modules have only the functions that they export, each a single `unreachable`.
///
/// So wasmtime can report the types of a component without compiling its code. Segments, start
/// functions and custom sections are left out, because types do not depend on them. The result
/// must not be run.
pub(super) fn skeleton(wasm: &[u8]) -> Result<Vec<u8>, BinaryReaderError> {
    let mut modules = functions(wasm)?.into_iter();
    // The functions of the core module being written.
    let mut functions = Functions::default();
    // The modules and components being written, outermost first, each with the section that it
    // becomes.
    let mut open: Vec<(u8, Vec<u8>)> = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        match &payload {
            Payload::Version {
                encoding, range, ..
            } => {
                let section = match encoding {
                    Encoding::Module => {
                        functions = modules.next().unwrap_or_default();
                        MODULE
                    }
                    Encoding::Component => COMPONENT,
                };
                open.push((section, wasm[range.clone()].to_vec()));
                continue;
            }
            Payload::End(_) => {
                let Some((id, bytes)) = open.pop() else {
                    continue;
                };
                match open.last_mut() {
                    Some((_, outer)) => section(outer, id, &bytes),
                    None => return Ok(bytes),
                }
                continue;
            }
            // Their contents follow as payloads of their own.
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => continue,
            Payload::StartSection { .. }
            | Payload::ElementSection(_)
            | Payload::DataCountSection { .. }
            | Payload::DataSection(_)
            | Payload::CodeSectionEntry(_)
            | Payload::CustomSection(_) => continue,
            _ => {}
        }
        let Some((_, out)) = open.last_mut() else {
            continue;
        };
        match payload {
            Payload::FunctionSection(_) => functions.write_types(out),
            Payload::CodeSectionStart { .. } => functions.write_stubs(out),
            Payload::ExportSection(exports) => functions.write_exports(exports, out)?,
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    section(out, id, &wasm[range]);
                }
            }
        }
    }
    Ok(Vec::new())
}

/// The functions of a core module.
#[derive(Default)]
struct Functions {
    imported: u32,
    /// The types of the functions that the module defines.
    types: Vec<u32>,
    /// The indices of the functions in the skeleton, with their types.
    kept: BTreeMap<u32, u32>,
    /// Whether an expression refers to functions by their index.
    referred: bool,
}

impl Functions {
    /// Maps the indices of functions to those in the skeleton.
    fn new_indices(&self) -> BTreeMap<u32, u32> {
        let kept = self.kept.keys().copied();
        kept.zip(self.imported..).collect()
    }

    /// Writes the section of functions.
    fn write_types(&self, out: &mut Vec<u8>) {
        let mut bytes = Vec::new();
        number(&mut bytes, self.kept.len() as u64);
        for ty in self.kept.values() {
            number(&mut bytes, (*ty).into());
        }
        section(out, FUNCTIONS, &bytes);
    }

    /// Writes the section of code.
    fn write_stubs(&self, out: &mut Vec<u8>) {
        let mut bytes = Vec::new();
        number(&mut bytes, self.kept.len() as u64);
        for _ in 0..self.kept.len() {
            bytes.extend(STUB);
        }
        section(out, CODE, &bytes);
    }

    /// Writes the section of exports, with the indices of the skeleton.
    fn write_exports(
        &self,
        exports: ExportSectionReader<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), BinaryReaderError> {
        let new = self.new_indices();
        let mut bytes = Vec::new();
        number(&mut bytes, exports.count().into());
        for export in exports {
            let export = export?;
            number(&mut bytes, export.name.len() as u64);
            bytes.extend(export.name.as_bytes());
            bytes.push(match export.kind {
                ExternalKind::Func => 0,
                ExternalKind::Table => 1,
                ExternalKind::Memory => 2,
                ExternalKind::Global => 3,
                ExternalKind::Tag => 4,
                ExternalKind::FuncExact => 0x20,
            });
            let index = match export.kind {
                ExternalKind::Func | ExternalKind::FuncExact => {
                    // An imported function keeps its index.
                    new.get(&export.index).copied().unwrap_or(export.index)
                }
                _ => export.index,
            };
            number(&mut bytes, index.into());
        }
        section(out, EXPORTS, &bytes);
        Ok(())
    }

    fn keep(&mut self, index: u32) {
        let defined = index
            .checked_sub(self.imported)
            .and_then(|defined| usize::try_from(defined).ok());
        if let Some(ty) = defined.and_then(|defined| self.types.get(defined)) {
            self.kept.insert(index, *ty);
        }
    }

    fn expression(&mut self, expression: &ConstExpr<'_>) -> Result<(), BinaryReaderError> {
        for operator in expression.get_operators_reader() {
            self.referred |= matches!(operator?, Operator::RefFunc { .. });
        }
        Ok(())
    }
}

/// Finds the functions of each core module, in order.
fn functions(wasm: &[u8]) -> Result<Vec<Functions>, BinaryReaderError> {
    let mut modules: Vec<Functions> = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        if let Payload::Version {
            encoding: Encoding::Module,
            ..
        } = payload
        {
            modules.push(Functions::default());
        }
        let Some(module) = modules.last_mut() else {
            continue;
        };
        match payload {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let ty = import?.ty;
                    module.imported +=
                        u32::from(matches!(ty, TypeRef::Func(_) | TypeRef::FuncExact(_)));
                }
            }
            Payload::FunctionSection(types) => {
                module.types = types.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    if let TableInit::Expr(expression) = table?.init {
                        module.expression(&expression)?;
                    }
                }
            }
            Payload::GlobalSection(globals) => {
                for global in globals {
                    module.expression(&global?.init_expr)?;
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    if let ExternalKind::Func | ExternalKind::FuncExact = export.kind {
                        module.keep(export.index);
                    }
                }
            }
            _ => {}
        }
    }
    for module in &mut modules {
        if module.referred {
            // All functions keep their indices.
            let all = (module.imported..).take(module.types.len());
            all.collect::<Vec<_>>()
                .into_iter()
                .for_each(|index| module.keep(index));
        }
    }
    Ok(modules)
}

fn section(out: &mut Vec<u8>, id: u8, bytes: &[u8]) {
    out.push(id);
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes a number as LEB128.
fn number(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parser_reads_written_numbers() {
        for value in [0, 1, 127, 128, 300, 65_535, u32::MAX] {
            let mut bytes = Vec::new();
            number(&mut bytes, value.into());
            let mut reader = wasmparser::BinaryReader::new(&bytes, 0);
            assert_eq!(reader.read_var_u32().unwrap(), value);
            assert!(reader.eof());
        }
    }

    /// Checks that the skeleton of a component is valid, and returns it as text.
    #[track_caller]
    fn text(wat: &str) -> String {
        let wasm = wat::parse_str(wat).unwrap();
        let skeleton = skeleton(&wasm).unwrap();
        for wasm in [&wasm, &skeleton] {
            wasmparser::Validator::new().validate_all(wasm).unwrap();
        }
        wasmprinter::print_bytes(&skeleton).unwrap()
    }

    #[test]
    fn exported_functions_become_stubs() {
        let text = text(
            r#"(component
                (core module $m
                    (import "" "g" (func $g (param i64)))
                    (memory (export "m") 1) (table 1 funcref)
                    (func $s (call $g (i64.const 77)))
                    (func (export "f") (param i32) (result i32) (i32.const 77))
                    (func $h (export "h") (result f32) (f32.const 77))
                    (export "i" (func $g))
                    (export "j" (func $h))
                    (elem (i32.const 0) $s) (data (i32.const 0) "77") (start $s))
                (component $inner
                    (alias outer 1 $m (core module $m))))"#,
        );
        for absent in ["77", "elem", "data", "start", "call"] {
            assert!(!text.contains(absent), "{text}");
        }
        assert_eq!(text.matches("unreachable").count(), 2, "{text}");
        for kept in [
            r#"(export "i" (func 0))"#,
            r#"(export "f" (func 1))"#,
            r#"(export "h" (func 2))"#,
            r#"(export "j" (func 2))"#,
            "alias outer",
        ] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }

    #[test]
    fn functions_that_globals_refer_to_are_kept() {
        let text = text(
            r#"(component (core module
                (func) (func $f) (func (export "h"))
                (global (export "g") funcref (ref.func $f))))"#,
        );
        assert_eq!(text.matches("unreachable").count(), 3, "{text}");
        assert!(text.contains("ref.func 1"), "{text}");
    }
}
