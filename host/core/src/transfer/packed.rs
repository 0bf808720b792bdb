//! Regions without a store.

use std::mem::take;
use std::sync::Arc;

use tombolo_region::{Charge, ChargeKind, Rights, WindowEnd};
use wasmtime::component::Resource;

use super::Recipient;
use super::borrowed::{Borrowed, BorrowedOne};
use super::error::{PackError, Transfer};
use super::few::Few;
use super::lending::{LendRevoker, Lending, Lent};
use crate::ctx::{RegionCtx, receive};
use crate::error::RegionError;
use crate::guest::AsGuest;
use crate::host::Region;
use crate::sys::StoreId;
use crate::violation::WriteViolation;
use crate::window::{mask_all, unmap_all};

/// Regions without a store: those of a [`Parcel`](crate::Parcel), or of a call whose types are
/// known. Dropping it drops the moved regions and ends the lends.
#[derive(Debug, Default)]
pub struct PackedRegions {
    carried: Few<PackedRegion>,
}

#[derive(Debug)]
pub(super) enum PackedRegion {
    Moved(Region),
    Lent(Region, LendRevoker),
}

/// Handles that are being taken out of a sender.
pub(super) struct Packing<'a> {
    /// The sender's store.
    store: StoreId,
    to: &'a Recipient,
    packed: &'a mut PackedRegions,
    lending: &'a mut Lending,
    /// Whether any of the handles is moved.
    moves: bool,
    refused: Option<PackError>,
    violation: Result<(), WriteViolation>,
}

impl<'a> Packing<'a> {
    #[inline]
    pub(super) fn new(
        guest: &mut impl AsGuest,
        to: &'a Recipient,
        packed: &'a mut PackedRegions,
        lending: &'a mut Lending,
    ) -> Packing<'a> {
        let mut guest = guest.as_guest();
        let (store, ctx) = guest.bound();
        Packing {
            store,
            to,
            packed,
            lending,
            moves: false,
            refused: None,
            violation: ctx.check(),
        }
    }

    /// Takes one handle out of the sender. If it is a borrowed one, begins the lend. A
    /// refusal comes with [`send`](Packing::send), so that all handles are taken.
    ///
    /// # Errors
    ///
    /// If it is no handle of this guest.
    #[inline]
    pub(super) fn take(
        &mut self,
        ctx: &mut RegionCtx,
        resource: Resource<Region>,
    ) -> wasmtime::Result<()> {
        let table = &mut ctx.region_table;
        if resource.owned() {
            let region = table.delete(resource)?;
            if region.ends_lend_within() {
                self.refused.get_or_insert(PackError::Refused {
                    region: region.name().to_owned(),
                    transfer: Transfer::Move,
                    reason: RegionError::NotPermitted,
                });
                return Ok(region.drop_in(self.store)?);
            }
            self.packed.carried.push(PackedRegion::Moved(region));
            self.moves = true;
            return Ok(());
        }
        let lender = table.get(&resource)?;
        // A borrower can neither move nor duplicate.
        let rights = lender.rights().without(Rights::SHARE);
        match lender.lend_to(rights, &self.to.0) {
            Ok(region) => {
                let guard = LendRevoker::new(&region);
                self.lending.lent.push(Lent {
                    region: guard.region.clone(),
                    claim: guard.claim,
                    via: lender.handle().lend(),
                    lend: guard.lend,
                });
                self.packed.carried.push(PackedRegion::Lent(region, guard));
            }
            Err(reason) => {
                self.refused.get_or_insert(PackError::Refused {
                    region: lender.name().to_owned(),
                    transfer: Transfer::Lend,
                    reason,
                });
            }
        }
        Ok(())
    }

    /// Checks that all handles may go, charges the receiver, and then unmaps and masks windows.
    ///
    /// # Errors
    ///
    /// [`PackError`]. Drop the packed regions and the lends then.
    #[inline]
    pub(super) fn send(self, guest: &mut impl AsGuest) -> Result<(), PackError> {
        let Packing {
            store: id,
            to,
            packed,
            lending,
            moves,
            refused,
            violation,
        } = self;
        violation.map_err(wasmtime::Error::from)?;
        if let Some(error) = refused {
            return Err(error);
        }
        let mut guest = guest.as_guest();
        let keep_mapped = guest.region_ctx().keep_mapped;
        if moves {
            *packed = take(packed).moved(id, to)?;
        }
        // Windows are unmapped and masked only when nothing more can be refused.
        let lent = packed
            .carried
            .as_slice()
            .iter()
            .filter_map(|one| match one {
                PackedRegion::Moved(_) => None,
                PackedRegion::Lent(region, _) => Some(region),
            });
        for (region, lent) in lent.zip(lending.lent.as_slice()) {
            if !keep_mapped {
                let writes = region.rights().contains(Rights::WRITE);
                let masked = mask_all(id, &lent.region, lent.claim, lent.via, writes)?;
                if !masked.is_empty() {
                    lending.masked.push(masked);
                }
            }
            tracing::debug!(
                region = %region.inner().name,
                id = %region.id(),
                to = &*to.0.name,
                "region lent"
            );
        }
        Ok(())
    }
}

