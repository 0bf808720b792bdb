//! Each step on a region and on its model.

use super::*;

impl Site {
    pub(super) fn act(&mut self, op: &Op) {
        match *op {
            Op::Duplicate { handle, rights } => {
                let Some(handle) = self.pick_handle(handle) else {
                    return;
                };
                self.duplicate(handle, can(rights));
            }
            Op::Restrict { handle, rights } => {
                let Some(handle) = self.pick_handle(handle) else {
                    return;
                };
                self.restrict(handle, can(rights));
            }
            Op::Lend { handle, rights, to } => {
                let Some(handle) = self.pick_handle(handle) else {
                    return;
                };
                self.lend(handle, can(rights), Some(usize::from(to) % HOLDERS));
            }
            Op::LendWithin { handle, rights } => {
                let Some(handle) = self.pick_handle(handle) else {
                    return;
                };
                self.lend(handle, can(rights), None);
            }
            Op::Revoke { lend } => {
                let lends = 0..self.lends.len();
                let open = lends.filter(|no| !self.model.over(*no)).collect();
                if let Some(lend) = pick(lend, open, self.lends.len()) {
                    self.note("revoke", "done");
                    self.revoke(lend);
                }
            }
            Op::Return { lend } => {
                let lends = 0..self.lends.len();
                let open = lends.filter(|no| !self.model.over(*no)).collect();
                if let Some(lend) = pick(lend, open, self.lends.len()) {
                    self.end_lend(lend);
                    let outcome = if self.model.over(lend) {
                        "over"
                    } else {
                        "not over"
                    };
                    self.note("return", outcome);
                }
            }
            Op::Move { handle, to } => {
                let Some(handle) = self.pick_handle(handle) else {
                    return;
                };
                self.transfer(handle, usize::from(to) % HOLDERS);
            }
            Op::Release { handle } => {
                let Some(handle) = self.pick_handle(handle) else {
                    return;
                };
                self.note("release", "done");
                self.release(handle);
            }
            Op::Open {
                handle,
                first,
                length,
                access,
            } => self.open(handle, first, length, access, false),
            Op::Guard {
                handle,
                first,
                length,
                write,
            } => self.open(handle, first, length, u8::from(write), true),
            Op::SetAccess { window, access } => {
                if let Some(window) = self.pick_window(window) {
                    let access = access_of(access, self.window_holders[window]);
                    self.set_access(window, access);
                }
            }
            Op::Close { window, died } => {
                if let Some(window) = self.pick_window(window) {
                    self.close(window, end(died));
                }
            }
            Op::Freeze { handle } => {
                let Some(handle) = self.pick_handle(handle) else {
                    return;
                };
                self.freeze(handle);
            }
            Op::ClearPoison { handle } => {
                let Some(handle) = self.pick_handle(handle) else {
                    return;
                };
                self.clear_poison(handle);
            }
            Op::Unpin {
                handle,
                first,
                length,
                undo,
            } => {
                let Some(handle) = self.pick_handle(handle) else {
                    return;
                };
                self.unpin(handle, &span(first, length), undo);
            }
            Op::IsPinned {
                handle,
                first,
                length,
            } => {
                let Some(handle) = self.pick_handle(handle) else {
                    return;
                };
                self.is_pinned(handle, &span(first, length));
            }
            Op::Wait {
                handle,
                first,
                length,
                access,
            } => {
                if let Some(handle) = self.pick_handle(handle) {
                    let access = access_of(access, self.handle_holders[handle]);
                    self.wait(handle, span(first, length), access);
                }
            }
            Op::Poll { waiter } => {
                if let Some(waiter) = self.pick_waiter(waiter) {
                    self.ask_waiter(waiter);
                }
            }
            Op::Dequeue { waiter } => {
                if let Some(waiter) = self.pick_waiter(waiter) {
                    self.lock().dequeue(self.waiters[waiter]);
                    self.model.leaves(waiter);
                    self.note("dequeue", "done");
                }
            }
            Op::Advance { millis } => {
                self.now += Duration::from_millis(millis.into());
            }
            Op::Pin { .. } | Op::Write { .. } | Op::Purge { .. } | Op::SetBudget { .. } => {
                unreachable!("the world's")
            }
            Op::End { holder, died } => {
                self.note("end", if died { "died" } else { "orderly" });
                self.end_holder(usize::from(holder) % HOLDERS, end(died));
            }
        }
    }

