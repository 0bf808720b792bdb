//! What a guest's store may take of the host's memory, all instances together.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use tombolo::internal::sys::Overgrown;
use tombolo::pressure::Promise;
use tombolo_region::{Account, Charge, ChargeKind, Exhausted};

/// The core instances, memories and tables of one component: more than any
/// toolchain makes, and few enough that their reservations fit the address
/// space.
const INSTANCES: usize = 1000;
const MEMORIES: usize = 32;
const TABLES: usize = 1000;

const TABLE_ELEMENTS: usize = 1 << 20;

/// A table's element takes 8 bytes of the host's heap, and as much again while the
/// table grows.
const TABLE_ELEMENT_BYTES: u64 = 16;

/// Counts the bytes of all linear memories together, and the elements of all
/// tables.
#[derive(Debug)]
pub(super) struct Limiter {
    memory: LimitedCount,
    table: LimitedCount,
    account: Arc<Account>,
    /// For the elements of tables.
    tables: Option<Charge>,
    /// The memory that the host promised.
    promise: Promise,
    /// The host has promised memory since a growth failed last.
    granted: bool,
    /// The growths that the host had no memory for.
    refused: u64,
}

/// What was asked for and not refused stays counted, also where it then fails:
/// wasmtime reports failures of growth that it never asked about as well.
#[derive(Debug)]
struct LimitedCount {
    used: usize,
    most: usize,
}

impl LimitedCount {
    fn fits(&self, current: usize, desired: usize) -> bool {
        let more = desired.saturating_sub(current);
        self.used
            .checked_add(more)
            .is_some_and(|used| used <= self.most)
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let more = desired.saturating_sub(current);
        match self
            .used
            .checked_add(more)
            .filter(|used| *used <= self.most)
        {
            Some(used) => {
                self.used = used;
                true
            }
            None => false,
        }
    }
}

impl Limiter {
    /// `account` is charged for tables.
    pub(super) fn new(memory_bytes: u64, account: Arc<Account>, promise: Promise) -> Limiter {
        let most = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
        Limiter {
            memory: LimitedCount { used: 0, most },
            table: LimitedCount {
                used: 0,
                most: TABLE_ELEMENTS,
            },
            account,
            tables: None,
            promise,
            granted: false,
            refused: 0,
        }
    }

    /// Charges bytes for the elements of tables, in one charge for all of them.
    fn charge(&mut self, bytes: u64) -> Result<(), Exhausted> {
        match &mut self.tables {
            Some(charge) => charge.grow(bytes),
            none => {
                *none = Some(self.account.charge(ChargeKind::HostMemory, bytes)?);
                Ok(())
            }
        }
    }

    /// Returns how many growths were refused because the host was short of memory.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Asks the host for memory for a growth.
    fn ask_host(&mut self, current: usize, desired: usize) -> bool {
        let more = desired.saturating_sub(current);
        let Err(short) = self.promise.grow(more as u64) else {
            self.granted = true;
            return true;
        };
        self.memory.used -= more;
        self.refused += 1;
        // Once, because a guest may ask as often as it likes.
        if self.refused == 1 {
            tracing::warn!("a guest's memory does not grow: {short}");
        }
        false
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(allowed && self.memory.grow(current, desired) && self.ask_host(current, desired))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        tracing::debug!(%error, "a guest's memory does not grow");
        // It may be a growth that was never asked for. A guest can have any number of
        // those, so it looks only if there may be something to give back.
        if std::mem::take(&mut self.granted) {
            self.promise.growth_failed();
        }
        match error.is::<Overgrown>() {
            // The guest traps.
            true => Err(error),
            false => Ok(()),
        }
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = maximum.is_none_or(|maximum| desired <= maximum);
        if !allowed || !self.table.fits(current, desired) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current) as u64;
        let bytes = more.saturating_mul(TABLE_ELEMENT_BYTES);
        match self.charge(bytes) {
            Ok(()) => Ok(self.table.grow(current, desired)),
            // The first elements are those of instantiation, which nobody can be
            // told of by a value.
            Err(exhausted) if current == 0 => Err(exhausted.into()),
            Err(_) => Ok(false),
        }
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::OnceLock;

    use wasmtime::{Config, Engine, Instance, Module, Store};

    use tombolo::internal::sys::{StoreId, entry};
    use tombolo::pressure::{Headroom, MemoryGauge};
    use tombolo::{HostLimits, RegionHost};

    const MIB: usize = 1 << 20;

    /// Always as much memory.
    struct Fixed(u64);

    impl MemoryGauge for Fixed {
        fn name(&self) -> String {
            "the test".into()
        }