impl PackedRegions {
    /// Takes handles out of the guest in hand: moves the owned ones, and lends the borrowed ones.
    /// They are added to these regions, and the lends to `lending`.
    ///
    /// # Errors
    ///
    /// [`PackError`]. All of the handles are taken then too. Drop `self` and `lending` then.
    #[inline]
    pub fn pack(
        &mut self,
        mut guest: impl AsGuest,
        handles: impl IntoIterator<Item = Resource<Region>>,
        to: &Recipient,
        lending: &mut Lending,
    ) -> Result<(), PackError> {
        let mut guest = guest.as_guest();
        let mut packing = Packing::new(&mut guest, to, self, lending);
        for handle in handles {
            packing.take(guest.region_ctx(), handle)?;
        }
        packing.send(&mut guest)
    }

    /// Takes handles out of the guest in hand and drops them, for a call that is refused before
    /// it begins. The sender's windows stay.
    ///
    /// # Errors
    ///
    /// If they are no handles of this guest.
    pub fn discard(
        mut guest: impl AsGuest,
        handles: impl IntoIterator<Item = Resource<Region>>,
    ) -> wasmtime::Result<()> {
        let mut guest = guest.as_guest();
        let id = guest.store_id();
        for handle in handles {
            if handle.owned() {
                let region = guest.region_ctx().region_table.delete(handle)?;
                region.drop_in(id)?;
            }
        }
        Ok(())
    }

