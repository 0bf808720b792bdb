//! A guest that the tests drive by hand: the program `util_puppet`, on the regions of this crate.

use std::sync::OnceLock;

use tombolo_region::{GRANULE, Rights};
use tombolo_test_util::process::{Mapping, Process};
use tombolo_tests::artifacts::UTIL_PUPPET;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, Instance, Lift, Linker, Lower, Resource,
    ResourceTable,
};
use wasmtime::{Config, Engine, Result, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::config::prepare;
use crate::ctx::{RegionCtx, RegionView};
use crate::host::{Region, RegionHost};
use crate::regions::ErrorCode;
use crate::wit::add_to_linker;
use crate::wit::pins::WitPinned;
use crate::wit::windows::WitAccess;

/// The result of an act that the host may refuse.
pub(super) type Act<R> = std::result::Result<R, ErrorCode>;

/// The data of a puppet's store.
pub(super) struct PuppetData {
    pub(super) regions: RegionCtx,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for PuppetData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl RegionView for PuppetData {
    fn region_ctx(&mut self) -> &mut RegionCtx {
        &mut self.regions
    }
}

/// Returns the guest, compiled once per process, and its linker.
fn compiled() -> &'static (Component, Linker<PuppetData>) {
    static COMPILED: OnceLock<(Component, Linker<PuppetData>)> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let mut config = Config::new();
        prepare(&mut config).expect("this process can map regions");
        let engine = Engine::new(&config).expect("the configuration is valid");
        let component = Component::from_file(&engine, UTIL_PUPPET).expect("the guest compiles");
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).expect("WASI is added once");
        add_to_linker(&mut linker).expect("Tombolo is added once");
        (component, linker)
    })
}

/// The guest `util_puppet`, in a store of its own.
pub(super) struct Puppet {
    pub(super) store: Store<PuppetData>,
    instance: Instance,
    acts: ComponentExportIndex,
}

