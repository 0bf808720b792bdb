//! Walks over all types in a function's type.

use wasmtime::component::types::{ComponentFunc, Type};

/// Calls `see` with every type in the parameters and results of `ty`, outermost first, and with
/// the path to it, until it returns a value. Returns that value.
///
/// Ends soon for every component: wasmtime bounds how deep types nest. The types of all functions
/// that a component imports and exports have at most a million parts, written out.
pub(super) fn function<R>(
    ty: &ComponentFunc,
    mut see: impl FnMut(&Type, &str) -> Option<R>,
) -> Option<R> {
    for (name, ty) in ty.params() {
        let found = walk(&ty, &mut param(name), &mut see);
        if found.is_some() {
            return found;
        }
    }
    for ty in ty.results() {
        let found = walk(&ty, &mut result(), &mut see);
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Returns the path of a parameter.
pub(super) fn param(name: &str) -> String {
    format!("param {name}")
}

/// Returns the path of the result.
pub(super) fn result() -> String {
    "result".to_owned()
}

/// Appends `step` to `path` while `then` runs.
pub(super) fn step<R>(path: &mut String, step: &str, then: impl FnOnce(&mut String) -> R) -> R {
    let length = path.len();
    path.push_str(step);
    let result = then(path);
    path.truncate(length);
    result
}

fn walk<R>(
    ty: &Type,
    path: &mut String,
    see: &mut impl FnMut(&Type, &str) -> Option<R>,
) -> Option<R> {
    let found = see(ty, path);
    if found.is_some() {
        return found;
    }
    let mut inner = |ty: Type, name: &str| step(path, name, |path| walk(&ty, path, see));
    match ty {
        Type::List(list) => inner(list.ty(), "[]"),
        Type::FixedLengthList(list) => inner(list.ty(), "[]"),
        Type::Map(map) => inner(map.key(), ".key").or_else(|| inner(map.value(), ".value")),
        Type::Option(option) => inner(option.ty(), ".some"),
        Type::Record(record) => record
            .fields()
            .find_map(|field| inner(field.ty, &format!(".{}", field.name))),
        Type::Tuple(tuple) => tuple
            .types()
            .enumerate()
            .find_map(|(index, ty)| inner(ty, &format!(".{index}"))),
        Type::Variant(variant) => variant
            .cases()
            .find_map(|case| inner(case.ty?, &format!(".{}", case.name))),
        Type::Result(result) => result
            .ok()
            .and_then(|ty| inner(ty, ".ok"))
            .or_else(|| inner(result.err()?, ".err")),
        Type::Bool
        | Type::S8
        | Type::U8
        | Type::S16
        | Type::U16
        | Type::S32
        | Type::U32
        | Type::S64
        | Type::U64
        | Type::Float32
        | Type::Float64
        | Type::Char
        | Type::String
        | Type::Enum(_)
        | Type::Flags(_)
        | Type::Own(_)
        | Type::Borrow(_)
        | Type::Future(_)
        | Type::Stream(_)
        | Type::ErrorContext => None,
    }
}
