//! The state of an engine: whether its guests can map regions.

use std::io;
use std::sync::{Mutex, PoisonError};

use wasmtime::{Engine, EngineWeak, Strategy};

use crate::config::{WIDER_ASYNC, is_proven};
use crate::sys::{RESERVATION, fault};

/// A reason why guests of an engine cannot map regions; see [`is_prepared`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotPrepared {
    /// [`prepare`](crate::prepare) has not succeeded in this process.
    #[error(
        "`tombolo::prepare` has not succeeded in this process; call it before the first \
         `Engine::new`"
    )]
    Process,
    /// Another handler for SIGSEGV is in front of wasmtime's.
    #[error(
        "another handler for SIGSEGV was installed after `tombolo::prepare`; install crash \
         reporters and the like before"
    )]
    ForeignHandler,
    /// The kernel does not report the handler for SIGSEGV.
    #[error("the kernel does not report the handler for SIGSEGV")]
    Handler(#[source] io::Error),
    /// The engine has the pooling allocator.
    #[error(
        "the engine has the pooling allocator; call `tombolo::prepare` after \
         `Config::allocation_strategy`, not before"
    )]
    Pooling,
    /// The engine reserves too little or too much address space for a memory.
    #[error(
        "the engine reserves {0:#x} bytes for a memory; do not call `Config::memory_reservation` \
         after `tombolo::prepare`"
    )]
    Reservation(u64),
    /// The engine's memories are not Tombolo's.
    #[error(
        "the engine's memories are not Tombolo's; create it with a configuration that \
         `tombolo::prepare` prepared, and do not call `Config::with_host_memory` afterwards"
    )]
    OtherMemories,
    /// The engine has copy-on-write images of memories.
    #[error(
        "the engine has copy-on-write images of memories; do not call \
         `Config::memory_init_cow(true)` after `tombolo::prepare`"
    )]
    CopyOnWrite,
    /// The engine's code does not trap by signals.
    #[error(
        "the engine's code does not trap by signals; do not call \
         `Config::signals_based_traps(false)` after `tombolo::prepare`"
    )]
    NoSignals,
    /// The engine's code is not native code of Cranelift.
    #[error(
        "the engine's code is not native code of Cranelift; do not call `Config::strategy` or \
         `Config::target` after `tombolo::prepare`"
    )]
    OtherCode,
    /// The engine has stackful async functions or component threads.
    #[error(
        "the engine has stackful async functions or component threads, with which a guest may run \
         on during a plain call; do not enable them after `tombolo::prepare`"
    )]
    WiderAsync,
    /// The engine cannot create a memory.
    #[error("the engine cannot create a memory")]
    Memory(#[source] wasmtime::Error),
}

/// Returns whether guests of this engine can map regions.
///
/// [`prepare`](crate::prepare) readies a `Config`, and later calls of the program may undo part of
/// it without an error. Guests on an engine that is not prepared still work, but by copies: `map`
/// returns `unsupported`, and `read-at` and `write-at` do all the work. The first refused `map` of
/// each such engine is logged as a warning, with the reason.
///
/// The first call for an engine compiles an empty module and instantiates it, which takes about a
/// millisecond. Later calls take about a microsecond. Does not block.
///
/// # Errors
///
/// The first reason that was found.
pub fn is_prepared(engine: &Engine) -> Result<(), NotPrepared> {
    if !is_proven() {
        return Err(NotPrepared::Process);
    }
    match fault::front().map_err(NotPrepared::Handler)? {
        fault::Front::Wasmtime => {}
        fault::Front::Us | fault::Front::Other => return Err(NotPrepared::ForeignHandler),
    }
    check_allocation(engine)?;
    if !has_our_memories(engine)? {
        return Err(NotPrepared::OtherMemories);
    }
    check_code(engine)
}

/// Returns whether memories that are Tombolo's can be mapped into on this engine.
#[inline]
pub(crate) fn allows_windows(engine: &Engine) -> bool {
    is_proven() && check_allocation(engine).is_ok() && check_code(engine).is_ok()
}

