//! A model of one region: the rules of the design, stated as simply as possible.
//!
//! It is written from the rules and not from the ledger, to be read and not to be fast. It
//! forgets nothing and counts nothing: each answer comes from the whole history. A window is an
//! array of granules. A lend has its chain from the owner on, and the list of the windows that
//! it sets aside. A claim notes for each granule whether it pins it and whether a loss is still
//! to be told. Unpinned granules are in a list, the oldest first.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::region::{Access, LedgerError, LiveOwner, RESERVATION, WindowEnd};

/// The granules of the model's region.
pub const GRANULES: usize = 4;

/// Rights as single values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Can {
    /// Read.
    pub read: bool,
    /// Write, freeze, clear poison.
    pub write: bool,
    /// Duplicate, move.
    pub share: bool,
}

impl Can {
    /// All rights.
    pub const ALL: Can = Can {
        read: true,
        write: true,
        share: true,
    };

    /// Returns these rights without `share`.
    #[must_use]
    pub fn unshared(self) -> Can {
        Can {
            share: false,
            ..self
        }
    }

    /// Returns whether `all` has each of these rights.
    #[must_use]
    pub fn within(self, all: Can) -> bool {
        (!self.read || all.read) && (!self.write || all.write) && (!self.share || all.share)
    }

    /// Returns the rights that a window with this access needs.
    #[must_use]
    pub fn window(access: Access) -> Can {
        Can {
            read: true,
            write: writes(access),
            share: false,
        }
    }
}

/// A handle, released or not.
#[derive(Clone, Debug)]
pub struct Handle {
    /// The claim of the handle.
    pub claim: usize,
    /// Its rights.
    pub can: Can,
    /// The lends by which the holder has it, from the owner's on.
    pub chain: Vec<usize>,
    /// Whether it is the first of its claim.
    pub first: bool,
    /// Whether it was released.
    pub dropped: bool,
}

/// A lend, ended or not.
#[derive(Clone, Debug)]
pub struct Lend {
    /// The claim that is lent.
    pub claim: usize,
    /// The lends from the owner's on. This one is the last.
    pub chain: Vec<usize>,
    /// The lender's windows that it sets aside.
    pub aside: Vec<usize>,
    /// Whether a guest made it for another part of itself.
    pub within: bool,
    /// Whether its call ended.
    pub revoked: bool,
}

/// A window or a guard, closed or not.
#[derive(Clone, Debug)]
pub struct Window {
    /// The claim of the window.
    pub claim: usize,
    /// The lends by which the holder has the handle.
    pub chain: Vec<usize>,
    /// The rights of its handle.
    pub can: Can,
    /// The granules that it shows.
    pub shows: Granules,
    /// Its access.
    pub access: Access,
    /// Whether it is a guard of the host program.
    pub guard: bool,
    /// Whether it is open.
    pub open: bool,
}

/// A waiter, in the queue or not.
#[derive(Clone, Debug)]
pub struct Waiter {
    /// The window for which it waits.
    pub window: Window,
    /// Its state.
    pub state: WaiterState,
}

/// The state of a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaiterState {
    /// It waits.
    Waiting,
    /// Its window is reserved until this moment.
    Reserved(Duration),
    /// Its reservation expired.
    Expired,
    /// It has left the queue.
    Left,
}

/// A flag for each granule of the region.
pub type Granules = [bool; GRANULES];

/// The pins of a claim, and the losses that it was not told of.
#[derive(Clone, Copy, Debug)]
pub struct Pins {
    /// The granules that it pins.
    pub pinned: Granules,
    /// The granules that were purged since the claim was last told of them.
    pub untold: Granules,
}

/// The order in which events happen, over all regions of a host.
pub type Clock = Rc<Cell<u64>>;

