//! The functions of `wasi:random` that return as many bytes as a guest asks for.
//!
//! wasmtime-wasi returns up to 64 MiB. Here the bytes are charged to the guest's `host-memory`
//! first. All other functions are those of wasmtime-wasi.

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;
use wasmtime_wasi::p2::bindings::random::{insecure, random};
use wasmtime_wasi::random::WasiRandomView;

use super::state::GuestState;

/// Replaces wasmtime-wasi's functions. The linker must allow shadowing.
pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.instance("wasi:random/random@0.2.12")?.func_wrap(
        "get-random-bytes",
        |mut store: StoreContextMut<'_, GuestState>, (length,): (u64,)| {
            charge(store.data_mut(), length)?;
            let random = store.data_mut().random();
            Ok((random::Host::get_random_bytes(random, length)?,))
        },
    )?;
    linker.instance("wasi:random/insecure@0.2.12")?.func_wrap(
        "get-insecure-random-bytes",
        |mut store: StoreContextMut<'_, GuestState>, (length,): (u64,)| {
            charge(store.data_mut(), length)?;
            let random = store.data_mut().random();
            Ok((insecure::Host::get_insecure_random_bytes(random, length)?,))
        },
    )
}

/// Replaces the same functions of WASI 0.3, which return at least a part of the bytes.
pub(super) fn add_p3_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.instance("wasi:random/random@0.3.0")?.func_wrap(
        "get-random-bytes",
        |mut store: StoreContextMut<'_, GuestState>, (length,): (u64,)| {
            let length = length.min(MOST_AT_ONCE);
            charge(store.data_mut(), length)?;
            let random = store.data_mut().random();
            Ok((random::Host::get_random_bytes(random, length)?,))
        },
    )?;
    linker.instance("wasi:random/insecure@0.3.0")?.func_wrap(
        "get-insecure-random-bytes",
        |mut store: StoreContextMut<'_, GuestState>, (length,): (u64,)| {
            let length = length.min(MOST_AT_ONCE);
            charge(store.data_mut(), length)?;
            let random = store.data_mut().random();
            Ok((insecure::Host::get_insecure_random_bytes(random, length)?,))
        },
    )
}

/// The most bytes that a function of WASI 0.3 returns at once.
const MOST_AT_ONCE: u64 = 1 << 20;

/// Charges the returned bytes until they are lowered.
fn charge(state: &mut GuestState, bytes: u64) -> wasmtime::Result<()> {
    let charge = state.charge(bytes)?;
    state.keep_in_call(charge);
    Ok(())
}
