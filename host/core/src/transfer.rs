//! Regions on their way from one store to another.
//!
//! wasmtime passes the arguments of a call to a host function as values with the handles of the
//! caller's store, and takes values with handles of the callee's. In between, each region
//! handle, at any depth, is lent (`borrow<region>`) or moved (`region`):
//!
//! ```text
//!   caller's store                              callee's store
//!   Parcel::pack(params)  ----------------->    Parcel::unpack
//!     moves: its windows are unmapped             Borrowed: the lends
//!     lends: Lending                              ... the call ...
//!                                               Parcel::pack(results)
//!   Lending::over, Lending::end  <----------    Borrowed::end
//!   Parcel::unpack(results)
//! ```
//!
//! A handle never has two holders, even if one of these values is dropped or a guest dies on
//! the way. A lend ends when its [`Borrowed`] is dropped.
//!
//! # Packing
//!
//! `pack` first takes all handles out of the values. Then it checks that each may go, charges
//! the receiver, and only then unmaps the windows of regions that move. A refusal at any of
//! these steps leaves the sender's windows as they were. A parcel belongs to no store. Dropping
//! it drops the moved handles and ends the lends. Dropping `Borrowed` revokes the lends, and
//! leaves their windows to the drop of the callee's memory. The lender waits for that in
//! `Lending::over`, and `Lending::end` refuses while a lend is not over.
//!
//! A guard of the host program on a claim refuses any lend or move of that claim, not only one
//! that conflicts. Whether it would conflict depends on what the borrower does, and a refusal in
//! the middle of a call helps nobody.
//!
//! A move needs the right `share` and the claim's first handle, and no restricted or lent handle
//! of the claim may live. This holds for arguments, results, messages and
//! [`Region::give`](crate::Region::give).
//!
//! A lend is over when the windows made through it are gone, not when the call returns. A
//! borrower may have died after it re-lent the region to a guest that lives.
//!
//! # In stores that Tombolo does not run
//!
//! Safe code can forget a future, so that the lender's store is used while the borrower writes.
//! So `pack` *masks* the lender's windows for the call if they or the borrower can write:
//! private zero pages stand there, the lock stays, and `end` unmasks them. An embedder that
//! holds the store for the whole lend says so by `keep_mapped_while_lent`, an unsafe function,
//! and saves the remapping.

use std::fmt;
use std::sync::Arc;

use wasmtime::component::{Resource, ResourceAny, ResourceType, Val};
use wasmtime::{AsContextMut, StoreContextMut};

use tombolo_region::{Charge, ChargeKind, ClaimId, LendId, Rights, WindowEnd, escape};

use crate::ctx::{RegionCtx, RegionView, bound};
use crate::error::{MemoryError, RegionError};
use crate::host::{Owner, Region, RegionInner};
use crate::sys::StoreId;
use crate::walk::each_resource;
use crate::window::{MaskedWindows, mask_all, unmap_all, unmap_each, windows_of};

/// The receiver of a [`Parcel`]; see [`RegionCtx::recipient`].
#[derive(Debug, Clone)]
pub struct Recipient(Arc<Owner>);

impl Recipient {
    pub(crate) fn owner(&self) -> &Arc<Owner> {
        &self.0
    }
}

impl RegionCtx {
    /// Returns this guest as a receiver of regions, on its account.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient(self.owner.clone())
    }
}

/// A way in which a region passes from one holder to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transfer {
    /// For one call: `borrow<region>`.
    Lend,
    /// For good: `region`.
    Move,
}

impl fmt::Display for Transfer {
    /// Writes `lent` or `moved`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Transfer::Lend => "lent",
            Transfer::Move => "moved",
        })
    }
}

/// A reason why values could not be sent.
///
/// The text of the error and its source is for the operator: it names a region, and has the
/// numbers of limits. Neither is meant for both guests. The texts for the guests are
/// [`for_sender`](PackError::for_sender) and [`for_receiver`](PackError::for_receiver).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A region among them may not be lent or moved, so none was. The sender's windows stay. The
    /// handles that it wanted to move are dropped, because the canonical ABI took them before.
    #[error("region `{}` cannot be {transfer}", escape(region))]
    Refused {
        /// The region's name.
        region: String,
        /// The refused transfer.
        transfer: Transfer,
        /// The reason.
        #[source]
        reason: RegionError,
    },
    /// The sender cannot go on.
    #[error(transparent)]
    Fatal(#[from] wasmtime::Error),
}