/// The history of one region. Handles, lends, windows and claims are numbered in the order of
/// their creation.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// All handles that were ever made.
    pub handles: Vec<Handle>,
    /// All lends that were ever made.
    pub lends: Vec<Lend>,
    /// All windows that were ever opened.
    pub windows: Vec<Window>,
    /// All waiters that there ever were.
    pub waiters: Vec<Waiter>,
    /// The waiters in the queue, in its order.
    pub queue: Vec<usize>,
    /// The pins of all claims that were ever made.
    pub claims: Vec<Pins>,
    /// The contents of each granule: 0 at first and after it was purged.
    pub bytes: [u64; GRANULES],
    /// The granules that count against the budget.
    pub committed: Granules,
    /// The committed granules that nobody pins, with the time of the last unpinning, the least
    /// recent first.
    pub idle: Vec<(u64, usize)>,
    /// The number of granules that were purged.
    pub lost: u64,
    /// Whether the region was frozen and then purged.
    pub purged: bool,
    clock: Clock,
    /// Whether the region is frozen.
    pub frozen: bool,
    /// Whether the region is poisoned.
    pub poisoned: bool,
}

impl Model {
    /// Creates a region, pinned or not, with its creator's handle.
    #[must_use]
    pub fn new(pinned: bool, clock: &Clock) -> Model {
        let mut model = Model {
            committed: [pinned; GRANULES],
            clock: clock.clone(),
            ..Model::default()
        };
        let pins = Pins {
            pinned: [pinned; GRANULES],
            untold: [false; GRANULES],
        };
        model.claim(Can::ALL, pins);
        model
    }

    /// Makes a claim and its first handle. By rule 7, a duplicate has the pins of its source,
    /// and the losses that its source was not told of.
    pub fn claim(&mut self, can: Can, pins: Pins) -> usize {
        self.claims.push(pins);
        self.handle(Handle {
            claim: self.claims.len() - 1,
            can,
            chain: Vec::new(),
            first: true,
            dropped: false,
        })
    }

    /// Returns the pins of a handle's claim.
    #[must_use]
    pub fn pins(&self, handle: usize) -> Pins {
        self.claims[self.handles[handle].claim]
    }

    /// Returns the pins of a handle's claim, to change them.
    pub fn pins_mut(&mut self, handle: usize) -> &mut Pins {
        &mut self.claims[self.handles[handle].claim]
    }

    fn handle(&mut self, handle: Handle) -> usize {
        self.handles.push(handle);
        self.handles.len() - 1
    }

    /// Returns whether a lent handle is revoked. Rule 5: it is when the call ends.
    #[must_use]
    pub fn gone(&self, handle: usize) -> bool {
        self.ended(&self.handles[handle].chain)
    }

    fn ended(&self, chain: &[usize]) -> bool {
        chain.last().is_some_and(|lend| self.lends[*lend].revoked)
    }

    /// Returns whether a claim lives. Rule 6: it lives while a handle or a window of it does. A
    /// revoked handle does not count.
    #[must_use]
    pub fn lives(&self, claim: usize) -> bool {
        let mut windows = self.windows.iter();
        self.live_handles(claim) > 0 || windows.any(|it| it.open && it.claim == claim)
    }

    fn live_handles(&self, claim: usize) -> usize {
        (0..self.handles.len())
            .filter(|no| self.handles[*no].claim == claim)
            .filter(|no| !self.handles[*no].dropped && !self.gone(*no))
            .count()
    }

    /// Returns whether a lend is over. Rule 5: the lender goes on when the lent handle is
    /// revoked and the windows made through it are closed, down the whole chain.
    #[must_use]
    pub fn over(&self, lend: usize) -> bool {
        let mut windows = self.windows.iter();
        let mut lends = self.lends.iter().enumerate();
        self.lends[lend].revoked
            && !windows.any(|it| it.open && it.chain.last() == Some(&lend))
            && lends.all(|(no, it)| no == lend || !it.chain.contains(&lend) || self.over(no))
    }

    fn lent(&self, claim: usize) -> bool {
        (0..self.lends.len()).any(|no| self.lends[no].claim == claim && !self.over(no))
    }

