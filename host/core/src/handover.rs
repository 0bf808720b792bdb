//! Regions between the host program and one guest.
//!
//! | the export | the host program |
//! |---|---|
//! | takes `borrow<region>` | [`Region::lend`], then [`LentRegion::end`] after the call |
//! | takes `region` | [`Region::give`] |
//! | returns `region` | [`Region::take`] |
//!
//! All three take the guest with its store in hand, because they unmap windows in its memories or
//! put a handle into its table. [`Session`](crate::Session) does them in the right order. For calls
//! from guest to guest, see [`Parcel`](crate::Parcel).

use std::sync::Arc;

use wasmtime::AsContextMut;
use wasmtime::component::{Resource, ResourceAny, Val};

use tombolo_region::{Rights, WindowEnd, escape};

use crate::ctx::receive;
use crate::error::RegionError;
use crate::guest::AsGuest;
use crate::host::{Region, RegionInner};
use crate::transfer::{Borrowed, PackError, Transfer};
use crate::window::unmap_all;

/// A region of the host program that is lent to a guest, for one call of an export. See
/// [`Region::lend`].
///
/// Dropping it ends the lend, but windows that the guest made through it stay until its store
/// is dropped. Until then the host program cannot move or unpin the region.
#[derive(Debug)]
#[must_use = "windows made through the lend stay until `end`, or until the store is dropped"]
pub struct LentRegion {
    rep: u32,
    borrowed: Borrowed,
}

impl LentRegion {
    /// Returns the handle to pass to the export as `borrow<region>`.
    #[must_use]
    pub fn resource(&self) -> Resource<Region> {
        Resource::new_borrow(self.rep)
    }

    /// Returns the handle as a dynamic value.
    pub(crate) fn value(&mut self, store: impl AsContextMut) -> wasmtime::Result<Val> {
        let handle = Resource::<Region>::new_own(self.rep);
        let any = ResourceAny::try_from_resource(handle, store)?;
        self.borrowed.note_handle(self.rep, any);
        Ok(Val::Resource(any))
    }

    /// Returns the region.
    pub(crate) fn regions(&self) -> impl Iterator<Item = Arc<RegionInner>> {
        self.borrowed.regions()
    }

    /// Ends the lend, after the call. Returns `returned`, the result of the call. If that is
    /// an error, because the guest trapped, panicked or was cancelled, each window that could
    /// write poisons the region: it may hold a half-written value.
    ///
    /// Does not block. Costs one system call for each window that the guest left open.
    ///
    /// # Errors
    ///
    /// As [`Borrowed::end`].
    pub fn end<R>(self, guest: impl AsGuest, returned: wasmtime::Result<R>) -> wasmtime::Result<R> {
        self.borrowed.end(guest, returned)
    }
}

/// A region that could not be given to a guest, and the reason; see [`Region::give`].
#[derive(Debug, thiserror::Error)]
#[error("region `{}` cannot be moved", escape(.region.name()))]
#[non_exhaustive]
pub struct GiveError {
    /// The region, unchanged. It still belongs to the host program.
    pub region: Box<Region>,
    /// The reason.
    #[source]
    pub reason: RegionError,
}

impl Region {
    /// Lends the region to the guest in hand, with the given rights except
    /// [`Rights::SHARE`]. Pass [`LentRegion::resource`] to the export, and call
    /// [`LentRegion::end`] when it has returned.
    ///
    /// Does not block, and costs the same for regions of all sizes.
    ///
    /// If the call is dropped, drop the store as well: on an engine with concurrency the call would
    /// go on during the store's next call. [`Session`](crate::Session) does that.
    ///
    /// # Errors
    ///
    /// [`RegionError::NotPermitted`] for rights that the handle lacks;
    /// [`RegionError::OtherHost`]; [`RegionError::WouldBlock`] while a guard of the host
    /// program lives on the claim; [`RegionError::Purged`]; [`RegionError::Exhausted`] for the
    /// guest's limits.
    pub fn lend(&self, mut guest: impl AsGuest, rights: Rights) -> Result<LentRegion, RegionError> {
        let mut guest = guest.as_guest();
        let id = guest.store_id();
        let ctx = guest.region_ctx();
        let region = self.lend_to(rights.without(Rights::SHARE), &ctx.owner)?;
        let (rep, borrowed) = Borrowed::push(ctx, id, region);
        Ok(LentRegion { rep, borrowed })
    }

    /// Moves the region to the guest in hand, for good. Pass the handle that this
    /// returns to an export that takes `region`. The region needs [`Rights::SHARE`].
    ///
    /// Does not block, and costs the same for regions of all sizes. If the handle is never
    /// passed on, it stays in the guest's table until the store is dropped.
    ///
    /// # Errors
    ///
    /// [`GiveError`] returns the region, with [`RegionError::NotPermitted`],
    /// [`RegionError::OtherHost`], [`RegionError::WouldBlock`] while a guard of it lives, or
    /// [`RegionError::Exhausted`] for the guest's limits.
    pub fn give(self, mut guest: impl AsGuest) -> Result<Resource<Region>, GiveError> {
        let mut guest = guest.as_guest();
        let ctx = guest.region_ctx();
        let owner = ctx.owner.clone();
        let region = receive(self, &owner).map_err(|(region, reason)| GiveError {
            region: Box::new(region),
            reason,
        })?;
        Ok(ctx
            .region_table
            .push(region)
            .expect("the account counts handles"))
    }

    /// Takes a region that an export of the guest in hand returned as `region`: a
    /// move to the host program. The guest's windows on that claim are unmapped.
    ///
    /// Does not block. Costs one system call for each of those windows.
    ///
    /// # Errors
    ///
    /// [`PackError::Refused`] if the guest may not move it. [`PackError::Fatal`] if `resource`
    /// is no handle of this guest, or its memory cannot be restored. The handle is dropped
    /// then.
    pub fn take(mut guest: impl AsGuest, resource: Resource<Region>) -> Result<Region, PackError> {
        let mut guest = guest.as_guest();
        let (id, ctx) = guest.bound();
        ctx.check().map_err(wasmtime::Error::from)?;
        let to = ctx.host().own().clone();
        let region = ctx.region_table.delete(resource);
        let region = region.map_err(|_| wasmtime::Error::from(RegionError::Gone))?;
        let refused = |region: &Region, reason| PackError::Refused {
            region: region.name().to_owned(),
            transfer: Transfer::Move,
            reason,
        };
        if let Err(reason) = region.may_move() {
            let error = refused(&region, reason.into());
            region.drop_in(id)?;
            return Err(error);
        }
        let claim = region.handle().claim();
        unmap_all(id, region.inner(), claim, None, WindowEnd::Orderly)?;
        receive(region, &to).map_err(|(region, reason)| refused(&region, reason))
    }
}
