//! The data of a guest's store.

use std::sync::{Arc, OnceLock};

use wasmtime::component::ResourceTable;
use wasmtime::{CallHook, Store, UpdateDeadline};
use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_io::IoView;

use super::clock::Clock;
use super::files::{FileThreads, FileView};
use super::grants::Grants;
use super::limiter::Limiter;
use super::parting::{self, Parting};
use super::proxy::{Proxies, ProxyView};
use super::status::GuestStatus;
use super::task_table::TaskTable;
use tombolo::internal::sys::{StoreId, private_bytes};
use tombolo::internal::{Promise, RegionCtxInternals as _};
use tombolo::{Limits, Recipient, RegionCtx, RegionView};
use tombolo_region::{Charge, ChargeKind, Exhausted, GRANULE};

/// The default of wasmtime for how many bytes one call may lift.
const MAX_LIFTED: u64 = 128 << 20;

/// The default of wasmtime for how many handles a store may have.
const MAX_HANDLES: u64 = 100_000;

/// The host memory of a handle, in bytes.
const HANDLE_BYTES: u64 = 32;

/// The host memory of a waitable and of what it waits for, in bytes.
const WAITABLE_BYTES: u64 = 4096;

/// The data of a guest's store.
pub(super) struct GuestState {
    wasi: WasiCtx,
    /// Runs what the guest does with files.
    pub(super) files: Arc<FileThreads>,
    /// Resources of WASI, and those that wait by it.
    pub(super) table: ResourceTable,
    pub(super) regions: RegionCtx,
    /// The guest's handles to resources of other guests.
    pub(super) proxies: Proxies,
    pub(super) grants: Grants,
    pub(super) limiter: Limiter,
    /// The most bytes of host memory for each unit of fuel, in the values of its calls.
    lift_ratio: u64,
    /// The charges for values that the guest's current host call has lifted or is about to
    /// lower.
    in_call: Vec<Charge>,
    /// The charge for its core instances.
    instances: Option<Charge>,
    /// Its calls in progress, if it answers several at a time.
    pub(super) tasks: TaskTable,
    /// The lends of its calls that it has cancelled.
    pub(super) parting: Arc<Parting>,
    /// Whether it was refused something by an error code that cannot carry the reason.
    refused: bool,
    /// The store's identity, once there is a store.
    store: Arc<OnceLock<StoreId>>,
    pub(super) clock: Arc<Clock>,
    pub(super) status: Arc<GuestStatus>,
}

impl GuestState {
    /// Makes the data of a store for one incarnation.
    pub(super) fn new(
        wasi: WasiCtx,
        files: Arc<FileThreads>,
        regions: RegionCtx,
        grants: Grants,
        limits: &Limits,
        lift_ratio: u64,
    ) -> GuestState {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.descriptors as usize);
        let account = regions.owner().account.clone();
        let store: Arc<OnceLock<StoreId>> = Arc::default();
        let promise = Promise::new(regions.host(), store.clone());
        let limiter = Limiter::new(limits.memory_bytes, account.clone(), promise);
        let memory = {
            let store = store.clone();
            move || store.get().map_or(0, |store| private_bytes(*store))
        };
        let memory = move || {
            // Less than a granule stays with the allocator.
            let host = account.used(ChargeKind::HostMemory);
            memory().saturating_add(host - host % GRANULE)
        };
        let status = GuestStatus::new(memory, regions.host().clone(), regions.owner().clone());
        GuestState {
            wasi,
            files,
            table,
            regions,
            proxies: Proxies::new(limits),
            grants,
            limiter,
            lift_ratio,
            in_call: Vec::new(),
            instances: None,
            tasks: TaskTable::default(),
            parting: Arc::default(),
            refused: false,
            store,
            clock: Arc::default(),
            status: Arc::new(status),
        }
    }
}

impl GuestState {
    /// Returns the guest as a receiver of regions.
    #[inline]
    pub(super) fn recipient(&self) -> Recipient {
        self.regions.recipient()
    }

    /// Charges bytes to the guest's `host-memory`, before they are allocated.
    #[inline]
    pub(super) fn charge(&self, bytes: u64) -> Result<Charge, Exhausted> {
        let account = &self.regions.owner().account;
        account.charge(ChargeKind::HostMemory, bytes)
    }

