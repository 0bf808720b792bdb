//! Regions on their way from one store to another.
//!
//! wasmtime gives a host function the arguments of a call as values, in which
//! the handles are those of the caller's store, and takes values for the
//! callee's. In between, every region handle, at any depth, is lent
//! (`borrow<region>`) or moved (`region`):
//!
//! ```text
//!   caller's store                              callee's store
//!   Parcel::pack(params)  ----------------->    Parcel::unpack
//!     moves: its windows are unmapped             Borrowed: what is lent
//!     lends: Lending                              ... the call ...
//!                                               Parcel::pack(results)
//!   Lending::over, Lending::end  <----------    Borrowed::end
//!   Parcel::unpack(results)
//! ```
//!
//! Whatever is dropped on the way, whoever dies, no handle is ever in two
//! hands, and a lend ends when its [`Borrowed`] goes.

use std::sync::Arc;

use wasmtime::component::{Resource, ResourceAny, ResourceType, Val};
use wasmtime::{AsContextMut, StoreContextMut};

use crate::ctx::{bound, receive};
use crate::error::{MemoryError, RegionError};
use crate::host::{Owner, Shared};
use crate::sys::StoreId;
use crate::window::{Hidden, hide_all, unmap_all, unmap_each, windows_of};
use crate::{Region, RegionCtx, RegionView};
use tombolo_region::escape;
use tombolo_region::{Charge, ChargeKind, ClaimId, LendId, Rights, WindowEnd};

/// Who is to receive a [`Parcel`]; see [`RegionCtx::recipient`].
#[derive(Debug, Clone)]
pub struct Recipient(Arc<Owner>);

impl Recipient {
    #[doc(hidden)]
    pub fn owner(&self) -> &Arc<Owner> {
        &self.0
    }
}

impl RegionCtx {
    /// This guest, as somebody to send regions to: what it receives goes on its
    /// account.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient(self.owner.clone())
    }
}

/// Why values could not be sent.
///
/// The text of the error itself is for the operator: it names a region, and has the
/// numbers of limits. Neither is meant for both guests. For the guests there are
/// [`for_sender`](PackError::for_sender) and
/// [`for_receiver`](PackError::for_receiver).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A region among them may not be lent or moved. Nothing was: the sender's
    /// windows stay, and the handles that it gave away are dropped, since the
    /// canonical ABI took them before.
    #[error("region `{}` cannot be {what}: {reason}", escape(region))]
    Refused {
        /// The region's name.
        region: String,
        /// `lent` or `moved`.
        what: &'static str,
        /// Why.
        #[source]
        reason: RegionError,
    },
    /// The sender cannot go on.
    #[error(transparent)]
    Fatal(#[from] wasmtime::Error),
}

impl PackError {
    /// Returns the text for the sender. It names the sender's region and the reason, but
    /// not the numbers of the receiver's limits.
    #[must_use]
    pub fn for_sender(&self) -> String {
        match self {
            PackError::Refused {
                region,
                what,
                reason,
            } => format!(
                "region `{region}` cannot be {what}: {}",
                reason.for_others()
            ),
            PackError::Fatal(_) => "the sender cannot go on".to_owned(),
        }
    }