    pub(super) fn duplicate(&mut self, source: usize, can: Can) {
        let reasons = self.model.against_duplicate(source, can);
        let holder = self.handle_holders[source];
        let may = self
            .lock()
            .may_duplicate(self.handle(source), rights(can))
            .err();
        assert_eq!(may.is_none(), reasons.is_empty());
        assert!(may.is_none_or(|refusal| reasons.contains(&refusal)));
        let Some(charges) = self.charge(holder, self.model.handles[source].claim) else {
            self.note("duplicate", "exhausted");
            return;
        };
        let handle = self.handles[source].take().expect("picked");
        let made = self.ask("duplicate", &reasons, |ledger| {
            ledger.duplicate(&handle, rights(can), charges)
        });
        self.handles[source] = Some(handle);
        if let Some(made) = made {
            let pins = self.model.pins(source);
            if pins.untold.contains(&true) {
                self.note("duplicate", "of what was lost");
            }
            let number = self.model.claim(can, pins);
            assert_eq!(self.model.claims.len(), self.claims.len() + 1);
            self.claims.push(made.claim());
            self.claim_holders.push(holder);
            self.got(number, made, holder, Some(source));
        }
    }

    pub(super) fn restrict(&mut self, source: usize, can: Can) {
        let reasons = self.model.against_restrict(source, can);
        let handle = self.handles[source].take().expect("picked");
        let made = self.ask("restrict", &reasons, |ledger| {
            ledger.restrict(&handle, rights(can))
        });
        self.handles[source] = Some(handle);
        if let Some(made) = made {
            let number = self.model.restrict(source, can);
            self.got(number, made, self.handle_holders[source], Some(source));
        }
    }

    /// Lends to another holder, or with `None` within the holder of the handle.
    pub(super) fn lend(&mut self, source: usize, can: Can, to: Option<usize>) {
        let reasons = self.model.against_lend(source, can);
        let handle = self.handles[source].take().expect("picked");
        let name = if to.is_some() { "lend" } else { "lend within" };
        let made = self.ask(name, &reasons, |ledger| match to {
            Some(_) => ledger.lend(&handle, rights(can)),
            None => ledger.lend_within(&handle, rights(can)),
        });
        self.handles[source] = Some(handle);
        if let Some(made) = made {
            let (lend, number) = self.model.lend(source, can, to.is_none());
            assert_eq!(lend, self.lends.len());
            self.lends.push(made.lend().expect("it was lent"));
            let to = to.unwrap_or(self.handle_holders[source]);
            self.got(number, made, to, Some(source));
            let depth = self.model.lends[lend].chain.len();
            self.note(name, if depth > 1 { "on" } else { "own" });
        }
    }

    pub(super) fn revoke(&mut self, lend: usize) {
        let before = format!("{:?}", *self.lock());
        let again = self.model.lends[lend].revoked;
        self.lock().revoke(self.lends[lend]);
        let ends = |no: &usize| !self.model.lends[*no].revoked;
        if self.model.lends_within(lend).iter().any(ends) {
            self.note("revoke", "with lends within");
        }
        self.model.revoke(lend);
        if again {
            assert_eq!(before, format!("{:?}", *self.lock()));
        }
        self.settle();
    }

    pub(super) fn end_lend(&mut self, lend: usize) {
        self.revoke(lend);
        let within = self.lock().lends_within(self.lends[lend]);
        let open = |no: &usize| !self.model.over(*no);
        let expected = self.model.lends_within(lend).into_iter().filter(open);
        let mut expected: Vec<LendId> = expected.map(|no| self.lends[no]).collect();
        let mut found = within.clone();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        let lends =
            (0..self.lends.len()).filter(|no| *no == lend || within.contains(&self.lends[*no]));
        for lend in lends.collect::<Vec<_>>() {
            let (claim, chain) = (self.model.lends[lend].claim, &self.model.lends[lend].chain);
            for window in self.model.windows_of(claim, chain) {
                self.close(window, WindowEnd::Orderly);
            }
        }
    }

