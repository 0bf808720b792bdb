//! The preparation of engines for mapping.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wasmtime::{Config, Engine, InstanceAllocationStrategy, Memory, Store, WasmFeatures};
#[cfg(feature = "cranelift")]
use wasmtime::{Trap, TypedFunc};

use crate::sys::{
    Creator, MapError, MemoryRecord, Perms, Process, RegionFile, StoreId, StoreMark,
    WindowObserver, fault, memory_of, signal,
};
use tombolo_region::{GRANULE, RegionName, Span};

/// Prepares a configuration for engines in which guests can map regions, and proves, by trying,
/// that it works in this process.
///
/// Call it before the process creates its first wasmtime `Engine`, and after other settings. It
/// sets:
///
/// - Tombolo's own linear memories, with 4 GiB reserved for each;
/// - no copy-on-write images, which those cannot have;
/// - the on-demand allocator, also if the configuration has a pooling allocator;
/// - Cranelift, native code and traps by signals;
/// - no stackful async functions and no component threads, because a plain call must keep its
///   store: with either of them, a guest that waits for the host could run on meanwhile.
///
/// Do not change any of these afterwards. wasmtime accepts some changes without an error, for
/// example a pooling allocator; [`is_prepared`](crate::is_prepared) finds them.
///
/// If the system refuses the threads that wasmtime compiles with, it turns parallel compilation
/// off, which would otherwise panic.
///
/// Concurrency support stays as it is. wasmtime turns it on by default if it was built with the
/// feature `component-model-async`, and it makes each call about a microsecond slower. If no
/// guest has async functions, turn it off by `Config::concurrency_support(false)`.
///
/// Blocks for some milliseconds, because it compiles and runs a tiny module.
///
/// When a store is dropped, the reservations of its memories wait for reuse: 32 in the process,
/// with up to 2 MiB of zero pages each and 8 MiB in all, which the kernel may take if memory is
/// short. Those of memories that grew beyond 64 MiB are unmapped. Memories of 4 MiB and more get
/// huge pages if the kernel permits them, and are then resident in steps of 2 MiB.
///
/// # Frameworks that make their own engines
///
/// A framework may create an engine before the program can change its configuration. Spin does, to
/// probe whether the machine has room for its pool. Then call `prepare` with a configuration that
/// is thrown away, first of all in `main`. Call it again with each configuration that is used:
///
/// - Spin: with the configuration that `update_core_config` receives. Its pool is replaced, so the
///   limits of the pool hold no longer.
/// - wash: with the configuration that its `EngineBuilder` begins with. The builder puts a pool
///   back if it is told to have one, so do not ask it for that.
///
/// Afterwards ask [`is_prepared`](crate::is_prepared).
///
/// # What it changes about signals
///
/// - SIGSEGV gets a handler, for the process.
/// - SIGXFSZ is ignored if its action was the default, which ends the process. The kernel
///   raises it when a guest writes more to a file than `RLIMIT_FSIZE` allows; now the guest
///   gets an error instead. Child processes inherit that.
/// - SIGSEGV, SIGBUS, SIGILL and SIGFPE are unblocked in this thread, because a fault while they
///   are blocked ends the process. Other threads in which the program enters stores must not
///   block them either. (The crate `tombolo-app` unblocks them in its threads.)
///
/// # What an embedder must not do
///
/// - Install a handler for SIGSEGV afterwards. Install crash reporters before: faults that no
///   guest caused are passed on to them.
/// - Call `Engine::unload_process_handlers`.
/// - Write to a guest's memory from a thread that does not have its store in hand, or let the
///   kernel write there. Windows for reading are read-only for the whole process, and such a
///   write of the kernel fails with `EFAULT`.
///
/// # Errors
///
/// [`PrepareError`]. The process can go on, and regions work by copies.
pub fn prepare(config: &mut Config) -> Result<(), PrepareError> {
    if std::fs::read_to_string("/proc/sys/vm/overcommit_memory")
        .is_ok_and(|text| text.trim() == "2")
    {
        return Err(PrepareError::Overcommit);
    }
    signal::unblock_faults();
    signal::ignore_unless_handled(libc::SIGXFSZ).map_err(PrepareError::Handler)?;
    // Before any memory exists, so that all are hidden from a child that is forked later.
    Process::current();
    fault::install().map_err(PrepareError::Handler)?;
    settle(config);
    prove(config)?;
    PROVEN.store(true, Ordering::Release);
    Ok(())
}