    /// Returns the text for the receiver. It has the reason, but does not name the region,
    /// which the receiver may not know.
    #[must_use]
    pub fn for_receiver(&self) -> String {
        match self {
            PackError::Refused { what, reason, .. } => {
                let reason = reason.for_its_guest();
                format!("a region among them cannot be {what}: {reason}")
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

/// Values without a store. Dropping it drops what was moved, and ends what was
/// lent.
#[derive(Debug)]
pub struct Parcel {
    vals: Vec<Val>,
    /// In the order in which they are met in `vals`, where a stale handle of the
    /// sender's marks the place.
    carried: Vec<Carried>,
}

#[derive(Debug)]
enum Carried {
    Moved(Region),
    Lent(Region, LendGuard),
}

/// Revokes a lend when it is dropped.
#[derive(Debug)]
struct LendGuard {
    shared: Arc<Shared>,
    claim: ClaimId,
    lend: LendId,
    revoked: bool,
}

impl LendGuard {
    fn new(lent: &Region) -> LendGuard {
        LendGuard {
            shared: lent.shared().clone(),
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
            .shared
            .ledger
            .revoke(self.lend, |ledger| windows_of(ledger, self.claim, via));
        unmap_each(store, &self.shared, windows, end)
    }
}

impl Drop for LendGuard {
    fn drop(&mut self) {
        if !self.revoked {
            self.shared.ledger.revoke(self.lend, |_| ());
        }
        self.shared.settle(None);
        tracing::debug!(region = %self.shared.name, id = self.shared.id, "lend ended");
    }
}

/// The lender's side of the lends of one [`Parcel`].
#[derive(Debug)]
#[must_use = "the lender goes on only after `end`"]
pub struct Lending {
    lent: Vec<Lent>,
    hidden: Vec<Hidden>,
}

#[derive(Debug)]
struct Lent {
    shared: Arc<Shared>,
    claim: ClaimId,
    /// How the lender has it.
    via: Option<LendId>,
    lend: LendId,
}

/// Tells of the lends of one [`Parcel`] whether they are over, without holding
/// the lender up.
#[derive(Clone, Debug, Default)]
pub struct Lends(Vec<(Arc<Shared>, LendId)>);

impl Lends {
    /// Lends a region to a guest, whether or not that has a store. The lend ends when the
    /// handle is dropped and [`revoke`](Lends::revoke) was called.
    #[doc(hidden)]
    pub fn to(
        recipient: &Recipient,
        region: &Region,
        rights: Rights,
    ) -> Result<(Region, Lends), RegionError> {
        let lent = region.lend(rights, recipient.owner())?;
        let lend = lent.handle().lend().expect("it was lent just now");
        let lends = Lends(vec![(region.shared().clone(), lend)]);
        Ok((lent, lends))
    }

    /// Ends the lends, except for windows that are open.
    #[doc(hidden)]
    pub fn revoke(&self) {
        for (shared, lend) in &self.0 {
            shared.ledger().revoke(*lend);
        }
    }

    /// As [`Lending::is_over`].
    #[doc(hidden)]
    pub fn are_over(&self) -> bool {
        self.0
            .iter()
            .all(|(shared, lend)| shared.ledger().is_over(*lend))
    }
}

impl Lending {
    /// What tells others whether the lends are over.
    #[doc(hidden)]
    pub fn lends(&self) -> Lends {
        let lends = self.lent.iter();
        Lends(lends.map(|it| (it.shared.clone(), it.lend)).collect())
    }

    /// Tells whether the lends, and all that was lent on from them, have ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.lent
            .iter()
            .all(|lent| lent.shared.ledger().is_over(lent.lend))
    }

    /// Waits until the lends, and all that was lent on from them, have ended. A
    /// borrower that died while somebody else still had what it lent on makes
    /// this take longer than the call.
    pub async fn over(&self) {
        for lent in &self.lent {
            lent.shared.ledger.over(lent.lend).await;
        }
    }

    /// Lets the lender go on: shows its windows again, if they were hidden.
    ///
    /// # Errors
    ///
    /// If the lends are not [over](Lending::is_over), or the kernel refuses to
    /// show the windows. The lender cannot go on then.
    pub fn end<T: RegionView>(self, store: impl AsContextMut<Data = T>) -> wasmtime::Result<()> {
        if !self.is_over() {
            wasmtime::bail!("the lender may go on only when the lend is over");
        }
        let store = StoreId::of(store);
        for hidden in self.hidden {
            hidden.reveal(store)?;
        }
        Ok(())
    }

    /// Ends the lender's windows on what it lent, when its call is dropped while
    /// the borrower goes on: they become zero pages.
    ///
    /// # Errors
    ///
    /// If the memory could not be restored; the lender is not to be entered
    /// again then.
    pub fn abandon<T: RegionView>(
        self,
        store: impl AsContextMut<Data = T>,
    ) -> wasmtime::Result<()> {
        let store = StoreId::of(store);
        let mut result = Ok(());
        for lent in &self.lent {
            // All of them, also where one cannot be ended.
            let ended = unmap_all(store, &lent.shared, lent.claim, lent.via, WindowEnd::Died);
            result = result.and(ended);
        }
        Ok(result?)
    }
}

/// Whether this is a handle to a region.
pub fn is_region(any: &ResourceAny) -> bool {
    any.ty() == ResourceType::host::<Region>()
}

/// Calls `visit` for every resource in a value.
pub fn each_resource(
    val: &mut Val,
    visit: &mut impl FnMut(&mut Val) -> wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    match val {
        Val::Resource(_) => visit(val),
        Val::List(vals) | Val::Tuple(vals) | Val::FixedLengthList(vals) => {
            // Lists of plain bytes and numbers are the long ones.
            if matches!(vals.first(), Some(first) if is_scalar(first)) && vals.iter().all(is_scalar)
            {
                return Ok(());
            }
            vals.iter_mut()
                .try_for_each(|val| each_resource(val, visit))
        }
        Val::Map(pairs) => pairs.iter_mut().try_for_each(|(key, val)| {
            each_resource(key, visit)?;
            each_resource(val, visit)
        }),
        Val::Record(fields) => fields
            .iter_mut()
            .try_for_each(|(_, val)| each_resource(val, visit)),
        Val::Variant(_, val) | Val::Option(val) => match val {
            Some(val) => each_resource(val, visit),
            None => Ok(()),
        },
        Val::Result(Ok(val) | Err(val)) => match val {
            Some(val) => each_resource(val, visit),
            None => Ok(()),
        },
        Val::Future(_) | Val::Stream(_) | Val::ErrorContext(_) => {
            wasmtime::bail!("asynchronous values cannot cross from guest to guest")
        }
        _ => Ok(()),
    }
}

fn is_scalar(val: &Val) -> bool {
    matches!(
        val,
        Val::Bool(_)
            | Val::S8(_)
            | Val::U8(_)
            | Val::S16(_)
            | Val::U16(_)
            | Val::S32(_)
            | Val::U32(_)
            | Val::S64(_)
            | Val::U64(_)
            | Val::Float32(_)
            | Val::Float64(_)
            | Val::Char(_)
    )
}

impl Parcel {
    /// Takes values out of the store in hand: what a host function got from its
    /// caller, or what a call returned.
    ///
    /// Handles of type `region` are moved: the sender's windows of those claims
    /// are unmapped. Handles of type `borrow<region>` are lent.
    ///
    /// # Errors
    ///
    /// [`PackError`].
    pub fn pack<T: RegionView>(
        store: impl AsContextMut<Data = T>,
        mut vals: Vec<Val>,
        to: &Recipient,
    ) -> Result<(Parcel, Lending), PackError> {
        for val in &mut vals {
            each_resource(val, &mut |val| match val {
                Val::Resource(any) if !is_region(any) => {
                    wasmtime::bail!("only handles to regions can cross from guest to guest")
                }
                _ => Ok(()),
            })?;
        }
        Parcel::pack_regions(store, vals, to)
    }

    /// As [`pack`](Parcel::pack), but leaves handles to other resources, which
    /// somebody else looks after, in their places.
    #[doc(hidden)]
    pub fn pack_regions<T: RegionView>(
        mut store: impl AsContextMut<Data = T>,
        mut vals: Vec<Val>,
        to: &Recipient,
    ) -> Result<(Parcel, Lending), PackError> {
        let mut store = store.as_context_mut();
        let trespass = bound(&mut store).1.check();
        let mut given: Vec<Given> = Vec::new();
        let mut refused = None;
        // All handles are taken first, also when one of them is refused: what is
        // not taken would stay in the sender's store for good.
        for val in &mut vals {
            each_resource(val, &mut |val| {
                let Val::Resource(any) = val else {
                    return Ok(());
                };
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
        trespass.map_err(wasmtime::Error::from)?;
        if let Some(error) = refused {
            return Err(error);
        }
        send(&mut store, given, vals, to)
    }

    /// Values of types in which there are no handles: nothing to look for.
    #[doc(hidden)]
    pub fn plain(vals: Vec<Val>) -> (Parcel, Lending) {
        let lending = Lending {
            lent: Vec::new(),
            hidden: Vec::new(),
        };
        (
            Parcel {
                vals,
                carried: Vec::new(),
            },
            lending,
        )
    }

    /// Takes values out of the store in hand and drops them, for a call that is
    /// refused before it begins. The sender's windows stay.
    ///
    /// # Errors
    ///
    /// If they are no regions, or no handles of this store.
    pub fn discard<T: RegionView>(
        store: impl AsContextMut<Data = T>,
        mut vals: Vec<Val>,
    ) -> wasmtime::Result<()> {
        Parcel::discard_regions(store, &mut vals, |_, _| {
            wasmtime::bail!("only handles to regions can cross from guest to guest")
        })
    }

    /// As [`discard`](Parcel::discard), with what is to become of handles to other
    /// resources.
    #[doc(hidden)]
    pub fn discard_regions<T: RegionView>(
        mut store: impl AsContextMut<Data = T>,
        vals: &mut [Val],
        mut other: impl FnMut(&mut StoreContextMut<'_, T>, ResourceAny) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()> {
        let mut store = store.as_context_mut();
        vals.iter_mut().try_for_each(|val| {
            each_resource(val, &mut |val| {
                let Val::Resource(any) = val else {
                    return Ok(());
                };
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

    /// Puts the values into the store in hand: the arguments for a call, or the
    /// results for a caller.
    ///
    /// # Errors
    ///
    /// If the store's tables are full, or its context belongs to another
    /// [`RegionHost`](crate::RegionHost) than the recipient for whom the values were packed.
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
            let (Carried::Moved(region) | Carried::Lent(region, _)) = one;
            region.check_host(to)?;
        }
        for val in &mut vals {
            each_resource(val, &mut |val| {
                if !matches!(val, Val::Resource(any) if is_region(any)) {
                    return Ok(());
                }
                let (region, guard) = match carried.next() {
                    Some(Carried::Moved(region)) => (region, None),
                    Some(Carried::Lent(region, guard)) => (region, Some(guard)),
                    None => wasmtime::bail!("more handles in a parcel than were packed"),
                };
                let resource = store.data_mut().region_ctx().table.push(region)?;
                let rep = resource.rep();
                let any = ResourceAny::try_from_resource(resource, &mut store)?;
                if let Some(guard) = guard {
                    borrowed.lent.push(BorrowedOne {
                        any: Some(any),
                        rep,
                        store: id,
                        guard,
                    });
                }
                *val = Val::Resource(any);
                Ok(())
            })?;
        }
        Ok((vals, borrowed))
    }
}

/// A handle that was taken out of the sender's store.
enum Given {
    /// With what is charged to the receiver for the handle and the claim, once it is.
    Moved(Region, Option<(Charge, Vec<Charge>)>),
    Lent {
        region: Region,
        guard: LendGuard,
        via: Option<LendId>,
        writes: bool,
    },
}

/// Takes one handle out of the sender's store; begins the lend of a borrowed
/// one.
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
    // Moving and duplicating are not for those who borrow.
    let rights = lender.rights().without(Rights::SHARE);
    Ok(match lender.lend(rights, &to.0) {
        Ok(region) => {
            let guard = LendGuard::new(&region);
            let via = lender.handle().lend();
            Ok(Given::Lent {
                region,
                guard,
                via,
                writes: rights.contains(Rights::WRITE),
            })
        }
        Err(reason) => Err(PackError::Refused {
            region: lender.shared().name.as_str().to_owned(),
            what: "lent",
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
        hidden: Vec::new(),
    };
    let id = StoreId::of(&*store);
    let keep_shown = store.data_mut().region_ctx().keep_shown;
    // First whether all of them may move, with their windows still there...
    for one in &given {
        if let Given::Moved(region, _) = one {
            region
                .shared()
                .ledger()
                .may_move(region.handle())
                .map_err(|reason| PackError::Refused {
                    region: region.shared().name.as_str().to_owned(),
                    what: "moved",
                    reason: reason.into(),
                })?;
        }
    }
    // ... and whether there is room for them...
    for one in &mut given {
        if let Given::Moved(region, charges) = one {
            let handle = to.0.account.charge(ChargeKind::Handles, 1);
            let charged = handle
                .map_err(RegionError::from)
                .and_then(|handle| Ok((handle, region.charge_claim(&to.0)?)));
            *charges = Some(charged.map_err(|reason| PackError::Refused {
                region: region.shared().name.as_str().to_owned(),
                what: "moved",
                reason,
            })?);
        }
    }
    // ... and only then are the windows taken away.
    for one in given {
        match one {
            Given::Moved(region, charges) => {
                let (handle, claim) = charges.expect("charged above");
                unmap_all(
                    id,
                    region.shared(),
                    region.handle().claim(),
                    None,
                    WindowEnd::Orderly,
                )?;
                tracing::debug!(
                    region = %region.shared().name,
                    id = region.id(),
                    from = region.owner().name,
                    to = to.0.name,
                    "region moved"
                );
                parcel
                    .carried
                    .push(Carried::Moved(region.transferred(&to.0, handle, claim)));
            }
            Given::Lent {
                region,
                guard,
                via,
                writes,
            } => {
                if !keep_shown {
                    let hidden = hide_all(id, &guard.shared, guard.claim, via, writes)?;
                    if !hidden.is_empty() {
                        lending.hidden.push(hidden);
                    }
                }
                tracing::debug!(
                    region = %region.shared().name,
                    id = region.id(),
                    to = to.0.name,
                    "region lent"
                );
                lending.lent.push(Lent {
                    shared: guard.shared.clone(),
                    claim: guard.claim,
                    via,
                    lend: guard.lend,
                });
                parcel.carried.push(Carried::Lent(region, guard));
            }
        }
    }
    Ok((parcel, lending))
}

/// The borrower's side of the lends of one [`Parcel`]. Dropping it ends the
/// lends, but leaves the windows that were made through them to the drop of the
/// borrower's store; until then the lender waits.
#[derive(Debug)]
#[must_use = "the windows made through the lend stay until `end`, or the drop of the store"]
pub struct Borrowed {
    lent: Vec<BorrowedOne>,
}

#[derive(Debug)]
struct BorrowedOne {
    /// `None` where the call was typed, and wasmtime keeps no handle.
    any: Option<ResourceAny>,
    rep: u32,
    /// Whose table `rep` is in.
    store: StoreId,
    guard: LendGuard,
}

impl Borrowed {
    /// Ends the lends, after the call: revokes the lent handles and unmaps the windows
    /// that were made through them. Returns `returned`, the result of the call. If that is
    /// an error, because the callee trapped, panicked or was cancelled, each window that
    /// could write poisons its region.
    ///
    /// # Errors
    ///
    /// The error of the call, or an error of the callee's state. The callee cannot go on
    /// then: drop its store.
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
        // After a failure wasmtime may not let go of the handle.
        returned.and_then(|value| result.map(|()| value))
    }
}

/// A region of the host program's that is lent to a guest, for one call of an
/// export. See [`lend`].
#[derive(Debug)]
#[must_use = "the windows made through the lend stay until `end`, or the drop of the store"]
pub struct LentRegion {
    rep: u32,
    borrowed: Borrowed,
}

impl LentRegion {
    /// What to pass to the export as `borrow<region>`.
    #[must_use]
    pub fn resource(&self) -> Resource<Region> {
        Resource::new_borrow(self.rep)
    }

    /// Ends the lend, after the call. Returns `returned`, the result of the call. If that is
    /// an error, because the guest trapped, panicked or was cancelled, each window that
    /// could write poisons the region: it may hold a half-written value.
    ///
    /// # Errors
    ///
    /// As [`Borrowed::end`].
    pub fn end<T: RegionView, R>(
        self,
        store: impl AsContextMut<Data = T>,
        returned: wasmtime::Result<R>,
    ) -> wasmtime::Result<R> {
        self.borrowed.end(store, returned)
    }
}

/// Lends a region of the host program's to the guest in the store in hand, with
/// the given rights, of which [`Rights::SHARE`] is left out.
///
/// # Errors
///
/// [`RegionError::NotPermitted`] for rights that the handle lacks;
/// [`RegionError::OtherHost`]; [`RegionError::WouldBlock`] while a guard of the host program's lives on the
/// claim; [`RegionError::Purged`]; [`RegionError::Exhausted`] for the guest's
/// limits.
pub fn lend<T: RegionView>(
    mut store: impl AsContextMut<Data = T>,
    region: &Region,
    rights: Rights,
) -> Result<LentRegion, RegionError> {
    let mut store = store.as_context_mut();
    let id = StoreId::of(&store);
    let ctx = store.data_mut().region_ctx();
    let region = region.lend(rights.without(Rights::SHARE), &ctx.owner)?;
    let guard = LendGuard::new(&region);
    let rep = ctx
        .table
        .push(region)
        .expect("the account counts handles")
        .rep();
    Ok(LentRegion {
        rep,
        borrowed: Borrowed {
            lent: vec![BorrowedOne {
                any: None,
                rep,
                store: id,
                guard,
            }],
        },
    })
}

/// Takes a region that an export of the guest in the store in hand returned as
/// `region`: a move to the host program. The guest's windows on that claim are
/// unmapped.
///
/// # Errors
///
/// [`PackError::Refused`] where the guest may not move it, and
/// [`PackError::Fatal`] where `resource` is no handle of this guest's, or its
/// memory cannot be restored. The handle is dropped then.
pub fn take<T: RegionView>(
    mut store: impl AsContextMut<Data = T>,
    resource: Resource<Region>,
) -> Result<Region, PackError> {
    let mut store = store.as_context_mut();
    let (id, ctx) = bound(&mut store);
    ctx.check().map_err(wasmtime::Error::from)?;
    let to = ctx.host().own().clone();
    let region = ctx.remove(resource).map_err(wasmtime::Error::from)?;
    let refused = |region: &Region, reason| PackError::Refused {
        region: region.shared().name.as_str().to_owned(),
        what: "moved",
        reason,
    };
    if let Err(reason) = region.shared().ledger().may_move(region.handle()) {
        return Err(refused(&region, reason.into()));
    }
    unmap_all(
        id,
        region.shared(),
        region.handle().claim(),
        None,
        WindowEnd::Orderly,
    )?;
    receive(region, &to).map_err(|(region, reason)| refused(&region, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombolo_region::Exhausted;

    fn refused(reason: RegionError) -> PackError {
        PackError::Refused {
            region: "secret\n".to_owned(),
            what: "moved",
            reason,
        }
    }

    #[test]
    fn receiver_is_not_told_which_region_it_was() {
        let error = refused(RegionError::Purged);
        assert_eq!(
            error.for_receiver(),
            "a region among them cannot be moved: the region was frozen, and purged since"
        );
        assert!(error.to_string().starts_with(r"region `secret\n` cannot"));
        assert!(error.for_sender().starts_with("region `secret\n` cannot"));
    }

    #[test]
    fn sender_is_not_told_how_much_the_receiver_may_have() {
        let error = refused(RegionError::Exhausted(Exhausted {
            owner: "guest `b`".to_owned(),
            limit: "handles",
            used: 12_345,
            asked: 23_456,
            most: 34_567,
        }));
        let told = error.for_sender();
        assert!(
            told.ends_with("limit `handles` of guest `b` is used up"),
            "{told}"
        );
        let own = error.for_receiver();
        assert!(own.contains("23456 more asked for, 34567 allowed"), "{own}");
    }

    #[test]
    fn neither_is_told_what_the_kernel_says() {
        let system = std::io::Error::other("/proc/self/fd/7 says no");
        let error = refused(RegionError::from(system));
        for told in [error.for_sender(), error.for_receiver()] {
            assert!(told.ends_with("the host's system refused"), "{told}");
        }
    }
}
