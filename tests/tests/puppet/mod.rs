//! The guest `windows_puppet`, embedded: a store each, moved by hand.
#![allow(dead_code)] // Each test program uses a part.

use std::ops::Range;
use std::sync::OnceLock;

use tombolo::{
    GRANULE, Limits, Region, RegionCtx, RegionCtxBuilder, RegionHost, RegionView, Strand,
};
use tombolo_test_util::process::{Mapping, Process};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Result, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

#[allow(missing_docs)] // Generated.
mod bindings {
    wasmtime::component::bindgen!({
        path: ["../wit/memory", "../tests/wit/puppet.wit"],
        world: "test:puppet/puppet",
        with: { "tombolo:memory/regions.region": ::tombolo::Region },
        additional_derives: [PartialEq],
    });
}

pub use bindings::tombolo::memory::pins::Pinned;
pub use bindings::tombolo::memory::regions::{ErrorCode, Rights};
pub use bindings::tombolo::memory::windows::Access;

pub const READ: Access = Access::Read;
pub const WRITE: Access = Access::Write;
pub const LIVE_READ: Access = Access::LiveRead;
pub const LIVE_WRITE: Access = Access::LiveWrite;

/// What an act of a guest that it may be refused gives.
pub type Act<R> = std::result::Result<R, ErrorCode>;

/// The data of a guest's store.
pub struct State {
    pub regions: RegionCtx,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl State {
    fn new(context: RegionCtxBuilder) -> State {
        State {
            regions: context.build(),
            wasi: WasiCtx::builder().build(),
            table: ResourceTable::new(),
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl RegionView for State {
    fn region_ctx(&mut self) -> &mut RegionCtx {
        &mut self.regions
    }
}

/// An engine that is prepared, and the puppet compiled on it: once for all
/// tests of a program.
fn compiled(path: &str) -> &'static (Engine, Component, Linker<State>) {
    static COMPILED: OnceLock<(Engine, Component, Linker<State>)> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let mut config = Config::new();
        tombolo::prepare(&mut config).unwrap();
        let engine = Engine::new(&config).unwrap();
        let component = Component::from_file(&engine, path).unwrap();
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).unwrap();
        tombolo::add_to_linker(&mut linker).unwrap();
        (engine, component, linker)
    })
}

/// A puppet in a store of its own.
pub struct Puppet {
    pub store: Store<State>,
    instance: bindings::Puppet,
}

