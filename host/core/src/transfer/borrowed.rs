//! Lends, from the side of the borrower.

use std::convert::Infallible;
use std::sync::Arc;

use tombolo_region::WindowEnd;
use wasmtime::component::{Resource, ResourceAny};

use super::few::Few;
use super::lending::LendRevoker;
use crate::ctx::RegionCtx;
use crate::guest::AsGuest;
use crate::host::{Region, RegionInner};
use crate::sys::StoreId;

/// The borrower's side of the lends of one [`Parcel`](crate::Parcel).
///
/// Dropping it ends the lends, but windows that were made through them stay until the borrower's
/// store is dropped. The lender waits for that.
#[derive(Debug, Default)]
#[must_use = "windows made through the lend stay until `end`, or until the store is dropped"]
pub struct Borrowed {
    pub(super) lent: Few<BorrowedOne>,
}

#[derive(Debug)]
pub(super) struct BorrowedOne {
    /// `None` if the call was typed, because wasmtime keeps no handle then.
    pub(super) any: Option<ResourceAny>,
    pub(super) rep: u32,
    /// The store whose table `rep` is in.
    pub(super) store: StoreId,
    pub(super) guard: LendRevoker,
}

impl Borrowed {
    /// Puts a region that was just lent into the table of a guest. Returns the number of its
    /// handle there.
    pub(crate) fn push(ctx: &mut RegionCtx, store: StoreId, region: Region) -> (u32, Borrowed) {
        let guard = LendRevoker::new(&region);
        let handle = ctx
            .region_table
            .push(region)
            .expect("the account counts handles");
        let mut borrowed = Borrowed::default();
        borrowed.lent.push(BorrowedOne {
            any: None,
            rep: handle.rep(),
            store,
            guard,
        });
        (handle.rep(), borrowed)
    }

    /// Notes wasmtime's handle of a region, if it is a lent one: of the last, with this number.
    pub(crate) fn note_handle(&mut self, rep: u32, any: ResourceAny) {
        match self.lent.as_mut_slice() {
            [.., one] if one.rep == rep => one.any = Some(any),
            _ => {}
        }
    }

    /// Returns the borrowed regions.
    pub(crate) fn regions(&self) -> impl Iterator<Item = Arc<RegionInner>> {
        self.lent
            .as_slice()
            .iter()
            .map(|one| one.guard.region.clone())
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
    pub fn end<R>(self, guest: impl AsGuest, returned: wasmtime::Result<R>) -> wasmtime::Result<R> {
        let end = match &returned {
            Ok(_) => WindowEnd::Orderly,
            Err(_) => WindowEnd::Died,
        };
        let ended = self.end_each(guest, end);
        // After a failure wasmtime may not release the handle.
        returned.and_then(|value| ended.map(|_| value))
    }

    /// Ends the lends as [`end`](Borrowed::end) does. Returns whether all of them are over then.
    #[inline]
    pub(crate) fn end_each(
        self,
        mut guest: impl AsGuest,
        end: WindowEnd,
    ) -> wasmtime::Result<bool> {
        let mut guest = guest.as_guest();
        let id = guest.store_id();
        if self.lent.as_slice().iter().any(|one| one.store != id) {
            wasmtime::bail!("the lend is to another store than the one in hand");
        }
        let (mut result, mut over) = (Ok(()), true);
        let mut end_one = |one: BorrowedOne| {
            let BorrowedOne {
                any,
                rep,
                mut guard,
                ..
            } = one;
            let unmapped = guard.end(id, end);
            over &= guard.was_over();
            let taken = match any {
                // Takes the handle out of wasmtime's table as well.
                Some(any) => any.try_into_resource::<Region>(guest.store()).map(|_| ()),
                None => Ok(()),
            };
            let table = &mut guest.region_ctx().region_table;
            let handle = Resource::<Region>::new_own(rep);
            // Not, if the guest in hand is another one of the store.
            let is_ours = table.get(&handle).is_ok_and(|it| guard.is_of(it));
            let deleted = match is_ours {
                true => table.delete(handle).map_err(wasmtime::Error::from),
                false => Err(wasmtime::format_err!(
                    "the lend is to another guest than the one in hand"
                )),
            };
            let dropped = deleted.map(|region| guard.drop_revoked(region));
            unmapped.map_err(wasmtime::Error::from)?;
            taken?;
            dropped
        };
        // All of them end, even if one cannot.
        let ended = self.lent.try_for_each(|one| {
            if let Err(error) = end_one(one)
                && result.is_ok()
            {
                result = Err(error);
            }
            Ok::<_, Infallible>(())
        });
        let Ok(()) = ended;
        result.map(|()| over)
    }
}