    pub(super) fn transfer(&mut self, handle: usize, to: usize) {
        let reasons = self.model.against_move(handle);
        // A claim that moves within one account is charged twice for a moment.
        let claim = self.model.handles[handle].claim;
        let charges = self.charge(to, claim);
        let may = self.lock().may_move(self.handle(handle));
        match may {
            Err(refusal) => {
                assert!(reasons.contains(&refusal), "{refusal:?}, not {reasons:?}");
                self.note("move", refusal);
            }
            Ok(()) => {
                assert_eq!(reasons, []);
                let Some(charges) = charges else {
                    self.note("move", "exhausted");
                    return;
                };
                let windows = self.model.windows_of(claim, &[]);
                self.note("move", "done");
                for window in windows {
                    self.note("move", "with windows");
                    self.close(window, WindowEnd::Orderly);
                }
                self.lock().recharge(self.claims[claim], charges);
                self.model.leave(|it| it.claim == claim);
                self.claim_holders[claim] = to;
                self.handle_holders[handle] = to;
            }
        }
    }

    pub(super) fn release(&mut self, handle: usize) {
        let taken = self.handles[handle].take().expect("picked");
        self.lock().release(taken);
        self.model.handles[handle].dropped = true;
        self.settle();
    }

    pub(super) fn open(&mut self, handle: u8, first: u8, length: u8, access: u8, guard: bool) {
        let Some(handle) = self.pick_handle(handle) else {
            return;
        };
        let shows = span(first, length);
        let access = access_of(access, self.handle_holders[handle]);
        let window = self.model.window(handle, shows, access, guard);
        let mut needs = Can::window(access);
        if guard && needs.write {
            // Copying in does not read.
            needs.read = false;
        }
        let reasons = self.model.against_open(handle, needs, &window);
        let number = self.windows.len();
        let taken = self.handles[handle].take().expect("picked");
        let (holder, name) = match guard {
            true => (Holder::Host, "guard"),
            false => (Holder::Guest, "open"),
        };
        let made = self.ask(name, &reasons[..reasons.len().min(1)], |ledger| {
            let span = span_of(&shows);
            ledger.open(&taken, rights(needs), span, access, holder, number)
        });
        self.handles[handle] = Some(taken);
        if let Some(made) = made {
            if matches!(access, Access::LiveRead(_) | Access::LiveWrite(_)) {
                self.note("open", access);
            }
            self.model.took(&window);
            self.model.windows.push(window);
            self.windows.push(made);
            self.window_holders.push(self.handle_holders[handle]);
        }
    }

    pub(super) fn set_access(&mut self, window: usize, access: Access) {
        let reasons = self.model.against_access(window, access);
        let id = self.windows[window];
        let first = &reasons[..reasons.len().min(1)];
        let done = self.ask("set-access", first, |ledger| ledger.set_access(id, access));
        if done.is_some() {
            let before = self.model.windows[window].access;
            self.note("set-access", format!("{before} to {access}"));
            self.model.windows[window].access = access;
        }
    }

    pub(super) fn wait(&mut self, handle: usize, shows: Granules, access: Access) {
        let window = self.model.window(handle, shows, access, false);
        let reasons = self
            .model
            .against_wait(handle, Can::window(access), &window);
        let first = &reasons[..reasons.len().min(1)];
        let (taken, now) = (self.handles[handle].take().expect("picked"), self.now);
        let id = self.ask("wait", first, |ledger| {
            ledger.enqueue(&taken, span_of(&shows), access, now)
        });
        self.handles[handle] = Some(taken);
        if let Some(id) = id {
            assert_eq!(self.model.wait(window), self.waiters.len());
            self.waiters.push(id);
        }
    }

    pub(super) fn ask_waiter(&mut self, waiter: usize) {
        self.model.pass(self.now);
        self.model.asks(waiter);
        self.model.pass(self.now);
        let waited = self.lock().poll_waiter(self.waiters[waiter], self.now);
        let expected = match self.model.ready(waiter) {
            true => WaitStatus::Ready,
            false => WaitStatus::Pending(self.model.next_expiry()),
        };
        assert_eq!(waited, expected);
        self.note(
            "poll",
            match self.model.waiters[waiter].state {
                WaiterState::Reserved(_) => "reserved",
                WaiterState::Left => "left",
                _ => "not yet",
            },
        );
    }