        fn headroom(&self, _: u64) -> std::io::Result<Headroom> {
            Ok(Headroom {
                memory: self.0,
                swap: 0,
            })
        }
    }

    #[test]
    fn memory_that_the_host_lacks_is_refused() {
        let limits = {
            let mut it = HostLimits::default();
            it.margin = 4 * MIB as u64;
            it
        };
        let host = RegionHost::with_gauge(limits, Arc::new(Fixed(10 * MIB as u64)));
        let new = || limiter_on(&host, 1 << 30);
        let (mut one, mut other) = (new(), new());
        assert!(one.memory_growing(0, 5 * MIB, None).unwrap());
        // Half of the margin may be used.
        assert!(!other.memory_growing(0, 4 * MIB, None).unwrap());
        assert_eq!((one.refused(), other.refused()), (0, 1));
        assert!(other.memory_growing(0, 3 * MIB, None).unwrap());
        assert!(!other.memory_growing(3 * MIB, 3 * MIB + 1, None).unwrap());
        assert_eq!(other.memory.used, 3 * MIB);
        // What a guest had is free when it has ended.
        drop(one);
        assert!(other.memory_growing(3 * MIB, 8 * MIB, None).unwrap());
    }

    /// A guest's limiter, on a host that has memory.
    fn limiter(memory_bytes: u64) -> Limiter {
        limiter_on(&RegionHost::new(), memory_bytes)
    }

    fn limiter_on(host: &RegionHost, memory_bytes: u64) -> Limiter {
        limiter_of(host, memory_bytes, Arc::default())
    }

    fn limiter_of(host: &RegionHost, memory_bytes: u64, store: Arc<OnceLock<StoreId>>) -> Limiter {
        let account = Account::new("guest `a`", tombolo::Limits::default().quota());
        Limiter::new(memory_bytes, account, Promise::new(host, store))
    }

    #[test]
    fn memory_of_a_failed_growth_is_for_others() {
        let limits = {
            let mut it = HostLimits::default();
            it.margin = 4 * MIB as u64;
            it
        };
        let host = RegionHost::with_gauge(limits, Arc::new(Fixed(10 * MIB as u64)));
        let mut config = Config::new();
        tombolo::prepare(&mut config).unwrap();
        let engine = Engine::new(&config).unwrap();
        let module = wat::parse_str("(module (memory 16))").unwrap();
        let module = Module::new(&engine, module).unwrap();
        let mut store = Store::new(&engine, ());
        let id = StoreId::of(&store);
        let mut one = limiter_of(&host, 1 << 30, Arc::new(id.into()));
        let mut other = limiter_on(&host, 1 << 30);
        assert!(one.memory_growing(0, MIB, None).unwrap());
        let entered = entry::Entered::new(id);
        Instance::new(&mut store, &module, &[]).unwrap();
        drop(entered);
        assert!(one.memory_growing(MIB, 6 * MIB, None).unwrap());
        let failed = || wasmtime::Error::msg("the kernel refuses");
        one.memory_grow_failed(failed()).unwrap();
        // Half of the margin may be used, and the memory has 1 MiB.
        assert!(other.memory_growing(0, 7 * MIB, None).unwrap());
        assert!(!other.memory_growing(7 * MIB, 8 * MIB, None).unwrap());
        // The memory that is there stays promised.
        one.memory_grow_failed(failed()).unwrap();
        assert!(!other.memory_growing(7 * MIB, 8 * MIB, None).unwrap());
    }

    #[test]
    fn memories_count_together() {
        let mut limiter = limiter(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(60, 90, None).unwrap());
        assert!(!limiter.memory_growing(0, 11, None).unwrap());
        assert!(limiter.memory_growing(0, 10, None).unwrap());
        assert_eq!(limiter.memory.used, 100);
    }

    #[test]
    fn word_of_a_failure_frees_nothing() {
        let mut limiter = limiter(100);
        assert!(limiter.memory_growing(0, 100, None).unwrap());
        limiter
            .memory_grow_failed(wasmtime::Error::msg("a guest can have these"))
            .unwrap();
        assert!(!limiter.memory_growing(0, 1, None).unwrap());
    }

    #[test]
    fn guest_traps_whose_refused_growth_was_not_undone() {
        let mut limiter = limiter(100);
        limiter.memory_grow_failed(Overgrown.into()).unwrap_err();
    }

    #[test]
    fn a_growth_beyond_its_own_maximum_is_refused() {
        assert!(!limiter(100).memory_growing(0, 60, Some(50)).unwrap());
    }
}
