//! Limits the linear memories and tables of a guest's store, all instances together.
//!
//! Linear memories count against the limit `memory`, and the host must be able to promise their
//! memory. Tables are charged to the guest's account of host memory, which all incarnations of the
//! guest share. The table "Host memory" in `docs/limits.md` lists what else is charged there, and
//! what is only bounded. When a guest is ended for lack of memory, its charged bytes count as
//! freed, in steps of 64 KiB.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use tombolo::internal::Promise;
use tombolo::internal::sys::Overgrown;
use tombolo_region::{Account, Charge, ChargeKind, Exhausted};

/// The most core instances, memories and tables of one component. Toolchains make fewer, and the
/// reservations of these fit into the address space.
const INSTANCES: usize = 1000;
const MEMORIES: usize = 32;
const TABLES: usize = 1000;

/// The most elements of all tables.
const TABLE_ELEMENTS: usize = 1 << 20;

/// The bytes charged for an element of a table: 8 bytes of the host's heap, and another 8 while the
/// table grows.
const TABLE_ELEMENT_BYTES: u64 = 16;

/// The counts of a guest's linear memories and tables.
#[derive(Debug)]
pub(super) struct Limiter {
    memory: LimitedCount,
    table: LimitedCount,
    account: Arc<Account>,
    /// The charge for the elements of tables.
    tables: Option<Charge>,
    /// The memory that the host has promised.
    promise: Promise,
    /// Whether the host has promised memory since the last failed growth.
    granted: bool,
    /// The number of growths for which the host lacked memory.
    refused: u64,
}

/// A count with a limit. A granted growth stays counted even if it fails afterwards, because
/// wasmtime also reports failures of growths that it never asked about.
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
    /// Creates a limiter. `account` is charged for tables.
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

    /// Adds bytes to the charge for the elements of tables.
    fn charge(&mut self, bytes: u64) -> Result<(), Exhausted> {
        match &mut self.tables {
            Some(charge) => charge.grow(bytes),
            none => {
                *none = Some(self.account.charge(ChargeKind::HostMemory, bytes)?);
                Ok(())
            }
        }
    }

    /// Returns the number of growths that were refused because the host lacked memory.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Asks the host to promise the memory of a growth.
    fn ask_host(&mut self, current: usize, desired: usize) -> bool {
        let more = desired.saturating_sub(current);
        let Err(short) = self.promise.grow(more as u64) else {
            self.granted = true;
            return true;
        };
        self.memory.used -= more;
        self.refused += 1;
        // Logged once, because a guest may ask any number of times.
        if self.refused == 1 {
            tracing::warn!("refused to grow a guest's memory: {short}");
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
        tracing::debug!(%error, "cannot grow a guest's memory");
        // It may be a growth that was never asked about. A guest can cause any number of those, so
        // this acts only if the host has promised memory in between.
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
            // The first elements belong to instantiation, which has no value for a failure.
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

    use crate::test_engine::engine;
    use wasmtime::{Instance, Module, Store};

    use tombolo::internal::LimitsInternals as _;
    use tombolo::internal::sys::{StoreId, entry};
    use tombolo::pressure::{Headroom, MemoryGauge};
    use tombolo::{HostLimits, RegionHost};

    const MIB: usize = 1 << 20;

    /// A gauge with a fixed amount of memory.
    struct Fixed(u64);

    impl MemoryGauge for Fixed {
        fn name(&self) -> String {
            "the test".into()
        }

        fn headroom(&self, _: u64) -> std::io::Result<Headroom> {
            Ok(Headroom::new(self.0, 0))
        }
    }

    // rule 8
    #[test]
    fn growth_is_refused_if_the_host_lacks_memory() {
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
        // The memory of a guest is free after its end.
        drop(one);
        assert!(other.memory_growing(3 * MIB, 8 * MIB, None).unwrap());
    }

    /// Returns a guest's limiter on a host with enough memory.
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

    // rule 8
    #[test]
    fn memory_of_a_failed_growth_is_free_again() {
        let limits = {
            let mut it = HostLimits::default();
            it.margin = 4 * MIB as u64;
            it
        };
        let host = RegionHost::with_gauge(limits, Arc::new(Fixed(10 * MIB as u64)));
        let engine = engine();
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
        // Existing memory stays promised.
        one.memory_grow_failed(failed()).unwrap();
        assert!(!other.memory_growing(7 * MIB, 8 * MIB, None).unwrap());
    }

    // rule 10
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
    fn reported_failure_does_not_lower_the_count() {
        let mut limiter = limiter(100);
        assert!(limiter.memory_growing(0, 100, None).unwrap());
        limiter
            .memory_grow_failed(wasmtime::Error::msg("a guest can cause these"))
            .unwrap();
        assert!(!limiter.memory_growing(0, 1, None).unwrap());
    }

    #[test]
    fn overgrown_memory_traps_the_guest() {
        let mut limiter = limiter(100);
        limiter.memory_grow_failed(Overgrown.into()).unwrap_err();
    }

    // rule 10
    #[test]
    fn growth_beyond_the_maximum_is_refused() {
        assert!(!limiter(100).memory_growing(0, 60, Some(50)).unwrap());
    }
}