impl PackError {
    /// Returns the text for the sender. It names the sender's region and the reason, but not the
    /// numbers of the receiver's limits.
    #[must_use]
    pub fn for_sender(&self) -> String {
        match self {
            PackError::Refused {
                region,
                transfer,
                reason,
            } => {
                let reason = reason.for_others();
                format!("region `{region}` cannot be {transfer}: {reason}")
            }
            PackError::Fatal(_) => "the sender cannot go on".to_owned(),
        }
    }

    /// Returns the text for the receiver. It has the reason, but does not name the region, which
    /// the receiver may not know.
    #[must_use]
    pub fn for_receiver(&self) -> String {
        match self {
            PackError::Refused {
                transfer, reason, ..
            } => {
                let reason = reason.for_its_guest();
                format!("a region among them cannot be {transfer}: {reason}")
            }
            PackError::Fatal(_) => "the sender cannot go on".to_owned(),
        }
    }
}

impl From<MemoryError> for PackError {
    fn from(error: MemoryError) -> PackError {
        PackError::Fatal(error.into())
    }
}

/// Values without a store. Dropping it drops the moved regions and ends the lends.
#[derive(Debug)]
pub struct Parcel {
    vals: Vec<Val>,
    /// The regions, in the order of their handles in `vals`. The handles there are stale ones of
    /// the sender, and mark the places.
    carried: Vec<PackedRegion>,
}

#[derive(Debug)]
enum PackedRegion {
    Moved(Region),
    Lent(Region, LendRevoker),
}

/// A guard that revokes a lend when it is dropped.
#[derive(Debug)]
struct LendRevoker {
    region: Arc<RegionInner>,
    claim: ClaimId,
    lend: LendId,
    revoked: bool,
}

impl LendRevoker {
    fn new(lent: &Region) -> LendRevoker {
        LendRevoker {
            region: lent.inner().clone(),
            claim: lent.handle().claim(),
            lend: lent.handle().lend().expect("it was just lent"),
            revoked: false,
        }
    }

    /// Revokes the lend, and ends the borrower's windows.
    fn end(&mut self, store: StoreId, end: WindowEnd) -> Result<(), MemoryError> {
        self.revoked = true;
        let via = Some(self.lend);
        let windows = self
            .region
            .ledger
            .revoke(self.lend, |ledger| windows_of(ledger, self.claim, via));
        unmap_each(store, &self.region, windows, end)
    }
}

impl Drop for LendRevoker {
    fn drop(&mut self) {
        if !self.revoked {
            self.region.ledger.revoke(self.lend, |_| ());
        }
        self.region.settle(None);
        tracing::debug!(region = %self.region.name, id = %self.region.id, "lend ended");
    }
}

/// The lender's side of the lends of one [`Parcel`].
///
/// Dropping it ends no lend, but leaves the lender's windows masked. Call
/// [`end`](Lending::end) or [`abandon`](Lending::abandon).
#[derive(Debug)]
#[must_use = "the lender goes on only after `end`"]
pub struct Lending {
    lent: Vec<Lent>,
    masked: Vec<MaskedWindows>,
}

#[derive(Debug)]
struct Lent {
    region: Arc<RegionInner>,
    claim: ClaimId,
    /// The lend by which the lender has it, if it is a borrower itself.
    via: Option<LendId>,
    lend: LendId,
}

/// The lends of one [`Parcel`], to ask whether they are over. It holds nothing up.
#[derive(Clone, Debug, Default)]
pub struct Lends(Vec<(Arc<RegionInner>, LendId)>);

impl Lends {
    /// Lends a region to a guest, with or without a store. The lend ends when the handle is
    /// dropped and [`revoke`](Lends::revoke) was called.
    ///
    /// # Errors
    ///
    /// As [`Region::lend`](crate::Region::lend).
    pub fn to(
        recipient: &Recipient,
        region: &Region,
        rights: Rights,
    ) -> Result<(Region, Lends), RegionError> {
        let lent = region.lend_to(rights, recipient.owner())?;
        let lend = lent.handle().lend().expect("it was lent just now");
        let lends = Lends(vec![(region.inner().clone(), lend)]);
        Ok((lent, lends))
    }

