//! The interface `windows`, registered by hand, for two reasons. A host function that maps needs
//! the store itself, and the list that names an address must not be copied.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, ResourceType, WasmList};

use super::answer;
use super::bindings::HostFailure;
use super::getter::Getter;
use crate::ctx::RegionCtx;
use crate::error::RegionError;
use crate::guest::{AsGuest, guest_in};
use crate::host::Region;
use crate::prepared::{allows_windows, log_refusal};
use crate::sys::{StoreId, memory_of};
use crate::window::{At, Window};
use tombolo_region::GRANULE;

const INTERFACE: &str = "tombolo:memory/windows@0.1.0";

/// The enum `access` of the interface.
#[derive(Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "created only by lifting")]
pub(crate) enum WitAccess {
    #[component(name = "read")]
    Read,
    #[component(name = "write")]
    Write,
    #[component(name = "live-read")]
    LiveRead,
    #[component(name = "live-write")]
    LiveWrite,
}

impl WitAccess {
    /// Returns the access for the store in hand.
    pub(super) fn of(
        self,
        store: StoreId,
        ctx: &RegionCtx,
    ) -> Result<tombolo_region::Access, RegionError> {
        let live = || ctx.live(store).ok_or(RegionError::NotLive);
        Ok(match self {
            WitAccess::Read => tombolo_region::Access::Read,
            WitAccess::Write => tombolo_region::Access::Write,
            WitAccess::LiveRead => tombolo_region::Access::LiveRead(live()?),
            WitAccess::LiveWrite => tombolo_region::Access::LiveWrite(live()?),
        })
    }
}

type MapArgs = (Resource<Region>, u64, u64, WitAccess, WasmList<u8>);

pub(super) fn add_to_linker<T, G>(linker: &mut Linker<T>, getter: &G) -> wasmtime::Result<()>
where
    T: 'static,
    G: Getter<T>,
{
    let mut instance = linker.instance(INTERFACE)?;
    instance.func_wrap("granule", |_: StoreContextMut<'_, T>, (): ()| {
        Ok((u32::try_from(GRANULE).expect("64 KiB"),))
    })?;
    let get = getter.clone();
    instance.resource(
        "window",
        ResourceType::host::<Window>(),
        move |store, rep| {
            let mut guest = guest_in(store, &get);
            let (id, ctx) = guest.bound();
            ctx.check()?;
            let window: Window = ctx.delete_window(rep)?;
            Ok(window.unmap(id)?)
        },
    )?;
    let get = getter.clone();
    instance.func_wrap(
        "[method]window.set-access",
        move |store: StoreContextMut<'_, T>, (window, access): (Resource<Window>, WitAccess)| {
            answer(set_access(guest_in(store, &get), window, access))
        },
    )?;
    let get = getter.clone();
    instance.func_wrap(
        "map",
        move |store: StoreContextMut<'_, T>, args: MapArgs| {
            answer(map(guest_in(store, &get), args))
        },
    )?;
    let get = getter.clone();
    instance.func_wrap(
        "lend",
        move |store: StoreContextMut<'_, T>, (region,): (Resource<Region>,)| {
            answer(lend(guest_in(store, &get), region))
        },
    )?;
    Ok(())
}

fn lend(
    mut guest: impl AsGuest,
    region: Resource<Region>,
) -> Result<Resource<Region>, HostFailure> {
    let mut guest = guest.as_guest();
    let (id, ctx) = guest.bound();
    ctx.check().map_err(wasmtime::Error::from)?;
    let region = ctx.region_table.get(&region);
    let lent = region.map_err(wasmtime::Error::from)?.lend_within(id)?;
    let kept = ctx.region_table.push(lent);
    Ok(kept.map_err(wasmtime::Error::from)?)
}

fn set_access(
    mut guest: impl AsGuest,
    window: Resource<Window>,
    access: WitAccess,
) -> Result<(), HostFailure> {
    let mut guest = guest.as_guest();
    let (id, ctx) = guest.bound();
    ctx.check().map_err(wasmtime::Error::from)?;
    let window = ctx.window(&window).map_err(wasmtime::Error::from)?;
    let access = access.of(id, ctx)?;
    Ok(window.set_access(id, access)?)
}

fn map(
    mut guest: impl AsGuest,
    (region, offset, length, access, at): MapArgs,
) -> Result<Resource<Window>, HostFailure> {
    let mut guest = guest.as_guest();
    // Only the address is used. The bytes are not read.
    let store = guest.store();
    let bytes = at.as_le_slice(&*store);
    let at = At {
        address: bytes.as_ptr().addr(),
        length: bytes.len(),
        memory: memory_of(bytes).filter(|_| allows_windows(store.engine())),
    };
    if at.memory.is_none() {
        let engine = store.engine().clone();
        log_refusal(&engine, guest.region_ctx().name());
    }
    let (id, ctx) = guest.bound();
    ctx.check().map_err(wasmtime::Error::from)?;
    let access = access.of(id, ctx)?;
    // Taken out for the length of this call, because the context changes too.
    let table = std::mem::take(&mut ctx.region_table);
    let window = match table.get(&region) {
        Ok(region) => {
            Window::map(id, ctx, region, offset, length, access, at).map_err(HostFailure::from)
        }
        Err(error) => Err(wasmtime::Error::from(error).into()),
    };
    ctx.region_table = table;
    let window = window?;
    match ctx.push_window(window) {
        Ok(window) => Ok(window),
        Err(error) => Err(wasmtime::Error::from(error).into()),
    }
}