    fn guarded(&self, claim: usize) -> bool {
        let mut windows = self.windows.iter();
        windows.any(|it| it.open && it.guard && it.claim == claim)
    }

    /// Returns whether two windows conflict by rule 2, set aside or not.
    #[must_use]
    pub fn clash(one: &Window, other: &Window) -> bool {
        let common = (0..GRANULES).any(|at| one.shows[at] && other.shows[at]);
        common && !together(one.access, other.access)
    }

    /// Returns whether a window is set aside for holders by this chain, by rule 5.
    #[must_use]
    pub fn aside(&self, window: usize, chain: &[usize]) -> bool {
        let mut chain = chain.iter();
        chain.any(|lend| self.lends[*lend].aside.contains(&window))
    }

    /// Returns whether a window conflicts with any but `own`, by rule 2.
    fn conflicts(&self, window: &Window, own: Option<usize>) -> bool {
        self.against_conflicts(window, own).is_some()
    }

    /// Returns the reason for which it is refused then. Live windows in another strand come
    /// first.
    fn against_conflicts(&self, window: &Window, own: Option<usize>) -> Option<LedgerError> {
        let others = self.windows.iter().enumerate();
        let conflicts = others.filter(|(no, other)| {
            Some(*no) != own
                && other.open
                && Model::clash(window, other)
                && !self.aside(*no, &window.chain)
        });
        let conflicts = conflicts.map(|(_, other)| match (live(window), live(other)) {
            (Some(one), Some(other)) if one.strand != other.strand => LedgerError::OtherStrand,
            _ => LedgerError::WouldBlock,
        });
        let conflicts = conflicts.collect::<Vec<_>>();
        let apart = conflicts.iter().find(|it| **it == LedgerError::OtherStrand);
        apart.or(conflicts.first()).copied()
    }

    /// Returns the reasons against a duplicate.
    #[must_use]
    pub fn against_duplicate(&self, handle: usize, can: Can) -> Vec<LedgerError> {
        if let Some(refusal) = self.nothing_there(handle) {
            return vec![refusal];
        }
        let source = &self.handles[handle];
        let may = source.chain.is_empty() && source.can.share && can.within(source.can);
        unless(may, LedgerError::NotPermitted)
    }

    /// Returns the reason against operations that need bytes, if there is one. Rule 7: a frozen
    /// region that was purged answers `purged`.
    fn nothing_there(&self, handle: usize) -> Option<LedgerError> {
        if self.gone(handle) {
            return Some(LedgerError::Gone);
        }
        self.purged.then_some(LedgerError::Purged)
    }

    /// Returns the reasons against a restricted handle.
    #[must_use]
    pub fn against_restrict(&self, handle: usize, can: Can) -> Vec<LedgerError> {
        if let Some(refusal) = self.nothing_there(handle) {
            return vec![refusal];
        }
        self.against_weaker(handle, can)
    }

    fn against_weaker(&self, handle: usize, can: Can) -> Vec<LedgerError> {
        let may = can.unshared().within(self.handles[handle].can);
        unless(may, LedgerError::NotPermitted)
    }

    /// Makes a restricted handle.
    pub fn restrict(&mut self, handle: usize, can: Can) -> usize {
        self.handle(Handle {
            can: can.unshared(),
            first: false,
            dropped: false,
            ..self.handles[handle].clone()
        })
    }

    /// Returns the reasons against a lend.
    #[must_use]
    pub fn against_lend(&self, handle: usize, can: Can) -> Vec<LedgerError> {
        if let Some(refusal) = self.nothing_there(handle) {
            return vec![refusal];
        }
        let mut reasons = self.against_weaker(handle, can);
        if self.guarded(self.handles[handle].claim) {
            reasons.push(LedgerError::WouldBlock);
        }
        reasons
    }