/// Whether [`prepare`] has succeeded in this process.
static PROVEN: AtomicBool = AtomicBool::new(false);

/// Returns whether [`prepare`] has succeeded in this process.
#[inline]
pub(crate) fn is_proven() -> bool {
    PROVEN.load(Ordering::Acquire)
}

/// The features with which a guest could run on while one of its plain calls waits for the host.
pub(crate) const WIDER_ASYNC: WasmFeatures =
    WasmFeatures::CM_ASYNC_STACKFUL.union(WasmFeatures::CM_THREADING);

/// Sets the options that engines need for mapping. Does nothing to the process, except that it
/// starts the threads that compile. An engine of [`prepare`] can run code that such an engine
/// compiled.
pub fn settle(config: &mut Config) {
    config
        .with_host_memory(Arc::new(Creator))
        .memory_init_cow(false)
        .memory_reservation(crate::sys::RESERVATION as u64)
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .signals_based_traps(true)
        .wasm_features(WIDER_ASYNC, false);
    #[cfg(feature = "cranelift")]
    config.strategy(wasmtime::Strategy::Cranelift);
    #[cfg(feature = "parallel-compilation")]
    if !crate::parallel::compile_in_parallel(true) {
        config.parallel_compilation(false);
    }
}

/// A reason why an engine cannot be prepared for mapping.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// The kernel refused a change to the actions of signals.
    #[error("cannot change the actions of the signals SIGSEGV and SIGXFSZ")]
    Handler(#[source] io::Error),
    /// An engine was created first, so wasmtime's handler does not go first.
    #[error(
        "a wasmtime Engine was created in this process before Tombolo prepared a configuration; \
         call `tombolo::prepare` before the first `Engine::new`"
    )]
    EngineBefore,
    /// Another handler is in front of wasmtime's.
    #[error(
        "another handler for SIGSEGV was installed after Tombolo's; install crash reporters \
         and the like before `tombolo::prepare`"
    )]
    ForeignHandler,
    /// No engine can be created with the configuration.
    #[error("no engine can be created with this configuration")]
    Engine(#[source] wasmtime::Error),
    /// The engine's memories are not Tombolo's.
    #[error("the engine does not use Tombolo's memories")]
    OtherMemories,
    /// The kernel refuses system calls that mapping needs.
    #[error("the kernel refuses to map regions")]
    System(#[source] io::Error),
    /// The kernel accounts for memory strictly, so the first write to a page of a region may raise
    /// SIGBUS.
    #[error(
        "vm.overcommit_memory is 2: a write to a region may raise SIGBUS then; set it to 0 or 1 \
         to map regions"
    )]
    Overcommit,
    /// A store of wasm to a read-only page did not trap.
    #[error("a store to a read-only page does not trap: {0}")]
    NoTrap(String),
    /// A write by host code to a read-only page was not caught.
    #[error("a write of the host to a read-only page is not caught: {0}")]
    NotCaught(&'static str),
}

/// `(module (memory (export "m") 4)
///    (func (export "s") (param i32) (i32.store8 (local.get 0) (i32.const 1))))`
#[cfg(feature = "cranelift")]
const PROBE: &[u8] = &[
    0x00, b'a', b's', b'm', 0x01, 0x00, 0x00, 0x00, // magic, version
    0x01, 0x05, 0x01, 0x60, 0x01, 0x7f, 0x00, // (type (func (param i32)))
    0x03, 0x02, 0x01, 0x00, // one function of it
    0x05, 0x03, 0x01, 0x00, 0x04, // one memory of four pages
    0x07, 0x09, 0x02, 0x01, b'm', 0x02, 0x00, 0x01, b's', 0x00, 0x00, // exports
    0x0a, 0x0b, 0x01, 0x09, 0x00, 0x20, 0x00, 0x41, 0x01, 0x3a, 0x00, 0x00, 0x0b, // code
];

struct Probe;

impl WindowObserver for Probe {
    fn region(&self) -> String {
        "probe".into()
    }
    fn memory_gone(self: Box<Self>) {}
}

/// A guest with a memory of four pages and a function that stores to it.
#[cfg(feature = "cranelift")]
struct ProbeGuest {
    memory: Memory,
    write: TypedFunc<u32, ()>,
}