    /// Returns whether this incarnation is refused host memory for the first time by a code
    /// that cannot carry the reason.
    pub(super) fn is_first_refusal(&mut self) -> bool {
        !std::mem::replace(&mut self.refused, true)
    }

    /// Keeps a charge until the guest's current host call has returned, and so has lowered
    /// its results.
    #[inline]
    pub(super) fn keep_in_call(&mut self, charge: Charge) {
        self.in_call.push(charge);
    }

    /// Returns how many handles the guest may have in all of its component instances.
    /// Their tables never shrink, so each may become as large as all handles together. All
    /// tables may take a quarter of the limit, on top of the charges.
    pub(super) fn max_handles(&self, component_instances: u64) -> usize {
        let account = &self.regions.owner().account;
        let tables = HANDLE_BYTES.saturating_mul(component_instances.max(1));
        let handles = account.most(ChargeKind::HostMemory) / 4 / tables;
        usize::try_from(handles.min(MAX_HANDLES)).unwrap_or(usize::MAX)
    }

    /// Returns how many calls, waits and streams wasmtime may keep for the guest at a time. All of
    /// them may take a quarter of the limit, on top of the charges.
    pub(super) fn max_waitables(&self) -> usize {
        let account = &self.regions.owner().account;
        let waitables = account.most(ChargeKind::HostMemory) / 4 / WAITABLE_BYTES;
        usize::try_from(waitables.clamp(64, MAX_HANDLES)).unwrap_or(usize::MAX)
    }

    /// Returns how much the next call may lift out of the guest.
    #[inline]
    fn liftable(&self) -> usize {
        let account = &self.regions.owner().account;
        let most = account.most(ChargeKind::HostMemory);
        let rest = most.saturating_sub(account.used(ChargeKind::HostMemory));
        let fuel = (rest / self.lift_ratio).min(MAX_LIFTED);
        usize::try_from(fuel).unwrap_or(usize::MAX)
    }

    /// Returns the guest's files, on its own threads.
    pub(super) fn file_view(&mut self) -> FileView<'_> {
        FileView {
            wasi: WasiFilesystemCtxView {
                ctx: self.wasi.filesystem(),
                table: &mut self.table,
            },
            threads: &self.files,
        }
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl IoView for GuestState {
    fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

impl ProxyView for GuestState {
    fn proxies(&mut self) -> &mut Proxies {
        &mut self.proxies
    }
}

impl RegionView for GuestState {
    fn region_ctx(&mut self) -> &mut RegionCtx {
        &mut self.regions
    }
}

impl GuestState {
    /// Keeps the charge for the guest's core instances until the store is dropped.
    pub(super) fn keep_instances(&mut self, charge: Charge) {
        self.instances = Some(charge);
    }
}

/// Sets up a store: its limits, the checks at each tick of the epoch and at each call into
/// the host, and its identity.
pub(super) fn configure(store: &mut Store<GuestState>) {
    let id = StoreId::of(&*store);
    let _ = store.data().store.set(id);
    store.limiter(|state| &mut state.limiter);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        let state = store.data();
        state.regions.check()?;
        state.status.check()?;
        state.clock.check()?;
        state.clock.yielded();
        // Yields by way of the executor's queue. With this guest always ready, the executor
        // would otherwise look after its timers only once in a while.
        let turn = Box::pin(tokio::task::yield_now());
        Ok(UpdateDeadline::YieldCustom(1, turn))
    });
    store.call_hook(|mut store, hook| {
        match hook {
            // A guest that wrote to a read-only window goes no further than its next host
            // call.
            CallHook::CallingHost => {
                store.data().regions.check()?;
                // A caller that cancelled a call finds its windows gone.
                if store.data().parting.has_some() {
                    parting::relinquish(store.data().parting.take(), &mut store)?;
                }
            }
            CallHook::ReturningFromHost => {
                store.data_mut().in_call.clear();
                return Ok(());
            }
            CallHook::ReturningFromWasm => {}
            // An async export returns its results while it runs.
            CallHook::CallingWasm if store.data().tasks.is_used() => {}
            CallHook::CallingWasm => return Ok(()),
        }
        // For the arguments of this host call, or the results of this export.
        let fuel = store.data().liftable();
        store.set_hostcall_fuel(fuel);
        Ok(())
    });
}