/// Declares a method for each act of the guest. It returns the answer of the guest, or the trap.
macro_rules! acts {
    ($($act:ident = $name:literal($($param:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl Puppet {$(
            pub(super) fn $act(&mut self, $($param: $type),*) -> Result<$answer> {
                self.call::<($($type,)*), $answer>($name, ($($param,)*))
            }
        )*}
    };
}

acts! {
    create = "create"(name: &str, size: u64) -> Act<u32>;
    drop_handle = "drop-handle"(number: u32) -> ();
    pin = "pin"(number: u32, offset: u64, length: u64) -> Act<WitPinned>;
    unpin = "unpin"(number: u32, offset: u64, length: u64) -> Act<()>;
    read_at = "read-at"(number: u32, offset: u64, length: u64) -> Act<Vec<u8>>;
    write_at = "write-at"(number: u32, offset: u64, bytes: &[u8]) -> Act<()>;
    map_listed = "map-window"(
        number: u32, offset: u64, length: u64, access: WitAccess, at: u32, listed: u32
    ) -> Act<u32>;
    set_access = "set-access"(window: u32, access: WitAccess) -> Act<()>;
    drop_window = "drop-window"(window: u32) -> ();
    allocate = "allocate"(granules: u32) -> u32;
    peek = "peek"(at: u32, length: u32) -> Vec<u8>;
    sum = "sum"(at: u32, length: u32) -> u64;
    poke = "poke"(at: u32, byte: u8) -> ();
    fill = "fill"(at: u32, length: u32, byte: u8) -> ();
    grow = "grow"(pages: u32) -> i32;
    keep = "keep"(region: Resource<Region>) -> u32;
}

/// The results of a function with one result, or with none.
trait OneResult: Sized {
    type List: ComponentNamedList + Lift;
    fn of(list: Self::List) -> Self;
}

impl OneResult for () {
    type List = ();
    fn of((): ()) {}
}

/// Implements [`OneResult`] for the type of one result.
macro_rules! answers {
    ($($type:ty),*) => {$(
        impl OneResult for $type {
            type List = ($type,);
            fn of((answer,): ($type,)) -> $type {
                answer
            }
        }
    )*};
}

answers!(
    u32,
    u64,
    i32,
    Vec<u8>,
    Act<()>,
    Act<u32>,
    Act<WitPinned>,
    Act<Vec<u8>>
);

impl Puppet {
    /// Creates a guest, or fails if the kernel has no memory for it.
    pub(super) fn try_new(host: &RegionHost, name: &str) -> Result<Puppet> {
        let (component, linker) = compiled();
        let state = PuppetData {
            regions: host.context(name).build(),
            wasi: WasiCtx::builder().build(),
            table: ResourceTable::new(),
        };
        let mut store = Store::new(component.engine(), state);
        let instance = linker.instantiate(&mut store, component)?;
        let acts = instance.get_export_index(&mut store, None, "test:puppet/acts");
        Ok(Puppet {
            store,
            instance,
            acts: acts.expect("the guest exports it"),
        })
    }

    pub(super) fn new(host: &RegionHost, name: &str) -> Puppet {
        Puppet::try_new(host, name).unwrap()
    }

    fn call<P: ComponentNamedList + Lower, R: OneResult>(
        &mut self,
        name: &str,
        params: P,
    ) -> Result<R> {
        let (store, acts) = (&mut self.store, Some(&self.acts));
        let function = self.instance.get_export_index(&mut *store, acts, name);
        let function = function.expect("the guest exports it");
        let function = self
            .instance
            .get_typed_func::<P, R::List>(&mut *store, &function)?;
        Ok(R::of(function.call(store, params)?))
    }

    /// Maps a window at an address, which is passed as a list of one byte.
    pub(super) fn map(
        &mut self,
        number: u32,
        offset: u64,
        length: u64,
        access: WitAccess,
        at: u32,
    ) -> Result<Act<u32>> {
        self.map_listed(number, offset, length, access, at, 1)
    }

    /// Maps the first `granules` of a region into memory that the guest allocates for it. Returns
    /// the window and the address.
    pub(super) fn mapped(&mut self, number: u32, granules: u32, access: WitAccess) -> (u32, u32) {
        let at = self.allocate(granules).unwrap();
        let length = u64::from(granules) * GRANULE;
        let window = self.map(number, 0, length, access, at);
        (window.unwrap().unwrap(), at)
    }

    /// Passes a region to the guest, and returns the number of its handle.
    pub(super) fn receive(&mut self, region: Region) -> u32 {
        let region = region.give(&mut self.store).unwrap();
        self.keep(region).unwrap()
    }

    /// Returns one byte of the guest's memory.
    pub(super) fn byte(&mut self, at: u32) -> u8 {
        self.peek(at, 1).unwrap()[0]
    }

    /// Checks that the guest works: it maps a region and writes to it.
    pub(super) fn assert_works(&mut self) {
        let host = self.store.data().regions.host().clone();
        let region = filled(&host, "proof of life", GRANULE, 0x5a);
        let number = self.receive(region.duplicate(Rights::ALL).unwrap());
        let (window, at) = self.mapped(number, 1, WitAccess::Write);
        assert_eq!(self.byte(at + 100), 0x5a);
        self.poke(at + 100, 1).unwrap();
        self.drop_window(window).unwrap();
        assert_eq!(region.try_read(100..101).unwrap()[..], [1]);
    }
}

/// Creates a region that is full of one byte.
pub(super) fn filled(host: &RegionHost, name: &str, size: u64, byte: u8) -> Region {
    let region = host.create(name, size).unwrap();
    region.try_write(..).unwrap().fill(byte);
    region
}

/// Checks that the region contains what [`filled`] wrote.
#[track_caller]
pub(super) fn assert_filled(region: &Region, byte: u8) {
    let bytes = region.try_read(..).unwrap();
    let other = bytes.iter().position(|it| *it != byte);
    assert_eq!(other, None, "region `{}` has changed", region.name());
}

/// Returns the mappings of a region in this process, after dropping parked ones.
pub(super) fn mappings_of(region: &Region) -> Vec<Mapping> {
    crate::sys::parking::forget_all();
    let mut mappings = Process::current().mappings().unwrap();
    mappings.retain(|it| it.inode == region.inode());
    mappings
}