    /// Ends the lends, except for open windows.
    pub fn revoke(&self) {
        for (region, lend) in &self.0 {
            region.ledger().revoke(*lend);
        }
    }

    /// Returns whether all the lends are over; see [`Lending::is_over`].
    pub fn are_over(&self) -> bool {
        self.0
            .iter()
            .all(|(region, lend)| region.ledger().is_over(*lend))
    }
}

impl Lending {
    /// Returns the lends, to ask whether they are over.
    pub(crate) fn lends(&self) -> Lends {
        let lends = self.lent.iter();
        Lends(lends.map(|it| (it.region.clone(), it.lend)).collect())
    }

    /// Returns whether the lends, and all re-lends of them, have ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.lent
            .iter()
            .all(|lent| lent.region.ledger().is_over(lent.lend))
    }

    /// Waits until the lends, and all re-lends of them, have ended. This takes longer than the
    /// call if a borrower died while another guest still had what it re-lent. Dropping the
    /// future changes nothing.
    pub async fn over(&self) {
        for lent in &self.lent {
            lent.region.ledger.over(lent.lend).await;
        }
    }

    /// Lets the lender go on: unmasks its windows, if they were masked. Takes a system call for
    /// each.
    ///
    /// # Errors
    ///
    /// If the lends are not [over](Lending::is_over), or the kernel refuses to map the windows.
    /// The lender cannot go on then.
    pub fn end<T: RegionView>(self, store: impl AsContextMut<Data = T>) -> wasmtime::Result<()> {
        if !self.is_over() {
            wasmtime::bail!("the lender may go on only when the lend is over");
        }
        let store = StoreId::of(store);
        for masked in self.masked {
            masked.unmask(store)?;
        }
        Ok(())
    }

    /// Ends the lender's windows on the lent regions, for a call that is dropped while the
    /// borrower goes on: they become zero pages.
    ///
    /// # Errors
    ///
    /// If the memory could not be restored. Do not enter the lender again then.
    pub fn abandon<T: RegionView>(
        self,
        store: impl AsContextMut<Data = T>,
    ) -> wasmtime::Result<()> {
        let store = StoreId::of(store);
        let mut result = Ok(());
        for lent in &self.lent {
            // All of them, even if one cannot be ended.
            let ended = unmap_all(store, &lent.region, lent.claim, lent.via, WindowEnd::Died);
            result = result.and(ended);
        }
        Ok(result?)
    }
}

/// Returns whether this is a handle to a region.
pub fn is_region(any: &ResourceAny) -> bool {
    any.ty() == ResourceType::host::<Region>()
}

impl Parcel {
    /// Takes values out of the store in hand: the arguments that a host function got from its
    /// caller, or the results of a call.
    ///
    /// Handles of type `region` are moved: the sender's windows of those claims are unmapped.
    /// Handles of type `borrow<region>` are lent. Costs a walk over all values, and a system call
    /// for each window that is unmapped or masked.
    ///
    /// # Errors
    ///
    /// [`PackError`]; also if there are handles to other resources.
    pub fn pack<T: RegionView>(
        store: impl AsContextMut<Data = T>,
        mut vals: Vec<Val>,
        to: &Recipient,
    ) -> Result<(Parcel, Lending), PackError> {
        for val in &mut vals {
            each_resource(val, &mut |any| match is_region(any) {
                true => Ok(()),
                false => wasmtime::bail!("only handles to regions can cross from guest to guest"),
            })?;
        }
        Parcel::pack_regions(store, vals, to)
    }

    /// Packs as [`pack`](Parcel::pack) does, but leaves handles to other resources in their
    /// places.
    pub(crate) fn pack_regions<T: RegionView>(
        mut store: impl AsContextMut<Data = T>,
        mut vals: Vec<Val>,
        to: &Recipient,
    ) -> Result<(Parcel, Lending), PackError> {
        let mut store = store.as_context_mut();
        let violation = bound(&mut store).1.check();
        let mut given: Vec<Given> = Vec::new();
        let mut refused = None;
        // All handles are taken first, even if one of them is refused. Otherwise the rest would
        // stay in the sender's store for good.
        for val in &mut vals {
            each_resource(val, &mut |any| {
                if !is_region(any) {
                    return Ok(());
                }
                match take_out(&mut store, *any, to)? {
                    Ok(one) => given.push(one),
                    Err(error) => {
                        refused.get_or_insert(error);
                    }
                }
                Ok(())
            })?;
        }
        violation.map_err(wasmtime::Error::from)?;
        if let Some(error) = refused {
            return Err(error);
        }
        send(&mut store, given, vals, to)
    }

