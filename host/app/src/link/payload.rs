//! The items of streams and futures that can pass between guests.

use wasmtime::component::types::Type;

use super::resources::{Identity, Resources};

/// Returns whether the host has a static type for such items. It must have one, because wasmtime
/// lifts them from a stream and lowers them to one by nothing else.
pub(super) fn passes(resources: &Resources, items: Option<&Type>) -> bool {
    match items {
        None => true,
        Some(Type::Result(result)) => match (result.ok(), result.err()) {
            (None, None) => true,
            (ok, Some(Type::String)) => ok.is_none_or(|ok| {
                matches!(ok, Type::String) || is_bytes(&ok) || is_region(resources, &ok)
            }),
            _ => false,
        },
        Some(
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
            | Type::String,
        ) => true,
        Some(other) => is_bytes(other) || is_region(resources, other),
    }
}

fn is_bytes(ty: &Type) -> bool {
    matches!(ty, Type::List(list) if list.ty() == Type::U8)
}

fn is_region(resources: &Resources, ty: &Type) -> bool {
    matches!(ty, Type::Own(handle) if resources.identity(*handle) == Identity::Region)
}