    /// Begins a lend, which sets aside the windows that the lender has. The lender opens no more
    /// while the lend holds its store. If that hold ends early, windows that it opens conflict
    /// as all others do. A lend `within` a guest holds nothing, so the same is true of it.
    pub fn lend(&mut self, handle: usize, can: Can, within: bool) -> (usize, usize) {
        let Handle { claim, chain, .. } = self.handles[handle].clone();
        let aside = self.windows_of(claim, &chain);
        let lend = self.lends.len();
        let chain: Vec<usize> = chain.into_iter().chain([lend]).collect();
        self.lends.push(Lend {
            claim,
            chain: chain.clone(),
            aside,
            within,
            revoked: false,
        });
        let lent = self.handle(Handle {
            claim,
            can: can.unshared(),
            chain,
            first: false,
            dropped: false,
        });
        (lend, lent)
    }

    /// Returns the lends within a guest that were made from a lend, and from those. Rule 5: they
    /// end with it.
    #[must_use]
    pub fn lends_within(&self, lend: usize) -> Vec<usize> {
        let lends = 0..self.lends.len();
        lends
            .filter(|no| {
                let chain = &self.lends[*no].chain;
                let from = chain.iter().skip_while(|it| **it != lend);
                let mut from = from.skip(1).peekable();
                from.peek().is_some() && from.all(|it| self.lends[*it].within)
            })
            .collect()
    }

    /// Revokes a lend, and the lends within the borrower that were made from it.
    pub fn revoke(&mut self, lend: usize) {
        for no in self.lends_within(lend) {
            self.lends[no].revoked = true;
        }
        self.lends[lend].revoked = true;
    }

    /// Returns the guests' windows of a claim by this chain.
    #[must_use]
    pub fn windows_of(&self, claim: usize, chain: &[usize]) -> Vec<usize> {
        let windows = self.windows.iter().enumerate();
        windows
            .filter(|(_, it)| it.open && !it.guard && it.claim == claim && it.chain == chain)
            .map(|(no, _)| no)
            .collect()
    }

    /// Returns the reasons against a move.
    #[must_use]
    pub fn against_move(&self, handle: usize) -> Vec<LedgerError> {
        if let Some(refusal) = self.nothing_there(handle) {
            return vec![refusal];
        }
        let source = &self.handles[handle];
        let alone = source.first && self.live_handles(source.claim) == 1;
        let lent = self.lent(source.claim);
        let mut reasons = Vec::new();
        if !source.chain.is_empty() || !source.can.share || !alone && !lent {
            reasons.push(LedgerError::NotPermitted);
        }
        if lent || self.guarded(source.claim) {
            reasons.push(LedgerError::WouldBlock);
        }
        reasons
    }

    /// Returns the reasons against a new window through a handle, which must have the rights
    /// `needs`, in their order.
    #[must_use]
    pub fn against_open(&self, handle: usize, needs: Can, window: &Window) -> Vec<LedgerError> {
        if let Some(refusal) = self.nothing_there(handle) {
            return vec![refusal];
        }
        let mut reasons = unless(
            needs.within(self.handles[handle].can),
            LedgerError::NotPermitted,
        );
        if self.frozen && window.access != Access::Read {
            reasons.push(LedgerError::Frozen);
        }
        if self.poisoned {
            reasons.push(LedgerError::Poisoned);
        }
        if !self.is_pinned(handle, &window.shows) {
            reasons.push(LedgerError::Unpinned);
        }
        let behind = || self.behind(window).then_some(LedgerError::WouldBlock);
        reasons.extend(self.against_conflicts(window, None).or_else(behind));
        reasons
    }

    /// Returns a window as this handle would make it.
    #[must_use]
    pub fn window(&self, handle: usize, shows: Granules, access: Access, guard: bool) -> Window {
        let Handle {
            claim, chain, can, ..
        } = self.handles[handle].clone();
        Window {
            claim,
            chain,
            can,
            shows,
            access,
            guard,
            open: true,
        }
    }

