//! Values on their way from the store of one guest to that of another.

use wasmtime::AsContextMut;
use wasmtime::component::{ResourceAny, Val};

use super::proxy::{Caller, CarriedProxy, Held, PassError, ProxyView, put_in, take_out};
use super::streams::{CarriedStreams, StreamRoute};
use tombolo::internal::{ParcelInternals as _, each_handle, each_resource, is_region};
use tombolo::{Lending, Parcel, Recipient, RegionView as _};
use tombolo_exchange::GuestId;

/// Values outside of any store, as a [`Parcel`] is, with proxies among them. Dropping it drops
/// what was moved, and ends what was lent.
pub(super) struct Bundle {
    parcel: Parcel,
    /// In the order of their places in the values, which stale handles of the sender mark.
    carried: Vec<CarriedProxy>,
    streams: CarriedStreams,
}

impl Bundle {
    /// Makes a bundle of values whose types have no handles.
    pub(super) fn plain(vals: Vec<Val>) -> (Bundle, Lending) {
        let (parcel, lending) = Parcel::plain(vals);
        let bundle = Bundle {
            parcel,
            carried: Vec::new(),
            streams: CarriedStreams::default(),
        };
        (bundle, lending)
    }

    /// Takes values out of a store, for this guest. A refusal is a text for the caller.
    pub(super) fn pack(
        mut store: impl AsContextMut<Data: ProxyView>,
        mut vals: Vec<Val>,
        (guest, to): (GuestId, &Recipient),
        caller: Caller,
    ) -> Result<(Bundle, Lending), PassError> {
        let mut store = store.as_context_mut();
        let mut carried = Vec::new();
        let mut refused = None;
        let mut has_streams = false;
        // All of them are taken, even if one is refused.
        for val in &mut vals {
            each_handle(val, &mut |val| {
                let Val::Resource(any) = val else {
                    has_streams = true;
                    return Ok(());
                };
                if is_region(any) {
                    return Ok(());
                }
                let mut one = take_out(&mut store, *any)?;
                if let Err(why) = one.address(guest, to, caller) {
                    refused.get_or_insert(why);
                }
                carried.push(one);
                wasmtime::error::Ok(())
            })?;
        }
        let mut streams = CarriedStreams::default();
        if has_streams {
            let own = store.data_mut().region_ctx().recipient();
            let payer = match caller {
                Caller::Sends => &own,
                Caller::Receives => to,
            };
            let route = StreamRoute { to, payer };
            streams = CarriedStreams::take(&mut store, &mut vals, &route, &mut refused)?;
        }
        if let Some(why) = refused {
            Parcel::discard_regions(&mut store, &mut vals, |_, _| Ok(()))?;
            return Err(PassError::Refused(why));
        }
        let packed = Parcel::pack_regions(&mut store, vals, to);
        let (parcel, lending) = packed.map_err(|error| caller.refused(error))?;
        let bundle = Bundle {
            parcel,
            carried,
            streams,
        };
        Ok((bundle, lending))
    }

    /// Takes values out of a store and drops them, for a call that is refused before it begins.
    pub(super) fn discard(
        mut store: impl AsContextMut<Data: ProxyView>,
        mut vals: Vec<Val>,
    ) -> wasmtime::Result<()> {
        let mut store = store.as_context_mut();
        CarriedStreams::close(&mut store, &mut vals)?;
        Parcel::discard_regions(&mut store, &mut vals, |store, any| {
            take_out(store, any).map(drop)
        })
    }

    /// Puts the values into a store.
    pub(super) fn unpack(
        self,
        mut store: impl AsContextMut<Data: ProxyView>,
    ) -> Result<(Vec<Val>, Held), PassError> {
        let mut store = store.as_context_mut();
        let Bundle {
            parcel,
            carried,
            streams,
        } = self;
        // Nothing is put into the store if one of them is refused.
        for one in &carried {
            one.check().map_err(PassError::Refused)?;
        }
        let room = streams.check_room(&mut store);
        room.map_err(PassError::Refused)?;
        let (mut vals, regions) = parcel.unpack(&mut store)?;
        let mut proxies = Vec::new();
        let mut carried = carried.into_iter();
        each_other(&mut vals, |any| {
            let Some(one) = carried.next() else {
                wasmtime::bail!("more handles in a bundle than were packed");
            };
            *any = put_in(&mut store, one, &mut proxies)?;
            Ok(())
        })?;
        streams.put(&mut store, &mut vals)?;
        Ok((vals, Held::new(regions, proxies)))
    }
}

/// Calls `visit` for each handle in the values that is not one of a region.
fn each_other(
    vals: &mut [Val],
    mut visit: impl FnMut(&mut ResourceAny) -> wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    vals.iter_mut().try_for_each(|val| {
        each_resource(val, &mut |any| match is_region(any) {
            true => Ok(()),
            false => visit(any),
        })
    })
}