/// Checks how the engine allocates memories.
fn check_allocation(engine: &Engine) -> Result<(), NotPrepared> {
    if engine.get_pooling_config().is_some() {
        return Err(NotPrepared::Pooling);
    }
    let reservation = engine.get_memory_reservation();
    if reservation != RESERVATION as u64 {
        return Err(NotPrepared::Reservation(reservation));
    }
    Ok(())
}

/// Checks the other settings that [`prepare`](crate::prepare) makes.
fn check_code(engine: &Engine) -> Result<(), NotPrepared> {
    if engine.get_memory_init_cow() {
        return Err(NotPrepared::CopyOnWrite);
    }
    if !engine.get_signals_based_traps() {
        return Err(NotPrepared::NoSignals);
    }
    // An engine that only loads code has no strategy.
    let strategy = engine.get_strategy();
    if engine.is_pulley() || !matches!(strategy, None | Some(Strategy::Cranelift)) {
        return Err(NotPrepared::OtherCode);
    }
    if engine.get_wasm_features().intersects(WIDER_ASYNC) {
        return Err(NotPrepared::WiderAsync);
    }
    Ok(())
}

/// Facts about engines that live.
struct Known<F>(Mutex<Vec<(EngineWeak, F)>>);

impl<F: Copy> Known<F> {
    const fn new() -> Known<F> {
        Known(Mutex::new(Vec::new()))
    }

    fn get(&self, engine: &Engine) -> Option<F> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = known.iter();
        let same = |other: &EngineWeak| {
            let other = other.upgrade();
            other.is_some_and(|other| Engine::same(&other, engine))
        };
        known.find(|(other, _)| same(other)).map(|(_, fact)| *fact)
    }

    fn add(&self, engine: &Engine, fact: F) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(other, _)| other.upgrade().is_some());
        known.push((engine.weak(), fact));
    }
}

/// Returns whether the engine's memories are Tombolo's, by trying. wasmtime does not report who
/// creates them.
#[cfg(feature = "cranelift")]
fn has_our_memories(engine: &Engine) -> Result<bool, NotPrepared> {
    use crate::sys::memory_of;
    use wasmtime::{Instance, Module, Store};

    /// `(module (memory (export "m") 1))`
    const MODULE: &[u8] = &[
        0x00, b'a', b's', b'm', 0x01, 0x00, 0x00, 0x00, // magic, version
        0x05, 0x03, 0x01, 0x00, 0x01, // one memory of one page
        0x07, 0x05, 0x01, 0x01, b'm', 0x02, 0x00, // its export
    ];

    static TRIED: Known<bool> = Known::new();
    if let Some(known) = TRIED.get(engine) {
        return Ok(known);
    }
    if engine.get_strategy().is_none() {
        // It cannot compile the module.
        return Ok(true);
    }
    let mut store = Store::new(engine, ());
    let instance = Module::new(engine, MODULE)
        .and_then(|module| Instance::new(&mut store, &module, &[]))
        .map_err(NotPrepared::Memory)?;
    let memory = instance.get_memory(&mut store, "m");
    let memory = memory.expect("the module exports it");
    let ours = memory_of(memory.data(&store)).is_some();
    TRIED.add(engine, ours);
    Ok(ours)
}

#[cfg(not(feature = "cranelift"))]
fn has_our_memories(_: &Engine) -> Result<bool, NotPrepared> {
    Ok(true)
}

/// Logs why a guest of this engine may not map, unless that was logged before for the engine.
pub(crate) fn log_refusal(engine: &Engine, guest: &str) {
    static TOLD: Known<()> = Known::new();
    if TOLD.get(engine).is_some() {
        return;
    }
    // Otherwise the memory is not one that windows can be in, on a good engine.
    if let Err(reason) = is_prepared(engine) {
        TOLD.add(engine, ());
        tracing::warn!(
            guest,
            "guests of this engine cannot map regions and work by copies: {reason}"
        );
    }
}