    /// Returns the reasons against another access, in their order. Poison does not affect open
    /// windows.
    #[must_use]
    pub fn against_access(&self, window: usize, access: Access) -> Vec<LedgerError> {
        let before = &self.windows[window];
        if !before.open || self.ended(&before.chain) {
            return vec![LedgerError::Gone];
        }
        if self.purged {
            return vec![LedgerError::Purged];
        }
        let mut reasons = unless(
            Can::window(access).within(before.can),
            LedgerError::NotPermitted,
        );
        if self.frozen && access != Access::Read {
            reasons.push(LedgerError::Frozen);
        }
        let after = Window {
            access,
            ..before.clone()
        };
        let more = !within(access, before.access);
        let behind = || (more && self.behind(&after)).then_some(LedgerError::WouldBlock);
        let conflict = self.against_conflicts(&after, Some(window));
        reasons.extend(conflict.or_else(behind));
        reasons
    }

    /// Closes an open window.
    pub fn close(&mut self, window: usize, end: WindowEnd) {
        let window = &mut self.windows[window];
        assert!(window.open, "a window ends once");
        window.open = false;
        if writes(window.access) && end == WindowEnd::Died {
            self.poisoned = true;
        }
    }

    /// Returns the reasons against freezing.
    #[must_use]
    pub fn against_freeze(&self, handle: usize) -> Vec<LedgerError> {
        if let Some(refusal) = self.nothing_there(handle) {
            return vec![refusal];
        }
        let source = &self.handles[handle];
        let mut reasons = unless(
            source.chain.is_empty() && source.can.write,
            LedgerError::NotPermitted,
        );
        if self.frozen {
            return reasons;
        }
        if self.poisoned {
            reasons.push(LedgerError::Poisoned);
        }
        if !self.is_pinned(handle, &[true; GRANULES]) {
            reasons.push(LedgerError::Unpinned);
        }
        let mut windows = self.windows.iter();
        if windows.any(|it| it.open && it.access != Access::Read) {
            reasons.push(LedgerError::WouldBlock);
        }
        reasons
    }

    /// Returns the reasons against clearing poison.
    #[must_use]
    pub fn against_clear(&self, handle: usize) -> Vec<LedgerError> {
        if let Some(refusal) = self.nothing_there(handle) {
            return vec![refusal];
        }
        unless(self.handles[handle].can.write, LedgerError::NotPermitted)
    }
}

/// Waiting: rule 11.
impl Model {
    /// Returns the reasons against waiting for a window.
    #[must_use]
    pub fn against_wait(&self, handle: usize, needs: Can, window: &Window) -> Vec<LedgerError> {
        let mut reasons = self.against_open(handle, needs, window);
        reasons.retain(|it| !matches!(it, LedgerError::WouldBlock | LedgerError::OtherStrand));
        reasons
    }

    /// Makes a holder wait. It gives up the window for which it waited before.
    pub fn wait(&mut self, window: Window) -> usize {
        self.leave(|it| it.claim == window.claim && it.chain == window.chain);
        self.waiters.push(Waiter {
            window,
            state: WaiterState::Waiting,
        });
        self.queue.push(self.waiters.len() - 1);
        self.waiters.len() - 1
    }

    /// Removes the waiters for matching windows from the queue.
    pub fn leave(&mut self, which: impl Fn(&Window) -> bool) {
        for no in 0..self.waiters.len() {
            if which(&self.waiters[no].window) {
                self.leaves(no);
            }
        }
    }

    /// Removes a waiter from the queue.
    pub fn leaves(&mut self, waiter: usize) {
        self.waiters[waiter].state = WaiterState::Left;
        self.queue.retain(|no| *no != waiter);
    }

    /// Removes the waiter that waited for this window, or for more.
    pub fn took(&mut self, window: &Window) {
        self.leave(|it| covers(it, window));
    }

