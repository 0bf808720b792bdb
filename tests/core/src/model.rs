//! A model of one region: what the rules say, as simply as it can be said.
//!
//! It is written from the rules and not from the ledger, and for the eye and
//! not for speed. Nothing is ever forgotten, nothing is counted: whatever is
//! asked is answered from the whole history. A window is an array of granules,
//! a lend knows its chain from the owner on, and notes by name which windows it
//! sets aside. A claim knows of each granule whether it pins it and whether a
//! loss is still to be told; what nobody pins stands in a list, oldest first.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::region::{Access, LedgerError, LiveOwner, RESERVATION, WindowEnd};

/// The granules of the model's region.
pub const GRANULES: usize = 4;

/// Rights, one by one.
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

    /// These, and never `share`.
    #[must_use]
    pub fn unshared(self) -> Can {
        Can {
            share: false,
            ..self
        }
    }

    /// Tells whether none of these is missing in `all`.
    #[must_use]
    pub fn within(self, all: Can) -> bool {
        (!self.read || all.read) && (!self.write || all.write) && (!self.share || all.share)
    }

    /// What a window of this kind takes.
    #[must_use]
    pub fn window(access: Access) -> Can {
        Can {
            read: true,
            write: writes(access),
            share: false,
        }
    }
}

/// A handle that somebody got.
#[derive(Clone, Debug)]
pub struct Handle {
    /// Which claim it belongs to.
    pub claim: usize,
    /// Its rights.
    pub can: Can,
    /// The lends that it came by, from the owner's on.
    pub chain: Vec<usize>,
    /// Its claim's first.
    pub first: bool,
    /// Its holder let go of it.
    pub dropped: bool,
}

/// A lend that began.
#[derive(Clone, Debug)]
pub struct Lend {
    /// Which claim is lent.
    pub claim: usize,
    /// The lends from the owner's on, this one last.
    pub chain: Vec<usize>,
    /// The lender's windows, which it sets aside.
    pub aside: Vec<usize>,
    /// Its call ended.
    pub revoked: bool,
}

/// A window, or a guard, that was made.
#[derive(Clone, Debug)]
pub struct Window {
    /// Which claim it belongs to.
    pub claim: usize,
    /// The lends that its handle came by.
    pub chain: Vec<usize>,
    /// The rights of its handle.
    pub can: Can,
    /// Which granules it shows.
    pub shows: Granules,
    /// How it sees.
    pub access: Access,
    /// It is the host program's.
    pub guard: bool,
    /// It is still there.
    pub open: bool,
}

/// Somebody who waited.
#[derive(Clone, Debug)]
pub struct Waiter {
    /// For what.
    pub window: Window,
    /// Whose turn it is.
    pub turn: Turn,
}

/// How far a waiter has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It waits.
    Waiting,
    /// What it waits for is reserved, up to this moment.
    Reserved(Duration),
    /// It did not take it.
    Lapsed,
    /// It is not in the queue any more.
    Left,
}

/// A mark for each granule of the region.
pub type Granules = [bool; GRANULES];

/// What a claim needs, and what it was not told.
#[derive(Clone, Copy, Debug)]
pub struct Pins {
    /// What it pins.
    pub pinned: Granules,
    /// What was purged since the claim was last told of the granule.
    pub untold: Granules,
}

/// Says in which order things happen, over all regions of a host.
pub type Clock = Rc<Cell<u64>>;

/// One region's history. Handles, lends, windows and claims are named by
/// numbers, in the order in which they came to be.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// All handles there ever were.
    pub handles: Vec<Handle>,
    /// All lends there ever were.
    pub lends: Vec<Lend>,
    /// All windows there ever were.
    pub windows: Vec<Window>,
    /// All who ever waited for a window.
    pub waiters: Vec<Waiter>,
    /// Who waits, by number, first come first.
    pub queue: Vec<usize>,
    /// The pins of all claims there ever were.
    pub claims: Vec<Pins>,
    /// What each granule holds: 0 after it was purged, and at first.
    pub bytes: [u64; GRANULES],
    /// What counts against the budget.
    pub committed: Granules,
    /// What is committed and nobody pins, and when the last claim unpinned it;
    /// the least recent first.
    pub idle: Vec<(u64, usize)>,
    /// How many granules were purged.
    pub lost: u64,
    /// Frozen, and then purged.
    pub purged: bool,
    clock: Clock,
    /// Immutable for good.
    pub frozen: bool,
    /// A writer died, and nobody cleared that.
    pub poisoned: bool,
}