/// Makes an act of the puppet a method: what it is told, and what it answers, or
/// how it ended.
macro_rules! acts {
    ($($act:ident = $call:ident($($name:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl Puppet {$(
            pub fn $act(&mut self, $($name: $type),*) -> Result<$answer> {
                self.instance.test_puppet_acts().$call(&mut self.store, $($name),*)
            }
        )*}
    };
}

acts! {
    create = call_create(name: &str, size: u64) -> Act<u32>;
    drop_handle = call_drop_handle(number: u32) -> ();
    duplicate = call_duplicate(number: u32, rights: Rights) -> Act<u32>;
    restrict = call_restrict(number: u32, rights: Rights) -> Act<u32>;
    freeze = call_freeze(number: u32) -> Act<()>;
    clear_poison = call_clear_poison(number: u32) -> Act<()>;
    create_unpinned = call_create_unpinned(name: &str, size: u64) -> Act<u32>;
    pin = call_pin(number: u32, offset: u64, length: u64) -> Act<Pinned>;
    unpin = call_unpin(number: u32, offset: u64, length: u64) -> Act<()>;
    is_pinned = call_is_pinned(number: u32, offset: u64, length: u64) -> Act<bool>;
    read_at = call_read_at(number: u32, offset: u64, length: u64) -> Act<Vec<u8>>;
    write_at = call_write_at(number: u32, offset: u64, bytes: &[u8]) -> Act<()>;
    show_listed = call_show(
        number: u32, offset: u64, length: u64, access: Access, at: u32, listed: u32
    ) -> Act<u32>;
    set_access = call_set_access(window: u32, access: Access) -> Act<()>;
    drop_window = call_drop_window(window: u32) -> ();
    forget_windows = call_forget_windows() -> ();
    allocate = call_allocate(granules: u32) -> u32;
    release = call_release(at: u32, granules: u32) -> ();
    churn = call_churn(rounds: u32) -> u64;
    stack = call_stack() -> u32;
    data = call_data() -> u32;
    peek = call_peek(at: u32, length: u32) -> Vec<u8>;
    sum = call_sum(at: u32, length: u32) -> u64;
    poke = call_poke(at: u32, byte: u8) -> ();
    fill = call_fill(at: u32, length: u32, byte: u8) -> ();
    copy = call_copy(from: u32, to: u32, length: u32) -> ();
    fill_apart = call_fill_apart(at: u32, step: u32, count: u32) -> ();
    grow = call_grow(pages: u32) -> i32;
    pages = call_pages() -> u32;
}

impl Puppet {
    /// A guest with default limits.
    pub fn new(path: &str, host: &RegionHost, name: &str) -> Puppet {
        Puppet::with_limits(path, host, name, Limits::default())
    }

    pub fn with_limits(path: &str, host: &RegionHost, name: &str, limits: Limits) -> Puppet {
        Puppet::with_context(path, host.context(name).limits(limits))
    }

    /// A guest that may have live windows with others of the strand.
    #[allow(unsafe_code)]
    pub fn in_strand(path: &str, host: &RegionHost, name: &str, strand: &Strand) -> Puppet {
        // SAFETY: puppets are moved by hand, one after the other, and no function that
        // a puppet calls gives another one its turn.
        let context = unsafe { host.context(name).live_within(strand) };
        Puppet::with_context(path, context)
    }

    fn with_context(path: &str, context: RegionCtxBuilder) -> Puppet {
        let state = State::new(context);
        Puppet::instantiate(path, state).unwrap()
    }

    /// A guest that there may be no memory for.
    pub fn try_new(path: &str, host: &RegionHost, name: &str) -> Result<Puppet> {
        Puppet::instantiate(path, State::new(host.context(name)))
    }

    fn instantiate(path: &str, state: State) -> Result<Puppet> {
        let (engine, component, linker) = compiled(path);
        let mut store = Store::new(engine, state);
        let instance = bindings::Puppet::instantiate(&mut store, component, linker)?;
        Ok(Puppet { store, instance })
    }

    /// Maps, with a list of one byte as it should be.
    pub fn show(
        &mut self,
        number: u32,
        offset: u64,
        length: u64,
        access: Access,
        at: u32,
    ) -> Result<Act<u32>> {
        self.show_listed(number, offset, length, access, at, 1)
    }

    /// Takes memory for a window of so many granules, and maps the region's first
    /// ones there. Gives the window, and the address.
    pub fn shown(&mut self, number: u32, granules: u32, access: Access) -> (u32, u32) {
        let at = self.allocate(granules).unwrap();
        let length = u64::from(granules) * GRANULE;
        (
            self.show(number, 0, length, access, at).unwrap().unwrap(),
            at,
        )
    }

    /// Gives the guest a region; gives the handle's number.
    pub fn receive(&mut self, region: Region) -> u32 {
        let region = region.give(&mut self.store).unwrap();
        self.instance
            .test_puppet_acts()
            .call_keep(&mut self.store, region)
            .unwrap()
    }

    /// Takes a region back from the guest.
    pub fn give(&mut self, number: u32) -> Result<Region> {
        let region = self
            .instance
            .test_puppet_acts()
            .call_give(&mut self.store, number)?;
        Ok(Region::take(&mut self.store, region)?)
    }

    /// Has the guest give a region away, and returns what its export returned.
    pub fn give_resource(&mut self, number: u32) -> Result<wasmtime::component::Resource<Region>> {
        let acts = self.instance.test_puppet_acts();
        acts.call_give(&mut self.store, number)
    }

    /// Has the guest map the first granule of what it is lent.
    pub fn map_lent(
        &mut self,
        region: wasmtime::component::Resource<Region>,
        access: Access,
        at: u32,
    ) -> Result<Act<u32>> {
        let acts = self.instance.test_puppet_acts();
        acts.call_show_lent(&mut self.store, region, 0, GRANULE, access, at)
    }

    /// Lends a region of the host's for one call that maps its first granule.
    pub fn show_lent(
        &mut self,
        region: &Region,
        rights: tombolo::Rights,
        access: Access,
        at: u32,
    ) -> Result<Act<u32>> {
        let lent = region.lend(&mut self.store, rights)?;
        let acts = self.instance.test_puppet_acts();
        let shown = acts.call_show_lent(&mut self.store, lent.resource(), 0, GRANULE, access, at);
        lent.end(&mut self.store, shown)
    }

    /// What the guest is answered about pins of what it was lent.
    pub fn pin_lent(
        &mut self,
        region: wasmtime::component::Resource<Region>,
    ) -> Result<Vec<ErrorCode>> {
        let acts = self.instance.test_puppet_acts();
        acts.call_pin_lent(&mut self.store, region)
    }

    /// One byte of the guest's memory.
    pub fn byte(&mut self, at: u32) -> u8 {
        self.peek(at, 1).unwrap()[0]
    }

    /// That the guest is not broken: it does something usual.
    pub fn assert_works(&mut self) {
        let host = self.store.data().regions.host().clone();
        let number = self.receive(filled(&host, "proof of life", GRANULE, 0x5a));
        let (window, at) = self.shown(number, 1, WRITE);
        assert_eq!(self.byte(at + 100), 0x5a);
        self.poke(at + 100, 1).unwrap();
        self.drop_window(window).unwrap();
        let region = self.give(number).unwrap();
        assert_eq!(region.try_read(100..101).unwrap()[..], [1]);
    }
}

/// A region of the host's, full of one byte.
pub fn filled(host: &RegionHost, name: &str, size: u64, byte: u8) -> Region {
    let region = host.create(name, size).unwrap();
    region.try_write(0..size).unwrap().fill(byte);
    region
}

/// That the region holds what [`filled`] put there.
#[track_caller]
pub fn assert_filled(region: &Region, byte: u8) {
    let bytes = region.try_read(..).unwrap();
    let other = bytes.iter().position(|it| *it != byte);
    assert_eq!(other, None, "region `{}` has changed", region.name());
}

/// All handles' rights.
pub fn all() -> Rights {
    Rights::READ | Rights::WRITE | Rights::SHARE
}

/// Where this process shows a region.
pub fn mappings_of(region: &Region) -> Vec<Mapping> {
    let mappings = Process::current().mappings().unwrap();
    mappings
        .into_iter()
        .filter(|it| it.inode == region.inode())
        .collect()
}

/// The kernel mappings of this process in a range of addresses.
pub fn mappings_in(range: Range<u64>) -> Vec<Mapping> {
    let mappings = Process::current().mappings().unwrap();
    mappings
        .into_iter()
        .filter(|it| it.range.start < range.end && range.start < it.range.end)
        .collect()
}

/// A value that several tests would disturb, in a process of its own: the test
/// runs once more, alone, and `test` is what it does there.
#[track_caller]
pub fn alone(name: &str, test: impl FnOnce()) {
    const ALONE: &str = "TOMBOLO_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let output = again(name).env(ALONE, "1").output().unwrap();
    assert!(
        output.status.success(),
        "{name}, alone: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

/// A command that runs one test of this program and no other.
pub fn again(name: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]);
    command
}