    /// Advances the ledger and its model, and compares the waiters that are woken.
    pub(super) fn pass(&mut self) {
        let turns = |model: &Model| -> Vec<WaiterState> {
            model.waiters.iter().map(|it| it.state).collect()
        };
        let before = turns(&self.model);
        self.model.pass(self.now);
        let told = self.lock().advance(self.now);
        for (was, is) in before.into_iter().zip(turns(&self.model)) {
            if was != is {
                assert!(told, "somebody is not told: {was:?} became {is:?}");
                let name = match is {
                    WaiterState::Waiting => "waiting",
                    WaiterState::Reserved(_) => "reserved",
                    WaiterState::Expired => "expired",
                    WaiterState::Left => "left",
                };
                self.note("advance", name);
            }
        }
        assert!(!self.lock().advance(self.now), "no waiter is woken twice");
    }

    /// Checks that a reservation conflicts with no window and no reservation of others.
    pub(super) fn check_waiters(&self) {
        let reserved =
            |no: &&usize| matches!(self.model.waiters[**no].state, WaiterState::Reserved(_));
        let reserved = self.model.queue.iter().filter(reserved);
        let reserved = reserved.map(|no| &self.model.waiters[*no].window);
        let reserved = reserved.collect::<Vec<_>>();
        let open = self.model.windows.iter().filter(|it| it.open);
        for one in &reserved {
            for other in reserved.iter().copied().chain(open.clone()) {
                assert!(
                    one.claim == other.claim || !Model::clash(one, other),
                    "{one:?} and {other:?}"
                );
            }
        }
    }

    pub(super) fn close(&mut self, window: usize, end: WindowEnd) {
        let before = format!("{:?}", *self.lock());
        let place = self.lock().close(self.windows[window], end);
        if self.model.windows[window].open {
            assert_eq!(place, Some(window));
            self.model.close(window, end);
            self.note("close", format!("{end:?}"));
        } else {
            assert_eq!(place, None);
            assert_eq!(before, format!("{:?}", *self.lock()));
            self.note("close", "again");
        }
        self.settle();
    }

    pub(super) fn freeze(&mut self, handle: usize) {
        let reasons = self.model.against_freeze(handle);
        let taken = self.handles[handle].take().expect("picked");
        let done = self.ask("freeze", &reasons, |ledger| ledger.freeze(&taken));
        self.handles[handle] = Some(taken);
        self.model.frozen |= done.is_some();
    }

    pub(super) fn clear_poison(&mut self, handle: usize) {
        let reasons = self.model.against_clear(handle);
        let taken = self.handles[handle].take().expect("picked");
        let done = self.ask("clear-poison", &reasons, |ledger| {
            ledger.clear_poison(&taken)
        });
        self.handles[handle] = Some(taken);
        self.model.poisoned &= done.is_none();
    }

    pub(super) fn unpin(&mut self, handle: usize, span: &Granules, undo: bool) {
        let reasons = self.model.against_unpin(handle, span);
        let spans = self.spans_after(handle, span, false);
        let region = self.region.clone();
        let mut ledger = region.lock.lock();
        let before = format!("{:?}", *ledger);
        let outcome = match ledger.unpin(self.handle(handle), span_of(span)) {
            Ok(unpin) => {
                assert_eq!(reasons, []);
                assert!(spans.0 <= SPANS, "{spans:?} spans");
                if undo {
                    ledger.undo_unpin(unpin);
                    "undone".to_owned()
                } else {
                    self.model.unpin(handle, span);
                    "done".to_owned()
                }
            }
            Err(PinError::Refused(refusal)) => {
                assert!(reasons.contains(&refusal), "{refusal:?}, not {reasons:?}");
                assert_eq!(before, format!("{:?}", *ledger));
                refusal.to_string()
            }
            Err(PinError::Exhausted(exhausted)) => {
                assert!(spans.1 > SPANS, "{exhausted}");
                assert_eq!(before, format!("{:?}", *ledger));
                exhausted.limit.to_owned()
            }
        };
        drop(ledger);
        self.keep_budget();
        self.note("unpin", outcome);
    }