    /// Polls a waiter. An expired one becomes the last.
    pub fn asks(&mut self, waiter: usize) {
        if self.waiters[waiter].state == WaiterState::Expired {
            self.leaves(waiter);
            self.waiters[waiter].state = WaiterState::Waiting;
            self.queue.push(waiter);
        }
    }

    /// Returns whether a waiter is ready.
    #[must_use]
    pub fn ready(&self, waiter: usize) -> bool {
        matches!(
            self.waiters[waiter].state,
            WaiterState::Reserved(_) | WaiterState::Left
        )
    }

    /// Returns when the next reservation expires.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Duration> {
        let mut next = None;
        for waiter in &self.waiters {
            if let WaiterState::Reserved(until) = waiter.state {
                next = Some(next.map_or(until, |next: Duration| next.min(until)));
            }
        }
        next
    }

    /// Advances the time.
    pub fn pass(&mut self, now: Duration) {
        for no in self.queue.clone() {
            let it = &self.waiters[no].window;
            let handed = self.purged
                || self.poisoned
                || self.frozen && it.access != Access::Read
                || !self.lives(it.claim)
                || self.ended(&it.chain)
                || (0..GRANULES).any(|at| it.shows[at] && !self.claims[it.claim].pinned[at]);
            if handed {
                self.leaves(no);
            }
        }
        while let Some(until) = self.next_expiry().filter(|until| *until <= now) {
            for waiter in &mut self.waiters {
                if waiter.state == WaiterState::Reserved(until) {
                    waiter.state = WaiterState::Expired;
                }
            }
            self.reserve(until);
        }
        self.reserve(now);
    }

    fn reserve(&mut self, now: Duration) {
        for place in 0..self.queue.len() {
            let no = self.queue[place];
            let window = self.waiters[no].window.clone();
            if self.waiters[no].state == WaiterState::Waiting
                && !self.conflicts(&window, None)
                && !self.anybody_before(place, &window)
            {
                self.waiters[no].state = WaiterState::Reserved(now + RESERVATION);
            }
        }
    }

    /// Returns whether a waiter in the queue comes before a new window.
    fn behind(&self, window: &Window) -> bool {
        let own = self.queue.iter().position(|no| {
            let it = &self.waiters[*no];
            it.state != WaiterState::Expired && covers(&it.window, window)
        });
        self.anybody_before(own.unwrap_or(self.queue.len()), window)
    }

    fn anybody_before(&self, own: usize, window: &Window) -> bool {
        (0..self.queue.len()).any(|place| {
            let it = &self.waiters[self.queue[place]];
            let counts = match it.state {
                WaiterState::Waiting => place < own && !self.stuck(place, window),
                WaiterState::Reserved(_) => true,
                WaiterState::Expired | WaiterState::Left => false,
            };
            counts && it.window.claim != window.claim && Model::clash(&it.window, window)
        })
    }

    /// Returns whether a waiter cannot go on while this window is waited for. Then its window is
    /// set aside for that one, or conflicts with another waiter that cannot go on. A waiter for
    /// a window of its own blocks nobody in any case.
    fn stuck(&self, place: usize, window: &Window) -> bool {
        let it = &self.waiters[self.queue[place]];
        if it.state != WaiterState::Waiting {
            return false;
        }
        self.own(place) || self.behind_lender(place, window)
    }

    fn own(&self, place: usize) -> bool {
        let it = &self.waiters[self.queue[place]].window;
        let mut windows = self.windows.iter().enumerate();
        windows.any(|(no, other)| {
            let own = other.claim == it.claim && !self.aside(no, &it.chain);
            other.open && own && Model::clash(it, other)
        })
    }

    fn behind_lender(&self, place: usize, window: &Window) -> bool {
        let it = &self.waiters[self.queue[place]];
        if it.state != WaiterState::Waiting || self.own(place) {
            return false;
        }
        let mut windows = self.windows.iter().enumerate();
        let by_window = windows.any(|(no, other)| {
            let aside = other.claim == window.claim && self.aside(no, &window.chain);
            other.open && aside && Model::clash(&it.window, other)
        });
        let mut earlier = 0..place;
        by_window
            || earlier.any(|place| {
                let first = &self.waiters[self.queue[place]].window;
                first.claim != it.window.claim
                    && first.claim != window.claim
                    && Model::clash(first, &it.window)
                    && self.behind_lender(place, window)
            })
    }
}