    /// Packs values of types without handles. Looks at none of them.
    pub(crate) fn plain(vals: Vec<Val>) -> (Parcel, Lending) {
        let lending = Lending {
            lent: Vec::new(),
            masked: Vec::new(),
        };
        (
            Parcel {
                vals,
                carried: Vec::new(),
            },
            lending,
        )
    }

    /// Takes values out of the store in hand and drops them, for a call that is refused before
    /// it begins. The sender's windows stay.
    ///
    /// # Errors
    ///
    /// If there are handles to other resources, or of another store.
    pub fn discard<T: RegionView>(
        store: impl AsContextMut<Data = T>,
        mut vals: Vec<Val>,
    ) -> wasmtime::Result<()> {
        Parcel::discard_regions(store, &mut vals, |_, _| {
            wasmtime::bail!("only handles to regions can cross from guest to guest")
        })
    }

    /// Discards as [`discard`](Parcel::discard) does, and passes handles to other resources to
    /// `other`.
    pub(crate) fn discard_regions<T: RegionView>(
        mut store: impl AsContextMut<Data = T>,
        vals: &mut [Val],
        mut other: impl FnMut(&mut StoreContextMut<'_, T>, ResourceAny) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()> {
        let mut store = store.as_context_mut();
        vals.iter_mut().try_for_each(|val| {
            each_resource(val, &mut |any| {
                if !is_region(any) {
                    return other(&mut store, *any);
                }
                let resource: Resource<Region> = any.try_into_resource(&mut store)?;
                if resource.owned() {
                    store.data_mut().region_ctx().table.delete(resource)?;
                }
                Ok(())
            })
        })
    }

    /// Puts the values into the store in hand: the arguments for a call, or the results for a
    /// caller.
    ///
    /// # Errors
    ///
    /// If the store's tables are full, or its context belongs to another
    /// [`RegionHost`](crate::RegionHost) than the recipient for which the values were packed.
    pub fn unpack<T: RegionView>(
        mut self,
        mut store: impl AsContextMut<Data = T>,
    ) -> wasmtime::Result<(Vec<Val>, Borrowed)> {
        let mut store = store.as_context_mut();
        let mut vals = std::mem::take(&mut self.vals);
        let mut carried = std::mem::take(&mut self.carried).into_iter();
        let id = StoreId::of(&store);
        let mut borrowed = Borrowed { lent: Vec::new() };
        if carried.len() == 0 {
            return Ok((vals, borrowed));
        }
        let to = store.data_mut().region_ctx().owner.host;
        for one in carried.as_slice() {
            let (PackedRegion::Moved(region) | PackedRegion::Lent(region, _)) = one;
            region.check_host(to)?;
        }
        for val in &mut vals {
            each_resource(val, &mut |any| {
                if !is_region(any) {
                    return Ok(());
                }
                let (region, guard) = match carried.next() {
                    Some(PackedRegion::Moved(region)) => (region, None),
                    Some(PackedRegion::Lent(region, guard)) => (region, Some(guard)),
                    None => wasmtime::bail!("more handles in a parcel than were packed"),
                };
                let resource = store.data_mut().region_ctx().table.push(region)?;
                let rep = resource.rep();
                let lent = ResourceAny::try_from_resource(resource, &mut store)?;
                if let Some(guard) = guard {
                    borrowed.lent.push(BorrowedOne {
                        any: Some(lent),
                        rep,
                        store: id,
                        guard,
                    });
                }
                *any = lent;
                Ok(())
            })?;
        }
        Ok((vals, borrowed))
    }
}

/// A handle that was taken out of the sender's store.
enum Given {
    /// With the charges to the receiver for the handle and the claim, once it is charged.
    Moved(Region, Option<(Charge, Vec<Charge>)>),
    Lent {
        region: Region,
        guard: LendRevoker,
        via: Option<LendId>,
        writes: bool,
    },
}

/// Takes one handle out of the sender's store. If it is a borrowed one, begins the lend.
fn take_out<T: RegionView>(
    store: &mut StoreContextMut<'_, T>,
    any: ResourceAny,
    to: &Recipient,
) -> wasmtime::Result<Result<Given, PackError>> {
    let resource: Resource<Region> = any.try_into_resource(&mut *store)?;
    let table = &mut store.data_mut().region_ctx().table;
    if resource.owned() {
        return Ok(Ok(Given::Moved(table.delete(resource)?, None)));
    }
    let lender = table.get(&resource)?;
    // A borrower can neither move nor duplicate.
    let rights = lender.rights().without(Rights::SHARE);
    Ok(match lender.lend_to(rights, &to.0) {
        Ok(region) => {
            let guard = LendRevoker::new(&region);
            let via = lender.handle().lend();
            Ok(Given::Lent {
                region,
                guard,
                via,
                writes: rights.contains(Rights::WRITE),
            })
        }
        Err(reason) => Err(PackError::Refused {
            region: lender.name().to_owned(),
            transfer: Transfer::Lend,
            reason,
        }),
    })
}

fn send<T: RegionView>(
    store: &mut StoreContextMut<'_, T>,
    mut given: Vec<Given>,
    vals: Vec<Val>,
    to: &Recipient,
) -> Result<(Parcel, Lending), PackError> {
    let mut parcel = Parcel {
        vals,
        carried: Vec::new(),
    };
    let mut lending = Lending {
        lent: Vec::new(),
        masked: Vec::new(),
    };
    let id = StoreId::of(&*store);
    let keep_mapped = store.data_mut().region_ctx().keep_mapped;
    // First check whether all of them may move, while their windows still exist.
    for one in &given {
        if let Given::Moved(region, _) = one {
            region.may_move().map_err(|reason| PackError::Refused {
                region: region.name().to_owned(),
                transfer: Transfer::Move,
                reason: reason.into(),
            })?;
        }
    }
    // Then charge the receiver.
    for one in &mut given {
        if let Given::Moved(region, charges) = one {
            let handle = to.0.account.charge(ChargeKind::Handles, 1);
            let charged = handle
                .map_err(RegionError::from)
                .and_then(|handle| Ok((handle, region.charge_claim(&to.0)?)));
            *charges = Some(charged.map_err(|reason| PackError::Refused {
                region: region.name().to_owned(),
                transfer: Transfer::Move,
                reason,
            })?);
        }
    }
    // Only then unmap and mask windows.
    for one in given {
        match one {
            Given::Moved(region, charges) => {
                let (handle, claim) = charges.expect("charged above");
                unmap_all(
                    id,
                    region.inner(),
                    region.handle().claim(),
                    None,
                    WindowEnd::Orderly,
                )?;
                tracing::debug!(
                    region = %region.inner().name,
                    id = %region.id(),
                    from = region.owner().name,
                    to = to.0.name,
                    "region moved"
                );
                parcel.carried.push(PackedRegion::Moved(
                    region.transferred(&to.0, handle, claim),
                ));
            }
            Given::Lent {
                region,
                guard,
                via,
                writes,
            } => {
                if !keep_mapped {
                    let masked = mask_all(id, &guard.region, guard.claim, via, writes)?;
                    if !masked.is_empty() {
                        lending.masked.push(masked);
                    }
                }
                tracing::debug!(
                    region = %region.inner().name,
                    id = %region.id(),
                    to = to.0.name,
                    "region lent"
                );
                lending.lent.push(Lent {
                    region: guard.region.clone(),
                    claim: guard.claim,
                    via,
                    lend: guard.lend,
                });
                parcel.carried.push(PackedRegion::Lent(region, guard));
            }
        }
    }
    Ok((parcel, lending))
}

/// The borrower's side of the lends of one [`Parcel`].
///
/// Dropping it ends the lends, but windows that were made through them stay until the borrower's
/// store is dropped. The lender waits for that.
#[derive(Debug)]
#[must_use = "windows made through the lend stay until `end`, or until the store is dropped"]
pub struct Borrowed {
    lent: Vec<BorrowedOne>,
}

#[derive(Debug)]
struct BorrowedOne {
    /// `None` if the call was typed, because wasmtime keeps no handle then.
    any: Option<ResourceAny>,
    rep: u32,
    /// The store whose table `rep` is in.
    store: StoreId,
    guard: LendRevoker,
}

impl Borrowed {
    /// Puts a region that was just lent into the table of a guest. Returns the number of its
    /// handle there.
    pub(crate) fn push(ctx: &mut RegionCtx, store: StoreId, region: Region) -> (u32, Borrowed) {
        let guard = LendRevoker::new(&region);
        let handle = ctx.table.push(region).expect("the account counts handles");
        let one = BorrowedOne {
            any: None,
            rep: handle.rep(),
            store,
            guard,
        };
        (handle.rep(), Borrowed { lent: vec![one] })
    }