    /// Returns whether there are none.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.carried.is_empty()
    }

    /// Checks that the regions which are not lent may be moved, charges the receiver, unmaps the
    /// sender's windows, and then moves them.
    fn moved(self, sender: StoreId, to: &Recipient) -> Result<PackedRegions, PackError> {
        let refused = |region: &Region, reason| PackError::Refused {
            region: region.name().to_owned(),
            transfer: Transfer::Move,
            reason,
        };
        let mut moved = self.carried.as_slice().iter().filter_map(|one| match one {
            PackedRegion::Moved(region) => Some(region),
            PackedRegion::Lent(..) => None,
        });
        // First check whether all of them may move, while their windows still exist.
        moved.clone().try_for_each(|region| {
            let may = region.may_move();
            may.map_err(|reason| refused(region, reason.into()))
        })?;
        // Then charge the receiver.
        let mut charges: Few<(Charge, Vec<Charge>)> = Few::default();
        moved.try_for_each(|region| {
            let handle = to.0.account.charge(ChargeKind::Handles, 1);
            let charged = handle
                .map_err(RegionError::from)
                .and_then(|handle| Ok((handle, region.charge_claim(&to.0)?)));
            charges.push(charged.map_err(|reason| refused(region, reason))?);
            Ok::<_, PackError>(())
        })?;
        // Only then unmap windows.
        let mut packed = PackedRegions::default();
        let mut charges = charges.into_vec().into_iter();
        self.carried.try_for_each(|one| {
            let PackedRegion::Moved(region) = one else {
                packed.carried.push(one);
                return Ok(());
            };
            let (handle, claim) = charges.next().expect("one for each was charged");
            unmap_all(
                sender,
                region.inner(),
                region.handle().claim(),
                None,
                WindowEnd::Orderly,
            )?;
            tracing::debug!(
                region = %region.inner().name,
                id = %region.id(),
                from = &*region.owner().name,
                to = &*to.0.name,
                "region moved"
            );
            let region = region.transferred(&to.0, handle, claim);
            packed.carried.push(PackedRegion::Moved(region));
            Ok::<_, PackError>(())
        })?;
        Ok(packed)
    }

    /// Moves regions that were packed for another receiver to this one. No windows show them.
    ///
    /// # Errors
    ///
    /// [`PackError::Refused`]. The regions are dropped then.
    pub fn readdressed(self, to: &Recipient) -> Result<PackedRegions, PackError> {
        let mut packed = PackedRegions::default();
        self.carried.try_for_each(|one| {
            packed.carried.push(match one {
                PackedRegion::Moved(region) if !Arc::ptr_eq(region.owner(), &to.0) => {
                    let moved = receive(region, &to.0);
                    PackedRegion::Moved(moved.map_err(|(region, reason)| PackError::Refused {
                        region: region.name().to_owned(),
                        transfer: Transfer::Move,
                        reason,
                    })?)
                }
                one => one,
            });
            Ok::<_, PackError>(())
        })?;
        Ok(packed)
    }

    /// Checks that the receiver is the one for which they were packed, or its next incarnation.
    #[inline]
    pub(super) fn check_recipient(&self, ctx: &RegionCtx) -> wasmtime::Result<()> {
        self.carried.as_slice().iter().try_for_each(|one| {
            let (PackedRegion::Moved(region) | PackedRegion::Lent(region, _)) = one;
            region.check_host(ctx.owner.host)?;
            match Arc::ptr_eq(&region.owner().account, &ctx.owner.account) {
                true => Ok(()),
                false => wasmtime::bail!("the parcel is for another guest than the one in hand"),
            }
        })
    }

    /// Returns them one by one, in the order of the handles.
    pub(super) fn into_each(self) -> impl Iterator<Item = PackedRegion> {
        self.carried.into_vec().into_iter()
    }

    /// Puts the regions into the guest in hand, and passes their handles to `put`: owned ones,
    /// or borrowed ones for the length of the call. Adds the lends to `borrowed`.
    ///
    /// # Errors
    ///
    /// As [`Parcel::unpack`](crate::Parcel::unpack).
    #[inline]
    pub fn unpack(
        self,
        mut guest: impl AsGuest,
        borrowed: &mut Borrowed,
        mut put: impl FnMut(Resource<Region>),
    ) -> wasmtime::Result<()> {
        let mut guest = guest.as_guest();
        let id = guest.store_id();
        let ctx = guest.region_ctx();
        self.check_recipient(ctx)?;
        self.carried.try_for_each(|one| {
            let lent = matches!(one, PackedRegion::Lent(..));
            let handle = one.put_in(ctx, id, borrowed)?;
            put(match lent {
                true => Resource::new_borrow(handle.rep()),
                false => handle,
            });
            Ok(())
        })
    }
}

impl PackedRegion {
    /// Puts the region into the table of the receiver. Notes a lent one in `borrowed`.
    #[inline]
    pub(super) fn put_in(
        self,
        ctx: &mut RegionCtx,
        store: StoreId,
        borrowed: &mut Borrowed,
    ) -> wasmtime::Result<Resource<Region>> {
        let (region, guard) = match self {
            PackedRegion::Moved(region) => (region, None),
            PackedRegion::Lent(region, guard) => (region, Some(guard)),
        };
        let resource = ctx.region_table.push(region)?;
        if let Some(guard) = guard {
            borrowed.lent.push(BorrowedOne {
                any: None,
                rep: resource.rep(),
                store,
                guard,
            });
        }
        Ok(resource)
    }
}