/// Returns whether one window is another, or more than that.
fn covers(one: &Window, other: &Window) -> bool {
    one.claim == other.claim
        && one.chain == other.chain
        && (0..GRANULES).all(|at| one.shows[at] || !other.shows[at])
        && within(other.access, one.access)
}

/// Returns whether two accesses are compatible by rule 2.
fn together(one: Access, other: Access) -> bool {
    use Access::{LiveRead, LiveWrite, Read};
    match (one, other) {
        (Read, Read) => true,
        (LiveRead(one) | LiveWrite(one), LiveRead(other) | LiveWrite(other)) => {
            one.strand == other.strand && one.store != other.store
        }
        _ => false,
    }
}

/// Returns whether nothing that is compatible with `more` conflicts with the other access.
fn within(access: Access, more: Access) -> bool {
    match (access, more) {
        (_, Access::Write) | (Access::Read, Access::Read) => true,
        (Access::LiveRead(one), Access::LiveRead(other) | Access::LiveWrite(other))
        | (Access::LiveWrite(one), Access::LiveRead(other) | Access::LiveWrite(other)) => {
            one == other
        }
        _ => false,
    }
}

fn writes(access: Access) -> bool {
    matches!(access, Access::Write | Access::LiveWrite(_))
}

fn live(window: &Window) -> Option<LiveOwner> {
    match window.access {
        Access::LiveRead(live) | Access::LiveWrite(live) => Some(live),
        Access::Read | Access::Write => None,
    }
}

/// Pins: rules 5, 7 and 8.
impl Model {
    /// Returns whether the claim of a handle pins all of these.
    #[must_use]
    pub fn is_pinned(&self, handle: usize, span: &Granules) -> bool {
        let pinned = self.pins(handle).pinned;
        (0..GRANULES).all(|at| !span[at] || pinned[at])
    }

    /// Returns whether any claim pins a granule.
    #[must_use]
    pub fn needed(&self, granule: usize) -> bool {
        let mut claims = 0..self.claims.len();
        claims.any(|no| self.lives(no) && self.claims[no].pinned[granule])
    }

    /// Returns the reasons against asking for pins.
    #[must_use]
    pub fn against_status(&self, handle: usize) -> Vec<LedgerError> {
        self.nothing_there(handle).into_iter().collect()
    }

    /// Returns the reasons against a change of pins, which needs no right.
    #[must_use]
    pub fn against_pin(&self, handle: usize) -> Vec<LedgerError> {
        if let Some(refusal) = self.nothing_there(handle) {
            return vec![refusal];
        }
        let source = &self.handles[handle];
        let mut reasons = unless(source.chain.is_empty(), LedgerError::NotPermitted);
        if self.lent(source.claim) {
            reasons.push(LedgerError::WouldBlock);
        }
        reasons
    }

    /// Returns the reasons against unpinning. It never hides guards of the host program.
    #[must_use]
    pub fn against_unpin(&self, handle: usize, span: &Granules) -> Vec<LedgerError> {
        let mut reasons = self.against_pin(handle);
        let claim = self.handles[handle].claim;
        let mut windows = self.windows.iter();
        let hides = |it: &Window| (0..GRANULES).any(|at| it.shows[at] && span[at]);
        if self.nothing_there(handle).is_none()
            && windows.any(|it| it.open && it.guard && it.claim == claim && hides(it))
        {
            reasons.push(LedgerError::WouldBlock);
        }
        reasons
    }

