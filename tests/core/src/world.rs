//! Several holders of one region, acting on the ledger and on its model alike.
//!
//! Every step is a question to both; after it, everything that can be seen of
//! the ledger is compared with the model, and the rules that the model does not
//! state itself are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{Can, GRANULES, Model, Window};
use crate::region::{
    Access, Account, Charge, ClaimId, End, GRANULE, Handle, Holder, Kind, Ledger, LendId, Quota,
    Refusal, Rights, Span, WindowId,
};

/// How many holders there are.
const HOLDERS: usize = 4;
/// The region's size: its last granule is not whole.
const SIZE: u64 = (GRANULES as u64 - 1) * GRANULE + 1;
/// The most claims that a holder may have, so that some are refused.
const CLAIMS: u64 = 2;

/// What a holder does. Numbers choose among what there is: 255 and those below
/// it also among what has ended.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[expect(missing_docs, reason = "they are what the ledger calls them")]
pub enum Op {
    Duplicate {
        handle: u8,
        rights: u8,
    },
    Restrict {
        handle: u8,
        rights: u8,
    },
    Lend {
        handle: u8,
        rights: u8,
        to: u8,
    },
    Revoke {
        lend: u8,
    },
    /// The call of a lend ends as it should: the borrower's windows too.
    Return {
        lend: u8,
    },
    Move {
        handle: u8,
        to: u8,
    },
    Release {
        handle: u8,
    },
    Open {
        handle: u8,
        first: u8,
        length: u8,
        write: bool,
    },
    /// The host program takes a guard, or copies.
    Guard {
        handle: u8,
        first: u8,
        length: u8,
        write: bool,
    },
    SetAccess {
        window: u8,
        write: bool,
    },
    Close {
        window: u8,
        died: bool,
    },
    Freeze {
        handle: u8,
    },
    ClearPoison {
        handle: u8,
    },
    /// A guest ends, with all that it has.
    End {
        holder: u8,
        died: bool,
    },
}

