//! Imports whose values pass as slots, in the importer's linker.

use std::sync::Arc;

use wasmtime::component::types::Type;
use wasmtime::component::{LinkerInstance, Resource};

use super::call::Target;
use super::link::LinkedFunction;
use super::slots::{Params, Results, Slot};
use super::state::GuestState;
use tombolo::Region;

/// Defines the function if it is of this kind, and returns whether it is.
pub(super) fn define(
    instance: &mut LinkerInstance<'_, GuestState>,
    function: &LinkedFunction,
    target: &Arc<Target>,
) -> wasmtime::Result<bool> {
    let mut params = function.ty.params();
    if !function.only_regions || !params.all(|(_, ty)| is_slot(&ty)) {
        return Ok(false);
    }
    match function.ty.params().len() {
        0 => define_with::<()>(instance, function, target),
        1 => define_with::<(Slot,)>(instance, function, target),
        2 => define_with::<(Slot, Slot)>(instance, function, target),
        3 => define_with::<(Slot, Slot, Slot)>(instance, function, target),
        4 => define_with::<(Slot, Slot, Slot, Slot)>(instance, function, target),
        _ => Ok(false),
    }
}

/// Returns whether a value of this type fits into a slot.
fn is_slot(ty: &Type) -> bool {
    matches!(
        ty,
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
            | Type::Enum(_)
            | Type::Own(_)
            | Type::Borrow(_)
    )
}

/// Defines a function with these parameters, if its results are of this kind.
fn define_with<P: Params>(
    instance: &mut LinkerInstance<'_, GuestState>,
    function: &LinkedFunction,
    target: &Arc<Target>,
) -> wasmtime::Result<bool> {
    let name = &function.name;
    let mut results = function.ty.results();
    match (results.next(), results.next()) {
        (None, _) => wrap::<P, ()>(instance, name, target),
        (Some(ty), None) if is_slot(&ty) => wrap::<P, (Slot,)>(instance, name, target),
        (Some(Type::Result(result)), None) if result.err() == Some(Type::String) => {
            match result.ok() {
                None => wrap::<P, (Result<(), String>,)>(instance, name, target),
                Some(Type::Bool) => wrap::<P, (Result<bool, String>,)>(instance, name, target),
                Some(Type::U32) => wrap::<P, (Result<u32, String>,)>(instance, name, target),
                Some(Type::U64) => wrap::<P, (Result<u64, String>,)>(instance, name, target),
                Some(Type::S32) => wrap::<P, (Result<i32, String>,)>(instance, name, target),
                Some(Type::S64) => wrap::<P, (Result<i64, String>,)>(instance, name, target),
                Some(Type::Float64) => wrap::<P, (Result<f64, String>,)>(instance, name, target),
                Some(Type::Own(_)) => {
                    wrap::<P, (Result<Resource<Region>, String>,)>(instance, name, target)
                }
                Some(_) => return Ok(false),
            }
        }
        _ => return Ok(false),
    }?;
    Ok(true)
}

/// Defines a function with these parameters and results.
fn wrap<P: Params, R: Results>(
    instance: &mut LinkerInstance<'_, GuestState>,
    name: &str,
    target: &Arc<Target>,
) -> wasmtime::Result<()> {
    let target = target.clone();
    instance.func_wrap_async(name, move |store, params: P| {
        target.call_slots::<P, R>(store, params)
    })
}