#[cfg(feature = "cranelift")]
impl ProbeGuest {
    fn new(engine: &Engine, store: &mut Store<()>) -> wasmtime::Result<ProbeGuest> {
        let module = wasmtime::Module::new(engine, PROBE)?;
        let instance = wasmtime::Instance::new(&mut *store, &module, &[])?;
        let memory = instance.get_memory(&mut *store, "m");
        Ok(ProbeGuest {
            memory: memory.expect("the probe exports it"),
            write: instance.get_typed_func(store, "s")?,
        })
    }

    /// Proves that a store of wasm to a read-only page traps.
    fn prove(&self, store: &mut Store<()>, mark: &StoreMark) -> Result<(), PrepareError> {
        match self.write.call(store, GRANULE as u32) {
            _ if mark.has_violation() => Err(PrepareError::EngineBefore),
            Ok(()) => Err(PrepareError::NoTrap("it succeeded".into())),
            Err(error) if error.downcast_ref() == Some(&Trap::MemoryOutOfBounds) => Ok(()),
            Err(error) => Err(PrepareError::NoTrap(format!("{error:#}"))),
        }
    }
}

/// A memory alone, because there is no code to try without a compiler.
#[cfg(not(feature = "cranelift"))]
struct ProbeGuest {
    memory: Memory,
}

#[cfg(not(feature = "cranelift"))]
impl ProbeGuest {
    fn new(_: &Engine, store: &mut Store<()>) -> wasmtime::Result<ProbeGuest> {
        let memory = Memory::new(store, wasmtime::MemoryType::new(4, None))?;
        Ok(ProbeGuest { memory })
    }

    fn prove(&self, _: &mut Store<()>, _: &StoreMark) -> Result<(), PrepareError> {
        Ok(())
    }
}

/// Proves that a write of the host to a read-only page is caught, and, if the engine can compile,
/// that a store of wasm to it traps.
fn prove(config: &Config) -> Result<(), PrepareError> {
    let engine = Engine::new(config).map_err(PrepareError::Engine)?;
    match fault::front().map_err(PrepareError::Handler)? {
        fault::Front::Us => return Err(PrepareError::EngineBefore),
        fault::Front::Other => return Err(PrepareError::ForeignHandler),
        fault::Front::Wasmtime => {}
    }
    let mut store = Store::new(&engine, ());
    // The configuration may ask for either of these.
    store.set_epoch_deadline(u64::MAX / 2);
    let _ = store.set_fuel(u64::MAX);
    let probe = ProbeGuest::new(&engine, &mut store).map_err(PrepareError::Engine)?;
    let memory = probe.memory;

    let record = memory_of(memory.data(&store)).ok_or(PrepareError::OtherMemories)?;
    let name = RegionName::new("probe").expect("a good name");
    let file = Arc::new(RegionFile::new(&name, GRANULE).map_err(PrepareError::System)?);
    let mark = map_probe(&record, StoreId::of(&store), &file)?;

    probe.prove(&mut store, &mark)?;

    let at = usize::try_from(GRANULE).expect("64 KiB");
    memory
        .write(&mut store, at, &[1])
        .map_err(|_| PrepareError::NotCaught("the memory is too short"))?;
    if !mark.has_violation() {
        return Err(PrepareError::NotCaught("it went unnoticed"));
    }
    let mut byte = [0];
    file.read_at(0, &mut byte).map_err(PrepareError::System)?;
    if byte != [0] {
        return Err(PrepareError::NotCaught("it went into the region"));
    }
    Ok(())
}

fn map_probe(
    record: &Arc<MemoryRecord>,
    store: StoreId,
    file: &Arc<RegionFile>,
) -> Result<Arc<StoreMark>, PrepareError> {
    let start = record.base() + usize::try_from(GRANULE).expect("64 KiB");
    let length = usize::try_from(Span::whole(GRANULE).length()).expect("64 KiB");
    record
        .adopt(store, &"prepare".into(), false)
        .and_then(|mark| {
            let range = start..start + length;
            let perms = Perms::Read;
            record.map_window(store, 0, range, file, 0, perms, u64::MAX, Box::new(Probe))?;
            Ok(mark)
        })
        .map_err(|error| match error {
            MapError::System(error) => PrepareError::System(error),
            other => PrepareError::System(io::Error::other(other)),
        })
}
