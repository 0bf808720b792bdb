//! The lock: windows and guards, and what of them conflicts.

use super::super::{Rights, Span};
use super::{
    Access, ClaimId, Handle, Holder, Ledger, LedgerError, LendId, WindowEnd, WindowId, WindowRecord,
};

impl<P> Ledger<P> {
    /// Tells whether a lend on the way from the owner to `via` sets this window
    /// of the claim aside: the lender had it when that lend began.
    pub(super) fn is_aside(
        &self,
        id: WindowId,
        window: &WindowRecord<P>,
        via: Option<LendId>,
    ) -> bool {
        if window.holder == Holder::Host {
            return false;
        }
        let mut at = via;
        while let Some(lend) = at {
            let Some(entry) = self.lends.get(&lend) else {
                return false;
            };
            if entry.parent == window.via {
                return id.0 < lend.0;
            }
            at = entry.parent;
        }
        false
    }

    /// Returns the tags of the windows that are set aside for a user of the lend `via`.
    pub(super) fn tags_aside(&self, claim: ClaimId, via: Option<LendId>) -> Vec<u64> {
        let mut tags = Vec::new();
        let mut at = via;
        while let Some(lend) = at {
            let Some(entry) = self.lends.get(&lend) else {
                return tags;
            };
            tags.push(tag(claim, entry.parent));
            at = entry.parent;
        }
        tags
    }

    /// Returns the tag of a new window; 0 if the host holds it, or if the claim or lend that
    /// it came by has been lent on. All windows with another tag are set aside for users of
    /// any later lend: they were there when it began.
    fn tag(&self, claim: ClaimId, via: Option<LendId>, holder: Holder) -> u64 {
        let lends_on = match via {
            None => self.claims[&claim].lends > 0,
            Some(lend) => self.lends.get(&lend).is_none_or(|lend| lend.children > 0),
        };
        match holder == Holder::Host || lends_on {
            true => 0,
            false => tag(claim, via),
        }
    }

    /// Returns a window with which such a one would conflict.
    pub(super) fn conflict(
        &self,
        claim: ClaimId,
        via: Option<LendId>,
        span: Span,
        access: Access,
        except: Option<WindowId>,
    ) -> Option<WindowId> {
        let aside = self.tags_aside(claim, via);
        let against = |other: Access| !access.goes_with(other);
        self.windows.find(span, against, &aside, |id, other| {
            Some(id) != except && !(other.claim == claim && self.is_aside(id, other, via))
        })
    }

    /// Opens a window, for which the handle must have the rights `needs`:
    /// takes the lock on its granules.
    ///
    /// # Errors
    ///
    /// Each [`LedgerError`]; they are looked for in the order gone, purged, rights,
    /// frozen, poisoned, unpinned, conflict.
    pub fn open(
        &mut self,
        handle: &Handle,
        needs: Rights,
        span: Span,
        access: Access,
        holder: Holder,
        place: P,
    ) -> Result<WindowId, LedgerError> {
        self.may_open(handle, needs, access)?;
        self.check_pinned(handle.claim, span)?;
        self.check_lock(handle.claim, handle.via, span, access, None)?;
        if self.is_behind(handle.claim, handle.via, span, access) {
            return Err(LedgerError::WouldBlock);
        }
        self.consume(handle.claim, handle.via, span, access);
        let id = WindowId(self.fresh());
        let entry = self.claim_mut(handle.claim);
        entry.windows += 1;
        if holder == Holder::Host {
            entry.guards += 1;
        }
        if let Some(lend) = handle.via.and_then(|lend| self.lends.get_mut(&lend)) {
            lend.windows += 1;
        }
        let tag = self.tag(handle.claim, handle.via, holder);
        self.windows.insert(
            id,
            WindowRecord {
                claim: handle.claim,
                via: handle.via,
                rights: handle.rights,
                span,
                access,
                holder,
                tag,
                place,
            },
        );
        self.note_window(id);
        Ok(id)
    }

    /// Tells whether a window on no bytes at all could be opened.
    ///
    /// # Errors
    ///
    /// As [`open`](Ledger::open), without [`LedgerError::WouldBlock`],
    /// [`LedgerError::OtherStrand`] and [`LedgerError::Unpinned`].
    pub fn may_open(
        &self,
        handle: &Handle,
        needs: Rights,
        access: Access,
    ) -> Result<(), LedgerError> {
        self.check_there(handle)?;
        self.check_rights(handle, needs)?;
        self.check_state(access)
    }

    pub(super) fn check_pinned(&self, claim: ClaimId, span: Span) -> Result<(), LedgerError> {
        match self.claims[&claim].unpinned.overlaps(&span.granules()) {
            true => Err(LedgerError::Unpinned),
            false => Ok(()),
        }
    }