impl Model {
    /// A new region, pinned or not, with its creator's handle.
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

    /// Makes a claim, and its first handle. By rule 7, a duplicate has the pins
    /// of its source, and what that was not told.
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

    /// The pins of a handle's claim.
    #[must_use]
    pub fn pins(&self, handle: usize) -> Pins {
        self.claims[self.handles[handle].claim]
    }

    /// The same, to change them.
    pub fn pins_mut(&mut self, handle: usize) -> &mut Pins {
        &mut self.claims[self.handles[handle].claim]
    }

    fn handle(&mut self, handle: Handle) -> usize {
        self.handles.push(handle);
        self.handles.len() - 1
    }

    /// Rule 5: when the call ends, the lent handle is revoked.
    #[must_use]
    pub fn gone(&self, handle: usize) -> bool {
        self.ended(&self.handles[handle].chain)
    }

    fn ended(&self, chain: &[usize]) -> bool {
        chain.last().is_some_and(|lend| self.lends[*lend].revoked)
    }

    /// Rule 6: a claim lives while a handle or a window of it does. A revoked
    /// handle is none.
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

    /// Rule 5: the lender goes on when the lent handle is revoked and what was
    /// made through it is gone, down the whole chain.
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

    /// Rule 2, for one pair: tells whether two windows may not be there
    /// together, set aside or not.
    #[must_use]
    pub fn clash(one: &Window, other: &Window) -> bool {
        let common = (0..GRANULES).any(|at| one.shows[at] && other.shows[at]);
        common && !together(one.access, other.access)
    }

    /// Rule 5: tells whether the window of this number is set aside for those
    /// that come by this chain.
    #[must_use]
    pub fn aside(&self, window: usize, chain: &[usize]) -> bool {
        let mut chain = chain.iter();
        chain.any(|lend| self.lends[*lend].aside.contains(&window))
    }

    /// Rule 2: tells whether a window meets a conflict with any but `own`.
    fn conflicts(&self, window: &Window, own: Option<usize>) -> bool {
        self.against_conflicts(window, own).is_some()
    }

    /// What it is refused for then: live windows in another strand are said first.
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

    /// Reasons against a duplicate.
    #[must_use]
    pub fn against_duplicate(&self, handle: usize, can: Can) -> Vec<LedgerError> {
        if let Some(refusal) = self.nothing_there(handle) {
            return vec![refusal];
        }
        let source = &self.handles[handle];
        let may = source.chain.is_empty() && source.can.share && can.within(source.can);
        unless(may, LedgerError::NotPermitted)
    }

    /// Rule 7: a frozen region that was purged answers nothing else.
    fn nothing_there(&self, handle: usize) -> Option<LedgerError> {
        if self.gone(handle) {
            return Some(LedgerError::Gone);
        }
        self.purged.then_some(LedgerError::Purged)
    }

    /// Reasons against a restricted handle.
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

    /// Reasons against a lend.
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

