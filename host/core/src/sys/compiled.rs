//! Code that another process of this program compiled.

use wasmtime::Engine;
use wasmtime::component::Component;

/// The result of [`Engine::precompile_component`] in another process that runs the same
/// program.
#[derive(Debug)]
pub struct Compiled(Vec<u8>);

impl Compiled {
    /// Takes the bytes of an answer.
    ///
    /// Only for `compile::process`, which asks a child, and has checked that the answer
    /// repeats the random number of the request: nothing but `compile::child` writes
    /// such an answer.
    pub fn of_answer(bytes: Vec<u8>) -> Compiled {
        Compiled(bytes)
    }

    /// Loads the component. Copies the code.
    ///
    /// # Errors
    ///
    /// If the code is of another version of wasmtime, or for other settings.
    pub fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: the bytes must come from `Engine::precompile_component`, unchanged.
        // `of_answer` is called in one place only, with what `compile::child` wrote into
        // a pipe that has no other ends, in a process that runs the same program as this
        // one. Nothing changes the bytes afterwards. Wasmtime checks that its version and
        // its settings are the same.
        unsafe { Component::deserialize(engine, &self.0) }
    }
}

/// Returns how many seconds of processor time this process has used, rounded up.
pub fn processor_seconds() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a local variable, which is written to during the call
    // only. A failure leaves it at zero.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or_default() + u64::from(time.tv_nsec > 0)
}