    /// Ends the lends, after the call: revokes the lent handles and unmaps the windows that were
    /// made through them. Returns `returned`, the result of the call. If that is an error,
    /// because the callee trapped, panicked or was cancelled, each window that could write
    /// poisons its region.
    ///
    /// Does not block. Takes a system call for each of those windows.
    ///
    /// # Errors
    ///
    /// The error of the call, or an error of the callee's state. The callee cannot go on then:
    /// drop its store.
    pub fn end<T: RegionView, R>(
        self,
        mut store: impl AsContextMut<Data = T>,
        returned: wasmtime::Result<R>,
    ) -> wasmtime::Result<R> {
        let mut store = store.as_context_mut();
        let id = StoreId::of(&store);
        let mut result = Ok(());
        if self.lent.iter().any(|one| one.store != id) {
            wasmtime::bail!("the lend is to another store than the one in hand");
        }
        let end = match &returned {
            Ok(_) => WindowEnd::Orderly,
            Err(_) => WindowEnd::Died,
        };
        for BorrowedOne {
            any,
            rep,
            mut guard,
            ..
        } in self.lent
        {
            let unmapped = guard.end(id, end);
            let taken = match any {
                // Takes the handle out of wasmtime's table as well.
                Some(any) => any.try_into_resource::<Region>(&mut store).map(|_| ()),
                None => Ok(()),
            };
            let ctx = store.data_mut().region_ctx();
            let dropped = ctx.table.delete(Resource::<Region>::new_own(rep));
            result = result
                .and(unmapped.map_err(wasmtime::Error::from))
                .and(taken)
                .and(dropped.map(|_| ()).map_err(wasmtime::Error::from));
        }
        // After a failure wasmtime may not release the handle.
        returned.and_then(|value| result.map(|()| value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombolo_region::Exhausted;

    fn refused(reason: RegionError) -> PackError {
        PackError::Refused {
            region: "secret\n".to_owned(),
            transfer: Transfer::Move,
            reason,
        }
    }

    // rule 1
    #[test]
    fn receiver_does_not_learn_the_region() {
        let error = refused(RegionError::Purged);
        assert_eq!(
            error.for_receiver(),
            "a region among them cannot be moved: the region was frozen, and purged since"
        );
        assert_eq!(error.to_string(), r"region `secret\n` cannot be moved");
        assert!(error.for_sender().starts_with("region `secret\n` cannot"));
    }

    // rule 1
    #[test]
    fn sender_does_not_learn_the_receivers_limits() {
        let mut exhausted = Exhausted::new("guest `b`", "handles");
        (exhausted.used, exhausted.asked, exhausted.most) = (12_345, 23_456, 34_567);
        let error = refused(RegionError::Exhausted(exhausted));
        let told = error.for_sender();
        assert!(
            told.ends_with("limit `handles` of guest `b` is used up"),
            "{told}"
        );
        let own = error.for_receiver();
        assert!(own.contains("23456 more asked for, 34567 allowed"), "{own}");
    }

    // rule 1
    #[test]
    fn neither_learns_the_kernels_message() {
        let system = std::io::Error::other("/proc/self/fd/7 says no");
        let error = refused(RegionError::from(system));
        for told in [error.for_sender(), error.for_receiver()] {
            assert!(told.ends_with("the host's system refused"), "{told}");
        }
    }
}
