//! The number of types in a section of a component.

use std::ops::Range;

use wasmparser::{
    BinaryReader, ComponentAlias, ComponentDefinedType, ComponentImport, ComponentType, CoreType,
};

use crate::compile::limits::{CompileLimits, MeasureError, check_depth};

/// The types in a section of a component.
pub(super) struct CountedTypes {
    pub(super) count: u64,
    /// Whether one of them is an async function, a stream or a future.
    pub(super) concurrent: bool,
}

/// Counts the types in a section of a component. `wasmparser` reads nested types recursively, so
/// their depth is checked first, without recursion.
pub(super) fn component_types(
    wasm: &[u8],
    range: Range<usize>,
    limits: &CompileLimits,
) -> Result<CountedTypes, MeasureError> {
    let mut reader = BinaryReader::new(&wasm[range.clone()], range.start);
    let mut types = 0;
    let mut concurrent = false;
    // The declarations left in each component or instance type that is being read, outermost
    // first. The section is the outermost.
    let mut open = vec![reader.read_var_u32()?];
    while let Some(left) = open.last_mut() {
        let Some(less) = left.checked_sub(1) else {
            open.pop();
            continue;
        };
        *left = less;
        let in_section = open.len() == 1;
        types += 1;
        if types > limits.types {
            break;
        }
        if !in_section {
            // The kind of declaration. Only types contain types.
            match reader.clone().read_u8()? {
                0x01 => {
                    reader.read_u8()?;
                }
                0x00 => {
                    reader.read_u8()?;
                    types += core_types(&reader.read::<CoreType<'_>>()?);
                    continue;
                }
                0x02 => {
                    reader.read_u8()?;
                    reader.read::<ComponentAlias<'_>>()?;
                    continue;
                }
                // Imports and exports have the same form.
                _ => {
                    reader.read_u8()?;
                    reader.read::<ComponentImport<'_>>()?;
                    continue;
                }
            }
        }
        match reader.clone().read_u8()? {
            0x41 | 0x42 => {
                reader.read_u8()?;
                open.push(reader.read_var_u32()?);
                check_depth("types nest", open.len() as u64, limits)?;
            }
            _ => {
                concurrent |= needs_concurrency(&reader.read()?);
            }
        }
    }
    Ok(CountedTypes {
        count: types,
        concurrent,
    })
}

/// Returns whether values of this type exist only on engines with concurrency.
fn needs_concurrency(ty: &ComponentType<'_>) -> bool {
    match ty {
        ComponentType::Func(ty) => ty.async_,
        ComponentType::Defined(ty) => matches!(
            ty,
            ComponentDefinedType::Stream(_) | ComponentDefinedType::Future(_)
        ),
        _ => false,
    }
}

/// Counts the types in a core type of a component.
pub(super) fn core_types(ty: &CoreType<'_>) -> u64 {
    match ty {
        CoreType::Rec(group) => group.types().len() as u64,
        CoreType::Module(declarations) => 1 + declarations.len() as u64,
    }
}