/// How often each kind of step came to each outcome.
pub type Seen = BTreeMap<(&'static str, String), u64>;

/// One region, its model, and who holds what of it.
pub struct World {
    ledger: Ledger<usize>,
    model: Model,
    /// By the model's numbers, as all of these; `None` once released.
    handles: Vec<Option<Handle>>,
    /// Who has which handle.
    handle_holders: Vec<usize>,
    claims: Vec<ClaimId>,
    /// Whose account has which claim.
    claim_holders: Vec<usize>,
    lends: Vec<LendId>,
    windows: Vec<WindowId>,
    window_holders: Vec<usize>,
    accounts: Vec<Arc<Account>>,
    was_frozen: bool,
    seen: Seen,
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}

impl World {
    /// A new region, which the first holder created.
    ///
    /// # Panics
    ///
    /// As all of this: where ledger and model differ.
    #[must_use]
    pub fn new() -> World {
        let accounts = (0..HOLDERS)
            .map(|no| {
                let quota = Quota {
                    regions: CLAIMS,
                    claimed_bytes: CLAIMS * SIZE,
                    handles: 0,
                    windows: 0,
                };
                Account::new(format!("holder {no}"), quota)
            })
            .collect::<Vec<_>>();
        let charges = charge(&accounts[0]).expect("the first is in the quota");
        let (ledger, handle) = Ledger::new(charges);
        let mut world = World {
            ledger,
            model: Model::new(),
            claims: vec![handle.claim()],
            claim_holders: vec![0],
            handles: Vec::new(),
            handle_holders: Vec::new(),
            lends: Vec::new(),
            windows: Vec::new(),
            window_holders: Vec::new(),
            accounts,
            was_frozen: false,
            seen: Seen::new(),
        };
        assert_eq!(handle.rights(), Rights::ALL);
        world.got(0, handle, 0, None);
        world.compare();
        world
    }

    /// What came out of the steps so far.
    #[must_use]
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Takes one step on both sides, and compares.
    ///
    /// # Panics
    ///
    /// Where ledger and model differ.
    pub fn step(&mut self, op: &Op) {
        if self.ledger.claims() == 0 {
            // The region is gone, with all that anybody has of it. Here is
            // another.
            for (outcome, count) in std::mem::take(self).finish() {
                *self.seen.entry(outcome).or_default() += count;
            }
        }
        self.act(op);
        self.compare();
    }

    /// Everybody lets go, call by call and guest by guest.
    ///
    /// # Panics
    ///
    /// Where anything is left.
    pub fn finish(mut self) -> Seen {
        for lend in 0..self.lends.len() {
            self.end_lend(lend);
            self.compare();
        }
        for holder in 0..HOLDERS {
            self.end_holder(holder, End::Orderly);
            self.compare();
        }
        assert_eq!(self.ledger.claims(), 0);
        assert!(self.lends.iter().all(|lend| self.ledger.is_over(*lend)));
        for account in &self.accounts {
            assert_eq!(account.used(Kind::Regions), 0);
            assert_eq!(account.used(Kind::ClaimedBytes), 0);
        }
        self.seen
    }

    /// The region goes as it is, as with a host that ends.
    ///
    /// # Panics
    ///
    /// Where an account keeps anything.
    pub fn drop_all(self) {
        let accounts = self.accounts.clone();
        drop(self);
        for account in accounts {
            assert_eq!(account.used(Kind::Regions), 0);
            assert_eq!(account.used(Kind::ClaimedBytes), 0);
        }
    }

    fn act(&mut self, op: &Op) {
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
                self.lend(handle, can(rights), usize::from(to) % HOLDERS);
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
                write,
            } => self.open(handle, first, length, write, false),
            Op::Guard {
                handle,
                first,
                length,
                write,
            } => self.open(handle, first, length, write, true),
            Op::SetAccess { window, write } => {
                if let Some(window) = self.pick_window(window) {
                    self.set_access(window, access(write));
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
            Op::End { holder, died } => {
                self.note("end", if died { "died" } else { "orderly" });
                self.end_holder(usize::from(holder) % HOLDERS, end(died));
            }
        }
    }

    fn duplicate(&mut self, source: usize, can: Can) {
        let reasons = self.model.against_duplicate(source, can);
        let holder = self.handle_holders[source];
        let may = self
            .ledger
            .may_duplicate(self.handle(source), rights(can))
            .err();
        assert_eq!(may.is_none(), reasons.is_empty());
        assert!(may.is_none_or(|refusal| reasons.contains(&refusal)));
        let Some(charges) = self.charge(holder) else {
            self.note("duplicate", "exhausted");
            return;
        };
        let handle = self.handles[source].take().expect("picked");
        let made = self.ask("duplicate", &reasons, |ledger| {
            ledger.duplicate(&handle, rights(can), charges)
        });
        self.handles[source] = Some(handle);
        if let Some(made) = made {
            let number = self.model.claim(can);
            assert_eq!(self.model.claims, self.claims.len() + 1);
            self.claims.push(made.claim());
            self.claim_holders.push(holder);
            self.got(number, made, holder, Some(source));
        }
    }

    fn restrict(&mut self, source: usize, can: Can) {
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

    fn lend(&mut self, source: usize, can: Can, to: usize) {
        let reasons = self.model.against_lend(source, can);
        let handle = self.handles[source].take().expect("picked");
        let made = self.ask("lend", &reasons, |ledger| ledger.lend(&handle, rights(can)));
        self.handles[source] = Some(handle);
        if let Some(made) = made {
            let (lend, number) = self.model.lend(source, can);
            assert_eq!(lend, self.lends.len());
            self.lends.push(made.lend().expect("it was lent"));
            self.got(number, made, to, Some(source));
            let depth = self.model.lends[lend].chain.len();
            self.note("lend", if depth > 1 { "on" } else { "own" });
        }
    }

    fn revoke(&mut self, lend: usize) {
        let before = format!("{:?}", self.ledger);
        let again = self.model.lends[lend].revoked;
        self.ledger.revoke(self.lends[lend]);
        self.model.lends[lend].revoked = true;
        if again {
            assert_eq!(before, format!("{:?}", self.ledger));
        }
    }

    fn end_lend(&mut self, lend: usize) {
        self.revoke(lend);
        let (claim, chain) = (self.model.lends[lend].claim, &self.model.lends[lend].chain);
        for window in self.model.windows_of(claim, chain) {
            self.close(window, End::Orderly);
        }
    }

    fn transfer(&mut self, handle: usize, to: usize) {
        let reasons = self.model.against_move(handle);
        // Charged before: what goes to oneself is counted twice for a moment.
        let charges = self.charge(to);
        let may = self.ledger.may_move(self.handle(handle));
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
                let claim = self.model.handles[handle].claim;
                let windows = self.model.windows_of(claim, &[]);
                self.note("move", "done");
                for window in windows {
                    self.note("move", "with windows");
                    self.close(window, End::Orderly);
                }
                self.ledger.recharge(self.claims[claim], charges);
                self.claim_holders[claim] = to;
                self.handle_holders[handle] = to;
            }
        }
    }

    fn release(&mut self, handle: usize) {
        let taken = self.handles[handle].take().expect("picked");
        self.ledger.release(taken);
        self.model.handles[handle].dropped = true;
    }

    fn open(&mut self, handle: u8, first: u8, length: u8, write: bool, guard: bool) {
        let Some(handle) = self.pick_handle(handle) else {
            return;
        };
        let first = usize::from(first) % GRANULES;
        let last = first + usize::from(length) % (GRANULES - first);
        let mut shows = [false; GRANULES];
        shows[first..=last].fill(true);
        let (offset, bytes) = (first as u64 * GRANULE, (last - first + 1) as u64 * GRANULE);
        let span = Span::of_window(offset, bytes, SIZE).expect("inside the region");

        let window = self.model.window(handle, shows, access(write), guard);
        let mut needs = Can::window(access(write));
        if guard && write {
            // Who copies in sees nothing.
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
            ledger.open(&taken, rights(needs), span, access(write), holder, number)
        });
        self.handles[handle] = Some(taken);
        if let Some(made) = made {
            self.model.windows.push(window);
            self.windows.push(made);
            self.window_holders.push(self.handle_holders[handle]);
        }
    }

    fn set_access(&mut self, window: usize, access: Access) {
        let reasons = self.model.against_access(window, access);
        let id = self.windows[window];
        let first = &reasons[..reasons.len().min(1)];
        let done = self.ask("set-access", first, |ledger| ledger.set_access(id, access));
        if done.is_some() {
            self.model.windows[window].access = access;
        }
    }

    fn close(&mut self, window: usize, end: End) {
        let before = format!("{:?}", self.ledger);
        let place = self.ledger.close(self.windows[window], end);
        if self.model.windows[window].open {
            assert_eq!(place, Some(window));
            self.model.close(window, end);
            self.note("close", format!("{end:?}"));
        } else {
            assert_eq!(place, None);
            assert_eq!(before, format!("{:?}", self.ledger));
            self.note("close", "again");
        }
    }

    fn freeze(&mut self, handle: usize) {
        let reasons = self.model.against_freeze(handle);
        let taken = self.handles[handle].take().expect("picked");
        let done = self.ask("freeze", &reasons, |ledger| ledger.freeze(&taken));
        self.handles[handle] = Some(taken);
        self.model.frozen |= done.is_some();
    }

    fn clear_poison(&mut self, handle: usize) {
        let reasons = self.model.against_clear(handle);
        let taken = self.handles[handle].take().expect("picked");
        let done = self.ask("clear-poison", &reasons, |ledger| {
            ledger.clear_poison(&taken)
        });
        self.handles[handle] = Some(taken);
        self.model.poisoned &= done.is_none();
    }

    fn end_holder(&mut self, holder: usize, end: End) {
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

    /// Asks the ledger for something, to which the model has these objections.
    /// A refusal changes nothing.
    fn ask<T>(
        &mut self,
        name: &'static str,
        reasons: &[Refusal],
        act: impl FnOnce(&mut Ledger<usize>) -> Result<T, Refusal>,
    ) -> Option<T> {
        let before = format!("{:?}", self.ledger);
        match act(&mut self.ledger) {
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
                assert_eq!(before, format!("{:?}", self.ledger));
                self.note(name, refusal);
                None
            }
        }
    }

    fn note(&mut self, name: &'static str, outcome: impl ToString) {
        let count = self.seen.entry((name, outcome.to_string())).or_default();
        *count += 1;
    }

    /// Somebody got a handle. Rights never grow on the way, and what is lent or
    /// restricted has no `share`.
    fn got(&mut self, number: usize, handle: Handle, holder: usize, source: Option<usize>) {
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

    /// Compares all that can be seen.
    fn compare(&mut self) {
        assert_eq!(self.ledger.is_frozen(), self.model.frozen);
        assert_eq!(self.ledger.is_poisoned(), self.model.poisoned);
        self.compare_claims();
        self.compare_handles();
        for (no, id) in self.lends.iter().enumerate() {
            assert_eq!(self.ledger.is_over(*id), self.model.over(no), "lend {no}");
        }
        self.compare_windows();
        self.check_lock();
    }

    fn compare_claims(&self) {
        let live = (0..self.claims.len())
            .filter(|claim| self.model.lives(*claim))
            .collect::<Vec<_>>();
        assert_eq!(self.ledger.claims(), live.len());
        for (holder, account) in self.accounts.iter().enumerate() {
            let held = live.iter().filter(|it| self.claim_holders[**it] == holder);
            let held = held.count() as u64;
            assert_eq!(account.used(Kind::Regions), held, "holder {holder}");
            assert_eq!(account.used(Kind::ClaimedBytes), held * SIZE);
        }
    }

    fn compare_handles(&self) {
        for (no, handle) in self.handles.iter().enumerate() {
            let Some(handle) = handle else { continue };
            let gone = self.ledger.check(handle) == Err(Refusal::Gone);
            assert_eq!(gone, self.model.gone(no), "handle {no}");
            let reasons = self.model.against_move(no);
            match self.ledger.may_move(handle) {
                Ok(()) => assert_eq!(reasons, [], "handle {no}"),
                Err(refusal) => assert!(reasons.contains(&refusal), "handle {no}: {refusal:?}"),
            }
        }
    }

    fn compare_windows(&self) {
        let mut chains = BTreeSet::new();
        for (no, window) in self.model.windows.iter().enumerate() {
            let seen = self.ledger.window(self.windows[no]);
            let expected = window.open.then(|| (span_of(window), window.access));
            assert_eq!(seen, expected, "window {no}");
            chains.insert((window.claim, window.chain.clone()));
        }
        for (claim, chain) in chains {
            let via = chain.last().map(|lend| self.lends[*lend]);
            let of = self.ledger.windows_of(self.claims[claim], via);
            let seen = of.map(|(_, _, place)| *place).collect::<Vec<_>>();
            assert_eq!(seen, self.model.windows_of(claim, &chain));
        }
    }

    /// Rule 2, over all pairs there are, however they came to be.
    fn check_lock(&mut self) {
        let windows = self.model.windows.iter().enumerate();
        let open = windows.filter(|(_, it)| it.open).collect::<Vec<_>>();
        let mut aside = 0;
        for (at, (one_no, one)) in open.iter().enumerate() {
            for (other_no, other) in &open[at + 1..] {
                if Model::clash(one, other) {
                    let one_aside = self.model.aside(*one_no, &other.chain);
                    let other_aside = self.model.aside(*other_no, &one.chain);
                    assert!(one_aside || other_aside, "{one:?} and {other:?}");
                    assert_eq!(one.claim, other.claim);
                    assert!(!(if one_aside { one.guard } else { other.guard }));
                    aside += 1;
                }
            }
        }
        let writes = open.iter().any(|(_, it)| it.access == Access::Write);
        assert!(!(self.ledger.is_frozen() && writes));
        assert!(!self.was_frozen || self.ledger.is_frozen());
        self.was_frozen = self.ledger.is_frozen();
        if aside > 0 {
            self.note("windows", "set aside");
        }
    }

    fn handle(&self, number: usize) -> &Handle {
        self.handles[number].as_ref().expect("not released")
    }

    fn charge(&self, holder: usize) -> Option<Vec<Charge>> {
        let account = &self.accounts[holder];
        let (used, charges) = (account.used(Kind::Regions), charge(account));
        assert_eq!(charges.is_none(), used == CLAIMS);
        charges
    }

    fn pick_handle(&self, number: u8) -> Option<usize> {
        let held = (0..self.handles.len()).filter(|no| self.handles[*no].is_some());
        let held = held.collect::<Vec<_>>();
        let live = held.iter().copied().filter(|no| !self.model.gone(*no));
        match number {
            // Revoked ones too.
            224.. => pick(u8::MAX - number, held, 0),
            _ => pick(number, live.collect(), 0),
        }
    }

    fn pick_window(&self, number: u8) -> Option<usize> {
        let windows = 0..self.windows.len();
        let open = windows.filter(|no| self.model.windows[*no].open);
        pick(number, open.collect(), self.windows.len())
    }
}

