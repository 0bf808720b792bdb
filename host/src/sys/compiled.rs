//! Code that another process of this program compiled.

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::compile::Compiled;

/// Makes a component of what the compiler's process answered.
///
/// # Errors
///
/// It is of another version of wasmtime, or for other settings.
pub(crate) fn load(engine: &Engine, compiled: &Compiled) -> wasmtime::Result<Component> {
    // SAFETY: the bytes must come from `Engine::precompile_component`, unchanged.
    // A `Compiled` is made in one place only, of an answer that has the request's
    // random number in it, which only `compile::child` writes, in a process that runs
    // the same program as this one, over a pipe that has no other ends. Nobody changes
    // its bytes. Wasmtime checks that versions and settings are the same.
    unsafe { Component::deserialize(engine, compiled.bytes()) }
}

/// Returns how many seconds of processor time this process has used, rounded up.
pub(crate) fn processor_seconds() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a local variable that is written to during the call
    // only. A failure leaves it at zero.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or_default() + u64::from(time.tv_nsec > 0)
}