    /// Unpins the granules of a span that the claim pins.
    pub fn unpin(&mut self, handle: usize, span: &Granules) {
        for at in (0..GRANULES).filter(|at| span[*at]) {
            self.pins_mut(handle).pinned[at] = false;
        }
        self.settle();
    }

    /// Pins a span and returns whether any of it was lost.
    pub fn pin(&mut self, handle: usize, span: &Granules) -> bool {
        let mut lost = false;
        for at in (0..GRANULES).filter(|at| span[*at]) {
            let pins = self.pins_mut(handle);
            lost |= std::mem::take(&mut pins.untold[at]);
            pins.pinned[at] = true;
            self.committed[at] = true;
            self.idle.retain(|(_, idle)| *idle != at);
        }
        lost
    }

    /// Returns how many granules of a span must be paid for.
    #[must_use]
    pub fn unpaid(&self, span: &Granules) -> usize {
        let unpaid = |at: &usize| span[*at] && !self.committed[*at];
        (0..GRANULES).filter(unpaid).count()
    }

    /// Puts granules that nobody pins any more at the end of the order. A region without claims
    /// keeps none.
    pub fn settle(&mut self) {
        if !(0..self.claims.len()).any(|claim| self.lives(claim)) {
            self.committed = [false; GRANULES];
            self.idle.clear();
        }
        for at in 0..GRANULES {
            let idle = self.idle.iter().any(|(_, idle)| *idle == at);
            if self.committed[at] && !idle && !self.needed(at) {
                self.clock.set(self.clock.get() + 1);
                self.idle.push((self.clock.get(), at));
            }
        }
    }

    /// Returns when the granule that is purged next was unpinned, if there is any. A frozen
    /// region is purged whole, so its last part counts.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        let whole = self.idle.len() == GRANULES;
        let next = match self.frozen {
            true => self.idle.last().filter(|_| whole),
            false => self.idle.first(),
        };
        next.map(|(when, _)| *when)
    }

    /// Returns how many granules can be purged, except for these.
    #[must_use]
    pub fn purgeable(&self, but: &Granules) -> usize {
        let idle = self.idle.iter().filter(|(_, at)| !but[*at]).count();
        if self.frozen && idle < GRANULES {
            0
        } else {
            idle
        }
    }

    /// Purges the next granules and returns how many.
    pub fn purge(&mut self) -> usize {
        let count = if self.frozen { GRANULES } else { 1 };
        for (_, at) in self.idle.drain(..count).collect::<Vec<_>>() {
            assert!(!self.needed(at), "what somebody pins is never purged");
            self.committed[at] = false;
            self.bytes[at] = 0;
            self.lost += 1;
            for claim in &mut self.claims {
                claim.untold[at] = true;
            }
        }
        self.purged |= self.frozen;
        count
    }

    /// Returns the minimum and maximum number of unpinned runs of the claim. Runs side by side
    /// may count one by one.
    #[must_use]
    pub fn runs(&self, claim: usize) -> (u64, u64) {
        runs(&self.claims[claim].pinned)
    }

    /// Returns the [runs](Model::runs) as if the claim of a handle had pinned or unpinned a
    /// span.
    #[must_use]
    pub fn runs_with(&self, handle: usize, span: &Granules, pin: bool) -> (u64, u64) {
        let mut pinned = self.pins(handle).pinned;
        for at in (0..GRANULES).filter(|at| span[*at]) {
            pinned[at] = pin;
        }
        runs(&pinned)
    }
}

fn runs(pinned: &Granules) -> (u64, u64) {
    let unpinned = || (0..GRANULES).filter(|at| !pinned[*at]);
    let begins = unpinned().filter(|at| *at == 0 || pinned[at - 1]);
    (begins.count() as u64, unpinned().count() as u64)
}

fn unless(may: bool, refusal: LedgerError) -> Vec<LedgerError> {
    if may { Vec::new() } else { vec![refusal] }
}