/// Chooses among what there is; large numbers among all there were, of which
/// there are `all`.
fn pick(number: u8, there: Vec<usize>, all: usize) -> Option<usize> {
    match number {
        224.. if all > 0 => Some(usize::from(u8::MAX - number) % all),
        _ if there.is_empty() => None,
        _ => Some(there[usize::from(number) % there.len()]),
    }
}

fn charge(account: &Arc<Account>) -> Option<Vec<Charge>> {
    let region = account.charge(Kind::Regions, 1).ok()?;
    Some(vec![region, account.charge(Kind::ClaimedBytes, SIZE).ok()?])
}

fn span_of(window: &Window) -> Span {
    let shown = || window.shows.iter();
    let first = shown().position(|shows| *shows).expect("never empty");
    let granules = shown().filter(|shows| **shows).count();
    Span::of_window(first as u64 * GRANULE, granules as u64 * GRANULE, SIZE)
        .expect("inside the region")
}

fn can(bits: u8) -> Can {
    Can {
        read: bits & 1 != 0,
        write: bits & 2 != 0,
        share: bits & 4 != 0,
    }
}

fn rights(can: Can) -> Rights {
    let one = |has, right| if has { right } else { Rights::NONE };
    one(can.read, Rights::READ) | one(can.write, Rights::WRITE) | one(can.share, Rights::SHARE)
}

fn access(write: bool) -> Access {
    if write { Access::Write } else { Access::Read }
}

fn end(died: bool) -> End {
    if died { End::Died } else { End::Orderly }
}
