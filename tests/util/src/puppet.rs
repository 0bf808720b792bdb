//! A guest that a test drives by hand: the program `util_puppet` in an embedder's store.
//!
//! The puppet does exactly what it is told. It keeps handles and windows by number.

use std::ops::Range;
use std::sync::OnceLock;

use tombolo::{GRANULE, Limits, Region, RegionCtxBuilder, RegionHost, Strand};
use wasmtime::component::{Component, Linker, Resource};
use wasmtime::{Engine, Result, Store};

use crate::guests;
use crate::process::{Mapping, Process, drop_parked_mappings};
use crate::store::{self, State};

#[allow(missing_docs)] // Generated.
mod bindings {
    wasmtime::component::bindgen!({
        path: ["../../wit/memory", "../wit/puppet.wit"],
        world: "test:puppet/puppet",
        with: { "tombolo:memory/regions.region": ::tombolo::Region },
        additional_derives: [PartialEq],
    });
}

pub use bindings::tombolo::memory::pins::Pinned;
pub use bindings::tombolo::memory::regions::{ErrorCode, Rights};
pub use bindings::tombolo::memory::windows::Access;

/// A window that reads.
pub const READ: Access = Access::Read;
/// A window that writes.
pub const WRITE: Access = Access::Write;
/// A live window that reads.
pub const LIVE_READ: Access = Access::LiveRead;
/// A live window that writes.
pub const LIVE_WRITE: Access = Access::LiveWrite;

/// The result of an act that the host may refuse.
pub type Act<R> = std::result::Result<R, ErrorCode>;

/// Returns the linker that all puppets of the process share.
fn linker() -> &'static Linker<State> {
    static LINKER: OnceLock<Linker<State>> = OnceLock::new();
    LINKER.get_or_init(store::linker)
}

/// A puppet in a store of its own.
pub struct Puppet {
    /// The store.
    pub store: Store<State>,
    instance: bindings::Puppet,
}

