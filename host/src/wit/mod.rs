//! The WIT interfaces, as wasmtime host functions.
//!
//! | file | what |
//! |---|---|
//! | `bindings` | generated from `wit/memory.wit` |
//! | `regions` | the interface `regions` |
//! | `windows` | the interface `windows`, registered by hand |

pub(crate) mod bindings;
mod regions;
mod windows;

use wasmtime::component::Linker;

use crate::RegionView;

/// Adds the interfaces `tombolo:memory/regions` and `tombolo:memory/windows` to
/// a linker. They are synchronous, for stores of both kinds.
///
/// # Errors
///
/// If the linker has them already.
pub fn add_to_linker<T: RegionView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    bindings::tombolo::memory::regions::add_to_linker::<T, HasRegions>(linker, |data| {
        data.region_ctx()
    })?;
    windows::add_to_linker(linker)
}

struct HasRegions;

impl wasmtime::component::HasData for HasRegions {
    type Data<'a> = &'a mut crate::RegionCtx;
}
