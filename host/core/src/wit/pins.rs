//! The interface `pins`, registered by hand, because a host function that masks and unmasks parts
//! of a memory needs the store itself.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource};

use super::answer;
use super::bindings::HostFailure;
use super::getter::Getter;
use crate::ctx::RegionCtx;
use crate::error::MemoryError;
use crate::guest::{AsGuest, guest_in};
use crate::host::Region;
use crate::sys::StoreId;
use tombolo_region::Span;

use crate::window;

const INTERFACE: &str = "tombolo:memory/pins@0.1.0";

#[derive(Clone, Copy, ComponentType, Lift, Lower)]
#[component(record)]
struct WitSpan {
    offset: u64,
    length: u64,
}

/// The enum `pinned` of the interface.
#[derive(Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum WitPinned {
    #[component(name = "intact")]
    Intact,
    #[component(name = "lost")]
    Lost,
}

impl From<tombolo_region::Pinned> for WitPinned {
    fn from(pinned: tombolo_region::Pinned) -> WitPinned {
        match pinned {
            tombolo_region::Pinned::Intact => WitPinned::Intact,
            tombolo_region::Pinned::Lost => WitPinned::Lost,
        }
    }
}

type PinArgs = (Resource<Region>, WitSpan);

pub(super) fn add_to_linker<T, G>(linker: &mut Linker<T>, getter: &G) -> wasmtime::Result<()>
where
    T: 'static,
    G: Getter<T>,
{
    let mut instance = linker.instance(INTERFACE)?;
    let get = getter.clone();
    instance.func_wrap(
        "pin",
        move |store: StoreContextMut<'_, T>, args: PinArgs| {
            let pinned = with(guest_in(store, &get), args, window::pin);
            answer(pinned.map(WitPinned::from))
        },
    )?;
    let get = getter.clone();
    instance.func_wrap(
        "unpin",
        move |store: StoreContextMut<'_, T>, args: PinArgs| {
            answer(with(guest_in(store, &get), args, window::unpin))
        },
    )?;
    let get = getter.clone();
    instance.func_wrap(
        "is-pinned",
        move |store: StoreContextMut<'_, T>, args: PinArgs| {
            answer(with(guest_in(store, &get), args, |_, _, region, span| {
                let ledger = region.inner().ledger();
                Ok(ledger.is_pinned(region.handle(), span)?)
            }))
        },
    )?;
    Ok(())
}

/// Acts on the pins of a span that a guest named.
fn with<R>(
    mut guest: impl AsGuest,
    (region, span): PinArgs,
    act: impl FnOnce(StoreId, &RegionCtx, &Region, Span) -> Result<R, MemoryError>,
) -> Result<R, HostFailure> {
    let mut guest = guest.as_guest();
    let (id, ctx) = guest.bound();
    ctx.check().map_err(wasmtime::Error::from)?;
    let region = ctx
        .region_table
        .get(&region)
        .map_err(wasmtime::Error::from)?;
    let span = region.guest_granules(span.offset, span.length)?;
    Ok(act(id, ctx, region, span)?)
}