    pub(super) fn is_pinned(&mut self, handle: usize, span: &Granules) {
        let reasons = self.model.against_status(handle);
        let taken = self.handles[handle].take().expect("picked");
        let said = self.ask("is-pinned", &reasons, |ledger| {
            ledger.is_pinned(&taken, span_of(span))
        });
        self.handles[handle] = Some(taken);
        if let Some(said) = said {
            assert_eq!(said, self.model.is_pinned(handle, span));
            self.note("is-pinned", said);
        }
    }

    pub(super) fn write(&mut self, handle: u8, granule: usize, number: u64) {
        let Some(handle) = self.pick_handle(handle) else {
            return;
        };
        let mut span = [false; GRANULES];
        span[granule] = true;
        let there = !self.model.gone(handle) && self.model.is_pinned(handle, &span);
        if there && !self.model.frozen {
            self.region.bytes()[granule] = number;
            self.model.bytes[granule] = number;
            self.note("write", "done");
        }
    }

    /// Returns the minimum and maximum number of runs that the account of a handle's claim
    /// counts after the claim has pinned or unpinned a span.
    pub(super) fn spans_after(&self, handle: usize, span: &Granules, pin: bool) -> (u64, u64) {
        let claim = self.model.handles[handle].claim;
        if !self.model.lives(claim) {
            return (0, 0);
        }
        let account = &self.accounts[self.claim_holders[claim]];
        let counted = self.lock().unpinned_spans(self.claims[claim]);
        // Nothing is charged for regions that were purged for good.
        let others = account
            .used(ChargeKind::UnpinnedSpans)
            .saturating_sub(counted);
        let (least, most) = self.model.runs_with(handle, span, pin);
        (others + least, others + most)
    }

    pub(super) fn end_holder(&mut self, holder: usize, end: WindowEnd) {
        for window in 0..self.windows.len() {
            if self.window_holders[window] == holder && self.model.windows[window].open {
                self.close(window, end);
            }
        }
        for handle in 0..self.handles.len() {
            if self.handle_holders[handle] == holder && self.handles[handle].is_some() {
                self.release(handle);
            }
        }
    }

    /// Calls the ledger with an operation against which the model has these reasons. A refusal
    /// changes nothing.
    pub(super) fn ask<T>(
        &mut self,
        name: &'static str,
        reasons: &[LedgerError],
        act: impl FnOnce(&mut Ledger<usize>) -> Result<T, LedgerError>,
    ) -> Option<T> {
        let region = self.region.clone();
        let mut ledger = region.lock.lock();
        let before = format!("{:?}", *ledger);
        match act(&mut ledger) {
            Ok(made) => {
                assert!(reasons.is_empty(), "{name} was not {reasons:?}");
                self.note(name, "done");
                Some(made)
            }
            Err(refusal) => {
                assert!(
                    reasons.contains(&refusal),
                    "{name} was {refusal:?}, not {reasons:?}"
                );
                assert_eq!(before, format!("{:?}", *ledger));
                self.note(name, refusal);
                None
            }
        }
    }

    pub(super) fn note(&mut self, name: &'static str, outcome: impl ToString) {
        note(&mut self.seen, name, outcome);
    }

    /// Notes a new handle. Its rights do not exceed those of its source, and lent and
    /// restricted ones have no `share`.
    pub(super) fn got(
        &mut self,
        number: usize,
        handle: Handle,
        holder: usize,
        source: Option<usize>,
    ) {
        assert_eq!(number, self.handles.len());
        let noted = &self.model.handles[number];
        assert_eq!(handle.rights(), rights(noted.can));
        assert_eq!(handle.claim(), self.claims[noted.claim]);
        let lend = noted.chain.last().map(|lend| self.lends[*lend]);
        assert_eq!(handle.lend(), lend);
        if let Some(source) = source {
            assert!(self.handle(source).rights().contains(handle.rights()));
        }
        if !noted.first || lend.is_some() {
            assert!(!handle.rights().contains(Rights::SHARE));
        }
        self.handles.push(Some(handle));
        self.handle_holders.push(holder);
    }
}