    /// Begins a lend, which sets aside the windows that the lender has. It gets
    /// no more of them while the lend holds its store, and any that it makes
    /// after that hold ended early is one like everybody's.
    pub fn lend(&mut self, handle: usize, can: Can) -> (usize, usize) {
        let Handle { claim, chain, .. } = self.handles[handle].clone();
        let aside = self.windows_of(claim, &chain);
        let lend = self.lends.len();
        let chain: Vec<usize> = chain.into_iter().chain([lend]).collect();
        self.lends.push(Lend {
            claim,
            chain: chain.clone(),
            aside,
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

    /// The guests' windows of a claim that came by this chain.
    #[must_use]
    pub fn windows_of(&self, claim: usize, chain: &[usize]) -> Vec<usize> {
        let windows = self.windows.iter().enumerate();
        windows
            .filter(|(_, it)| it.open && !it.guard && it.claim == claim && it.chain == chain)
            .map(|(no, _)| no)
            .collect()
    }

    /// Reasons against a move.
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

    /// Reasons against a new window through a handle, of which the handle must
    /// have the rights `needs`; in the order in which they are to be told.
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

    /// A window as this handle would make it.
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

    /// Reasons against other access, in the order in which they are to be told.
    /// Windows that exist stay as they are in a poisoned region.
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

    /// Ends a window that is there.
    pub fn close(&mut self, window: usize, end: WindowEnd) {
        let window = &mut self.windows[window];
        assert!(window.open, "a window ends once");
        window.open = false;
        if writes(window.access) && end == WindowEnd::Died {
            self.poisoned = true;
        }
    }

    /// Reasons against freezing.
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

    /// Reasons against clearing poison.
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
    /// Reasons against waiting for a window: what waiting does not cure.
    #[must_use]
    pub fn against_wait(&self, handle: usize, needs: Can, window: &Window) -> Vec<LedgerError> {
        let mut reasons = self.against_open(handle, needs, window);
        reasons.retain(|it| !matches!(it, LedgerError::WouldBlock | LedgerError::OtherStrand));
        reasons
    }

    /// Somebody waits, and gives up what it waited for before.
    pub fn wait(&mut self, window: Window) -> usize {
        self.leave(|it| it.claim == window.claim && it.chain == window.chain);
        self.waiters.push(Waiter {
            window,
            turn: Turn::Waiting,
        });
        self.queue.push(self.waiters.len() - 1);
        self.waiters.len() - 1
    }

    /// Whoever waits for such a window does not any more.
    pub fn leave(&mut self, which: impl Fn(&Window) -> bool) {
        for no in 0..self.waiters.len() {
            if which(&self.waiters[no].window) {
                self.leaves(no);
            }
        }
    }

    /// One waiter does not wait any more.
    pub fn leaves(&mut self, waiter: usize) {
        self.waiters[waiter].turn = Turn::Left;
        self.queue.retain(|no| *no != waiter);
    }

    /// A window is there: whoever waited for that, or for more, has it.
    pub fn took(&mut self, window: &Window) {
        self.leave(|it| covers(it, window));
    }

    /// A waiter asks; who let its turn go by is the last now.
    pub fn asks(&mut self, waiter: usize) {
        if self.waiters[waiter].turn == Turn::Lapsed {
            self.leaves(waiter);
            self.waiters[waiter].turn = Turn::Waiting;
            self.queue.push(waiter);
        }
    }

    /// Whether a waiter should try.
    #[must_use]
    pub fn ready(&self, waiter: usize) -> bool {
        matches!(self.waiters[waiter].turn, Turn::Reserved(_) | Turn::Left)
    }

    /// The end of the reservation that ends first.
    #[must_use]
    pub fn next_lapse(&self) -> Option<Duration> {
        let mut next = None;
        for waiter in &self.waiters {
            if let Turn::Reserved(until) = waiter.turn {
                next = Some(next.map_or(until, |next: Duration| next.min(until)));
            }
        }
        next
    }

    /// Time passes.
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
        while let Some(until) = self.next_lapse().filter(|until| *until <= now) {
            for waiter in &mut self.waiters {
                if waiter.turn == Turn::Reserved(until) {
                    waiter.turn = Turn::Lapsed;
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
            if self.waiters[no].turn == Turn::Waiting
                && !self.conflicts(&window, None)
                && !self.anybody_before(place, &window)
            {
                self.waiters[no].turn = Turn::Reserved(now + RESERVATION);
            }
        }
    }

    /// Whether somebody in the queue comes before a window that is not there.
    fn behind(&self, window: &Window) -> bool {
        let own = self.queue.iter().position(|no| {
            let it = &self.waiters[*no];
            it.turn != Turn::Lapsed && covers(&it.window, window)
        });
        self.anybody_before(own.unwrap_or(self.queue.len()), window)
    }

    fn anybody_before(&self, own: usize, window: &Window) -> bool {
        (0..self.queue.len()).any(|place| {
            let it = &self.waiters[self.queue[place]];
            let counts = match it.turn {
                Turn::Waiting => place < own && !self.stuck(place, window),
                Turn::Reserved(_) => true,
                Turn::Lapsed | Turn::Left => false,
            };
            counts && it.window.claim != window.claim && Model::clash(&it.window, window)
        })
    }

    /// Whether a waiter cannot go on as long as somebody waits for this window: what
    /// it waits for is set aside for that one, or is what another waits for that cannot
    /// go on. Who waits for a window of its own is in nobody's way in any case.
    fn stuck(&self, place: usize, window: &Window) -> bool {
        let it = &self.waiters[self.queue[place]];
        if it.turn != Turn::Waiting {
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
        if it.turn != Turn::Waiting || self.own(place) {
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

/// Whether one waits for another window, or for more than that.
fn covers(one: &Window, other: &Window) -> bool {
    one.claim == other.claim
        && one.chain == other.chain
        && (0..GRANULES).all(|at| one.shows[at] || !other.shows[at])
        && within(other.access, one.access)
}

/// Rule 2, without the granules.
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

/// Whether who has `more` could have the other: nothing that goes with `more`
/// conflicts with that.
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
    /// Tells whether the claim of a handle pins all of these.
    #[must_use]
    pub fn is_pinned(&self, handle: usize, span: &Granules) -> bool {
        let pinned = self.pins(handle).pinned;
        (0..GRANULES).all(|at| !span[at] || pinned[at])
    }

    /// Tells whether any claim pins a granule.
    #[must_use]
    pub fn needed(&self, granule: usize) -> bool {
        let mut claims = 0..self.claims.len();
        claims.any(|no| self.lives(no) && self.claims[no].pinned[granule])
    }

    /// Reasons against asking what is pinned.
    #[must_use]
    pub fn against_status(&self, handle: usize) -> Vec<LedgerError> {
        self.nothing_there(handle).into_iter().collect()
    }

    /// Reasons against a change of pins: they need no right.
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

    /// Reasons against unpinning, with which the host program's guards are never
    /// hidden.
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

    /// Unpins what the claim pins of a span.
    pub fn unpin(&mut self, handle: usize, span: &Granules) {
        for at in (0..GRANULES).filter(|at| span[*at]) {
            self.pins_mut(handle).pinned[at] = false;
        }
        self.settle();
    }

    /// Pins a span, and tells whether any of it was lost.
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

    /// How many granules of a span have to be paid for.
    #[must_use]
    pub fn unpaid(&self, span: &Granules) -> usize {
        let unpaid = |at: &usize| span[*at] && !self.committed[*at];
        (0..GRANULES).filter(unpaid).count()
    }

    /// Puts what nobody pins any more at the end of the order. Of a region that
    /// nobody claims, nothing is left.
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

    /// When what is to be purged next was unpinned, if there is anything. What is
    /// frozen goes whole, so that its last part counts.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        let whole = self.idle.len() == GRANULES;
        let next = match self.frozen {
            true => self.idle.last().filter(|_| whole),
            false => self.idle.first(),
        };
        next.map(|(when, _)| *when)
    }

    /// How many granules can be purged, but for these.
    #[must_use]
    pub fn purgeable(&self, but: &Granules) -> usize {
        let idle = self.idle.iter().filter(|(_, at)| !but[*at]).count();
        if self.frozen && idle < GRANULES {
            0
        } else {
            idle
        }
    }

    /// Purges what is next, and gives how many granules it was.
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

    /// The fewest and the most runs that the claim could count as unpinned: runs
    /// side by side may be counted one by one.
    #[must_use]
    pub fn runs(&self, claim: usize) -> (u64, u64) {
        runs(&self.claims[claim].pinned)
    }

    /// As [`runs`](Model::runs), if the claim of a handle had pinned or unpinned
    /// a span.
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