/// Declares a method for each act of the puppet. It returns the answer of the puppet, or
/// the trap.
macro_rules! acts {
    ($($act:ident = $call:ident($($name:ident: $type:ty),*) -> $answer:ty;)*) => {
        /// The acts of the interface `acts` in `wit/puppet.wit`, which describes them.
        #[allow(missing_docs)] // They are described there.
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
    map_listed = call_map_window(
        number: u32, offset: u64, length: u64, access: Access, at: u32, listed: u32
    ) -> Act<u32>;
    lend = call_lend(number: u32) -> Act<u32>;
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
    /// Creates a guest with default limits.
    pub fn new(host: &RegionHost, name: &str) -> Puppet {
        Puppet::with_limits(host, name, Limits::default())
    }

    /// Creates a guest with limits.
    pub fn with_limits(host: &RegionHost, name: &str, limits: Limits) -> Puppet {
        Puppet::instantiate(host.context(name).limits(limits)).unwrap()
    }

    /// Creates a guest that may share live windows with others of the strand.
    #[allow(unsafe_code)]
    pub fn in_strand(host: &RegionHost, name: &str, strand: &Strand) -> Puppet {
        // SAFETY: a test calls puppets one after the other, and no function that a puppet
        // calls enters another one.
        let context = unsafe { host.context(name).live_within(strand) };
        Puppet::instantiate(context).unwrap()
    }

    /// Creates a guest, or fails if the kernel has no memory for it.
    ///
    /// # Errors
    ///
    /// Fails as the instantiation does.
    pub fn try_new(host: &RegionHost, name: &str) -> Result<Puppet> {
        Puppet::instantiate(host.context(name))
    }

    /// Creates a guest on an engine of the caller's, for which it is compiled.
    ///
    /// # Errors
    ///
    /// Fails as compiling and instantiating do.
    pub fn on(engine: &Engine, host: &RegionHost, name: &str) -> Result<Puppet> {
        let component = Component::from_file(engine, guests::UTIL_PUPPET)?;
        let mut linker = Linker::new(engine);
        store::add_to_linker(&mut linker);
        Puppet::linked(&component, &linker, host.context(name))
    }

    fn instantiate(context: RegionCtxBuilder) -> Result<Puppet> {
        Puppet::linked(&store::component(guests::UTIL_PUPPET), linker(), context)
    }

    fn linked(
        component: &Component,
        linker: &Linker<State>,
        context: RegionCtxBuilder,
    ) -> Result<Puppet> {
        let mut store = Store::new(linker.engine(), State::new(context.build()));
        // For engines that ask for one.
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = bindings::Puppet::instantiate(&mut store, component, linker)?;
        Ok(Puppet { store, instance })
    }

    /// Maps a window at an address, which is passed as a list of one byte.
    ///
    /// # Errors
    ///
    /// Fails if the guest traps, as all methods that return a `wasmtime::Result` do.
    pub fn map(
        &mut self,
        number: u32,
        offset: u64,
        length: u64,
        access: Access,
        at: u32,
    ) -> Result<Act<u32>> {
        self.map_listed(number, offset, length, access, at, 1)
    }

    /// Maps the first `granules` of the region into memory that the guest allocates for
    /// it. Returns the window and the address.
    pub fn mapped(&mut self, number: u32, granules: u32, access: Access) -> (u32, u32) {
        let at = self.allocate(granules).unwrap();
        let length = u64::from(granules) * GRANULE;
        (
            self.map(number, 0, length, access, at).unwrap().unwrap(),
            at,
        )
    }

    /// Passes a region to the guest, and returns the number of its handle.
    pub fn receive(&mut self, region: Region) -> u32 {
        let region = region.give(&mut self.store).unwrap();
        self.keep(region)
    }

    /// Passes a handle of the guest's table to the guest, and returns its number there.
    pub fn keep(&mut self, region: Resource<Region>) -> u32 {
        self.instance
            .test_puppet_acts()
            .call_keep(&mut self.store, region)
            .unwrap()
    }

    /// Passes a duplicate of a region, with all rights, to the guest, and returns the number
    /// of its handle.
    pub fn claim(&mut self, region: &Region) -> u32 {
        self.receive(region.duplicate(tombolo::Rights::ALL).unwrap())
    }

    /// Takes a region back from the guest.
    pub fn give(&mut self, number: u32) -> Result<Region> {
        let region = self
            .instance
            .test_puppet_acts()
            .call_give(&mut self.store, number)?;
        Ok(Region::take(&mut self.store, region)?)
    }

    /// Lets the guest return a region from its export, and returns the resource untaken.
    pub fn give_resource(&mut self, number: u32) -> Result<Resource<Region>> {
        let acts = self.instance.test_puppet_acts();
        acts.call_give(&mut self.store, number)
    }

    /// Lets the guest map the first granule of a region that it is lent.
    pub fn map_lent(
        &mut self,
        region: Resource<Region>,
        access: Access,
        at: u32,
    ) -> Result<Act<u32>> {
        let acts = self.instance.test_puppet_acts();
        acts.call_map_lent(&mut self.store, region, 0, GRANULE, access, at)
    }

    /// Lends the guest a region for one call, in which it maps the first granule.
    pub fn lend_to_map(
        &mut self,
        region: &Region,
        rights: tombolo::Rights,
        access: Access,
        at: u32,
    ) -> Result<Act<u32>> {
        let lent = region.lend(&mut self.store, rights)?;
        let acts = self.instance.test_puppet_acts();
        let mapped = acts.call_map_lent(&mut self.store, lent.resource(), 0, GRANULE, access, at);
        lent.end(&mut self.store, mapped)
    }

    /// Lets the guest lend a region that it is lent within itself, and map the first granule
    /// through that. Returns the number of the handle.
    pub fn lend_lent(
        &mut self,
        region: Resource<Region>,
        access: Access,
        at: u32,
    ) -> Result<Act<u32>> {
        let acts = self.instance.test_puppet_acts();
        acts.call_lend_lent(&mut self.store, region, access, at)
    }

    /// Lets the guest pin, unpin and query a region that it is lent, and returns the errors.
    pub fn pin_lent(&mut self, region: Resource<Region>) -> Result<Vec<ErrorCode>> {
        let acts = self.instance.test_puppet_acts();
        acts.call_pin_lent(&mut self.store, region)
    }

    /// Returns one byte of the guest's memory.
    pub fn byte(&mut self, at: u32) -> u8 {
        self.peek(at, 1).unwrap()[0]
    }

    /// Checks that the guest still works: it maps, writes and returns a region.
    pub fn assert_works(&mut self) {
        let host = self.store.data().regions.host().clone();
        let number = self.receive(filled(&host, "proof of life", GRANULE, 0x5a));
        let (window, at) = self.mapped(number, 1, WRITE);
        assert_eq!(self.byte(at + 100), 0x5a);
        self.poke(at + 100, 1).unwrap();
        self.drop_window(window).unwrap();
        let region = self.give(number).unwrap();
        assert_eq!(region.try_read(100..101).unwrap()[..], [1]);
    }
}

/// The bytes that are copied at a time.
const CHUNK: usize = 1 << 20;

/// Creates a region that is full of one byte.
pub fn filled(host: &RegionHost, name: &str, size: u64, byte: u8) -> Region {
    let region = host.create(name, size).unwrap();
    // Not by a guard, whose mapping may be kept.
    for start in (0..size).step_by(CHUNK) {
        let bytes = vec![byte; CHUNK.min((size - start) as usize)];
        region.write_at(start, &bytes).unwrap();
    }
    region
}

/// Checks that the region holds what [`filled`] wrote.
#[track_caller]
pub fn assert_filled(region: &Region, byte: u8) {
    let other = (0..region.size()).step_by(CHUNK).find_map(|start| {
        let end = region.size().min(start + CHUNK as u64);
        let bytes = region.read_at(start..end).unwrap();
        let other = bytes.iter().position(|it| *it != byte)?;
        Some(start + other as u64)
    });
    assert_eq!(other, None, "region `{}` has changed", region.name());
}

/// Returns all rights.
pub fn all() -> Rights {
    Rights::READ | Rights::WRITE | Rights::SHARE
}

/// Returns the mappings of a region in this process, after dropping those that the host parked.
pub fn mappings_of(region: &Region) -> Vec<Mapping> {
    drop_parked_mappings();
    all_mappings_of(region)
}

/// Returns the mappings of a region in this process, also parked ones.
pub fn all_mappings_of(region: &Region) -> Vec<Mapping> {
    let mappings = Process::current().mappings().unwrap();
    mappings
        .into_iter()
        .filter(|it| it.inode == region.inode())
        .collect()
}

/// Returns the mappings of this process in a range of addresses.
pub fn mappings_in(range: Range<u64>) -> Vec<Mapping> {
    let mappings = Process::current().mappings().unwrap();
    mappings
        .into_iter()
        .filter(|it| it.range.start < range.end && range.start < it.range.end)
        .collect()
}