    pub(super) fn check_state(&self, access: Access) -> Result<(), LedgerError> {
        if self.frozen && access != Access::Read {
            return Err(LedgerError::Frozen);
        }
        if self.poisoned {
            Err(LedgerError::Poisoned)
        } else {
            Ok(())
        }
    }

    fn check_lock(
        &self,
        claim: ClaimId,
        via: Option<LendId>,
        span: Span,
        access: Access,
        except: Option<WindowId>,
    ) -> Result<(), LedgerError> {
        if self.frozen && access != Access::Read {
            return Err(LedgerError::Frozen);
        }
        if self.conflict(claim, via, span, access, except).is_none() {
            return Ok(());
        }
        // That is no matter of waiting, and said first.
        let aside = self.tags_aside(claim, via);
        let apart = |other: Access| other.is_strands_apart(access);
        let apart = self.windows.find(span, apart, &aside, |id, other| {
            Some(id) != except && !(other.claim == claim && self.is_aside(id, other, via))
        });
        match apart {
            Some(_) => Err(LedgerError::OtherStrand),
            None => Err(LedgerError::WouldBlock),
        }
    }

    /// Tells whether a window may be for something else.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Gone`] for a window that has ended, or whose lend has; the
    /// others but [`LedgerError::Poisoned`], since windows that exist stay as they
    /// are.
    pub fn may_set_access(&self, id: WindowId, access: Access) -> Result<(), LedgerError> {
        let window = self.windows.get(id).ok_or(LedgerError::Gone)?;
        self.check_lend(window.via)?;
        if self.purged {
            return Err(LedgerError::Purged);
        }
        if !window.rights.contains(access.needs()) {
            return Err(LedgerError::NotPermitted);
        }
        let (claim, via, span) = (window.claim, window.via, window.span);
        self.check_lock(claim, via, span, access, Some(id))?;
        // Nobody waits for a window to be more than it is now.
        if !access.within(window.access) && self.is_behind(claim, via, span, access) {
            return Err(LedgerError::WouldBlock);
        }
        Ok(())
    }

    /// Changes what a window is for.
    ///
    /// # Errors
    ///
    /// As [`may_set_access`](Ledger::may_set_access).
    pub fn set_access(&mut self, id: WindowId, access: Access) -> Result<(), LedgerError> {
        self.may_set_access(id, access)?;
        self.windows.set_access(id, access);
        let claim = self.windows.get(id).expect("it may be changed").claim;
        self.note_change(id, claim);
        self.note_window(id);
        self.note_aside(claim);
        Ok(())
    }

    /// Closes a window: lets its granules go. A writer that died poisons the
    /// region. Gives back what was noted for it, or `None` for a window that
    /// had ended before.
    pub fn close(&mut self, id: WindowId, end: WindowEnd) -> Option<P> {
        let window = self.windows.remove(id)?;
        self.note_change(id, window.claim);
        if window.access.writes() && end == WindowEnd::Died {
            self.poisoned = true;
        }
        let entry = self.claim_mut(window.claim);
        entry.windows -= 1;
        if window.holder == Holder::Host {
            entry.guards -= 1;
        }
        self.settle(window.claim);
        if let Some(lend) = window.via {
            if let Some(entry) = self.lends.get_mut(&lend) {
                entry.windows -= 1;
            }
            self.settle_lend(lend);
        }
        Some(window.place)
    }

    /// What a window is at the moment: its span and access.
    #[must_use]
    #[allow(dead_code, reason = "for tests")]
    pub fn window(&self, id: WindowId) -> Option<(Span, Access)> {
        self.windows
            .get(id)
            .map(|window| (window.span, window.access))
    }

    /// Tells whether a window may ever write, now or after
    /// [`set_access`](Ledger::set_access).
    #[must_use]
    pub fn may_write(&self, id: WindowId) -> bool {
        let window = self.windows.get(id);
        window.is_some_and(|window| window.rights.contains(Access::Write.needs()))
    }

    /// The guests' windows of a claim that were made through a lend, or, with
    /// `None`, by its own holder.
    pub fn windows_of(
        &self,
        claim: ClaimId,
        via: Option<LendId>,
    ) -> impl Iterator<Item = (WindowId, Access, &P)> {
        self.windows
            .through(claim, via)
            .filter(|(_, window)| window.holder == Holder::Guest)
            .map(|(id, window)| (id, window.access, &window.place))
    }
}

/// Returns the tag that the windows of a claim share, if they came by this lend, or by none.
/// Claims and lends never have the same number.
fn tag(claim: ClaimId, via: Option<LendId>) -> u64 {
    via.map_or(claim.0, |lend| lend.0)
}
