//! Values without a store, with the regions that they carry.

use wasmtime::StoreContextMut;
use wasmtime::component::{Resource, ResourceAny, ResourceType, Val};

use super::Recipient;
use super::borrowed::Borrowed;
use super::error::PackError;
use super::lending::Lending;
use super::packed::{PackedRegions, Packing};
use crate::guest::AsGuest;
use crate::host::Region;
use crate::walk::{each_handle, each_resource};

/// Values without a store. Dropping it drops the moved regions and ends the lends.
///
/// It carries them between guests of different stores, and between guests of one store. This
/// function of a host program links two guests of a store:
///
/// ```
/// use tombolo::wasmtime::component::{Func, Val};
/// use tombolo::wasmtime::{Result, StoreContextMut};
/// use tombolo::{Parcel, RegionCtx, guest_in};
///
/// struct State {
///     guests: [RegionCtx; 2],
///     callee: Option<Func>,
/// }
///
/// fn first(state: &mut State) -> &mut RegionCtx {
///     &mut state.guests[0]
/// }
///
/// fn second(state: &mut State) -> &mut RegionCtx {
///     &mut state.guests[1]
/// }
///
/// fn call(mut store: StoreContextMut<'_, State>, params: &[Val], results: &mut [Val]) -> Result<()> {
///     let callee = store.data().callee.expect("it was instantiated before");
///     let to = second(store.data_mut()).recipient();
///     let caller = guest_in(&mut store, first);
///     let (parcel, lending) = Parcel::pack(caller, params.to_vec(), &to)?;
///     let (params, borrowed) = parcel.unpack(guest_in(&mut store, second))?;
///     let called = callee.call(&mut store, &params, results);
///     borrowed.end(guest_in(&mut store, second), called)?;
///     lending.end(&mut store) // the lender's windows show what the borrower wrote
/// }
/// # let _ = call;
/// ```
#[derive(Debug)]
pub struct Parcel {
    vals: Vec<Val>,
    /// The regions, in the order of their handles in `vals`. The handles there are stale ones of
    /// the sender, and mark the places.
    regions: PackedRegions,
}

/// Returns whether this is a handle to a region.
pub fn is_region(any: &ResourceAny) -> bool {
    any.ty() == ResourceType::host::<Region>()
}

impl Parcel {
    /// Takes values out of the guest in hand: the arguments that a host function got from its
    /// caller, or the results of a call.
    ///
    /// Handles of type `region` are moved: the sender's windows of those claims are unmapped.
    /// Handles of type `borrow<region>` are lent. Costs a walk over all values, and a system call
    /// for each window that is unmapped or masked.
    ///
    /// # Errors
    ///
    /// [`PackError`]; also if there are handles to other resources, streams or futures.
    pub fn pack(
        guest: impl AsGuest,
        mut vals: Vec<Val>,
        to: &Recipient,
    ) -> Result<(Parcel, Lending), PackError> {
        for val in &mut vals {
            each_handle(val, &mut |val| match val {
                Val::Resource(any) if is_region(any) => Ok(()),
                Val::Resource(_) => {
                    wasmtime::bail!("only handles to regions can cross from guest to guest")
                }
                _ => wasmtime::bail!("asynchronous values cannot cross from guest to guest"),
            })?;
        }
        Parcel::pack_regions(guest, vals, to)
    }

    /// Packs as [`pack`](Parcel::pack) does, but leaves handles to other resources, streams and
    /// futures in their places.
    pub(crate) fn pack_regions(
        mut guest: impl AsGuest,
        mut vals: Vec<Val>,
        to: &Recipient,
    ) -> Result<(Parcel, Lending), PackError> {
        let mut guest = guest.as_guest();
        let (mut regions, mut lending) = (PackedRegions::default(), Lending::default());
        let mut packing = Packing::new(&mut guest, to, &mut regions, &mut lending);
        // All handles are taken first, even if one of them is refused. Otherwise the rest would
        // stay in the sender's table for good.
        for val in &mut vals {
            each_resource(val, &mut |any| {
                if !is_region(any) {
                    return Ok(());
                }
                let resource: Resource<Region> = any.try_into_resource(guest.store())?;
                packing.take(guest.region_ctx(), resource)
            })?;
        }
        packing.send(&mut guest)?;
        Ok((Parcel { vals, regions }, lending))
    }

    /// Packs values of types without handles. Looks at none of them.
    pub(crate) fn plain(vals: Vec<Val>) -> (Parcel, Lending) {
        let regions = PackedRegions::default();
        (Parcel { vals, regions }, Lending::default())
    }

    /// Takes values out of the guest in hand and drops them, for a call that is refused before
    /// it begins. The sender's windows stay.
    ///
    /// # Errors
    ///
    /// If there are handles to other resources, or of another store.
    pub fn discard(guest: impl AsGuest, mut vals: Vec<Val>) -> wasmtime::Result<()> {
        Parcel::discard_regions(guest, &mut vals, |_, _| {
            wasmtime::bail!("only handles to regions can cross from guest to guest")
        })
    }

    /// Discards as [`discard`](Parcel::discard) does, and passes handles to other resources to
    /// `other`.
    pub(crate) fn discard_regions<S: AsGuest>(
        mut guest: S,
        vals: &mut [Val],
        mut other: impl FnMut(&mut StoreContextMut<'_, S::Data>, ResourceAny) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()> {
        let mut guest = guest.as_guest();
        let id = guest.store_id();
        vals.iter_mut().try_for_each(|val| {
            each_resource(val, &mut |any| {
                if !is_region(any) {
                    return other(guest.store(), *any);
                }
                let resource: Resource<Region> = any.try_into_resource(guest.store())?;
                if resource.owned() {
                    let region = guest.region_ctx().region_table.delete(resource)?;
                    region.drop_in(id)?;
                }
                Ok(())
            })
        })
    }

    /// Puts the values into the guest in hand: the arguments for a call, or the results for a
    /// caller.
    ///
    /// # Errors
    ///
    /// If the guest's tables are full, or it is not the recipient for which the values were packed.
    pub fn unpack(self, mut guest: impl AsGuest) -> wasmtime::Result<(Vec<Val>, Borrowed)> {
        let mut guest = guest.as_guest();
        let Parcel { mut vals, regions } = self;
        let id = guest.store_id();
        let mut borrowed = Borrowed::default();
        if regions.is_empty() {
            return Ok((vals, borrowed));
        }
        regions.check_recipient(guest.region_ctx())?;
        let mut regions = regions.into_each();
        for val in &mut vals {
            each_resource(val, &mut |any| {
                if !is_region(any) {
                    return Ok(());
                }
                let Some(one) = regions.next() else {
                    wasmtime::bail!("more handles in a parcel than were packed");
                };
                let resource = one.put_in(guest.region_ctx(), id, &mut borrowed)?;
                let rep = resource.rep();
                *any = ResourceAny::try_from_resource(resource, guest.store())?;
                borrowed.note_handle(rep, *any);
                Ok(())
            })?;
        }
        Ok((vals, borrowed))
    }
}
