//! A model of one region: what the rules say, as simply as it can be said.
//!
//! It is written from the rules and not from the ledger, and for the eye and
//! not for speed. Nothing is ever forgotten, nothing is counted: whatever is
//! asked is answered from the whole history. A window is an array of granules,
//! a lend knows its chain from the owner on, and notes by name which windows it
//! sets aside.

use crate::region::{Access, End, Refusal};

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
            write: access == Access::Write,
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
    pub shows: [bool; GRANULES],
    /// How it sees.
    pub access: Access,
    /// It is the host program's.
    pub guard: bool,
    /// It is still there.
    pub open: bool,
}

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
    /// How many claims there ever were.
    pub claims: usize,
    /// Immutable for good.
    pub frozen: bool,
    /// A writer died, and nobody cleared that.
    pub poisoned: bool,
}

impl Model {
    /// A new region, with its creator's handle.
    #[must_use]
    pub fn new() -> Model {
        let mut model = Model::default();
        model.claim(Can::ALL);
        model
    }

    /// Makes a claim, and its first handle.
    pub fn claim(&mut self, can: Can) -> usize {
        self.claims += 1;
        self.handle(Handle {
            claim: self.claims - 1,
            can,
            chain: Vec::new(),
            first: true,
            dropped: false,
        })
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
        common && (one.access == Access::Write || other.access == Access::Write)
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
        let mut others = self.windows.iter().enumerate();
        others.any(|(no, other)| {
            Some(no) != own
                && other.open
                && Model::clash(window, other)
                && !self.aside(no, &window.chain)
        })
    }

    /// Reasons against a duplicate.
    #[must_use]
    pub fn against_duplicate(&self, handle: usize, can: Can) -> Vec<Refusal> {
        if self.gone(handle) {
            return vec![Refusal::Gone];
        }
        let source = &self.handles[handle];
        let may = source.chain.is_empty() && source.can.share && can.within(source.can);
        unless(may, Refusal::NotPermitted)
    }

    /// Reasons against a restricted handle.
    #[must_use]
    pub fn against_restrict(&self, handle: usize, can: Can) -> Vec<Refusal> {
        if self.gone(handle) {
            return vec![Refusal::Gone];
        }
        let may = can.unshared().within(self.handles[handle].can);
        unless(may, Refusal::NotPermitted)
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
    pub fn against_lend(&self, handle: usize, can: Can) -> Vec<Refusal> {
        let mut reasons = self.against_restrict(handle, can);
        if !self.gone(handle) && self.guarded(self.handles[handle].claim) {
            reasons.push(Refusal::WouldBlock);
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
    pub fn against_move(&self, handle: usize) -> Vec<Refusal> {
        if self.gone(handle) {
            return vec![Refusal::Gone];
        }
        let source = &self.handles[handle];
        let alone = source.first && self.live_handles(source.claim) == 1;
        let lent = self.lent(source.claim);
        let mut reasons = Vec::new();
        if !source.chain.is_empty() || !source.can.share || !alone && !lent {
            reasons.push(Refusal::NotPermitted);
        }
        if lent || self.guarded(source.claim) {
            reasons.push(Refusal::WouldBlock);
        }
        reasons
    }

    /// Reasons against a new window through a handle, of which the handle must
    /// have the rights `needs`; in the order in which they are to be told.
    #[must_use]
    pub fn against_open(&self, handle: usize, needs: Can, window: &Window) -> Vec<Refusal> {
        if self.gone(handle) {
            return vec![Refusal::Gone];
        }
        let mut reasons = unless(
            needs.within(self.handles[handle].can),
            Refusal::NotPermitted,
        );
        if self.frozen && window.access == Access::Write {
            reasons.push(Refusal::Frozen);
        }
        if self.poisoned {
            reasons.push(Refusal::Poisoned);
        }
        if self.conflicts(window, None) {
            reasons.push(Refusal::WouldBlock);
        }
        reasons
    }

    /// A window as this handle would make it.
    #[must_use]
    pub fn window(
        &self,
        handle: usize,
        shows: [bool; GRANULES],
        access: Access,
        guard: bool,
    ) -> Window {
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
    pub fn against_access(&self, window: usize, access: Access) -> Vec<Refusal> {
        let before = &self.windows[window];
        if !before.open || self.ended(&before.chain) {
            return vec![Refusal::Gone];
        }
        let mut reasons = unless(
            Can::window(access).within(before.can),
            Refusal::NotPermitted,
        );
        if self.frozen && access == Access::Write {
            reasons.push(Refusal::Frozen);
        }
        let after = Window {
            access,
            ..before.clone()
        };
        if self.conflicts(&after, Some(window)) {
            reasons.push(Refusal::WouldBlock);
        }
        reasons
    }

    /// Ends a window that is there.
    pub fn close(&mut self, window: usize, end: End) {
        let window = &mut self.windows[window];
        assert!(window.open, "a window ends once");
        window.open = false;
        if window.access == Access::Write && end == End::Died {
            self.poisoned = true;
        }
    }

    /// Reasons against freezing.
    #[must_use]
    pub fn against_freeze(&self, handle: usize) -> Vec<Refusal> {
        if self.gone(handle) {
            return vec![Refusal::Gone];
        }
        let source = &self.handles[handle];
        let mut reasons = unless(
            source.chain.is_empty() && source.can.write,
            Refusal::NotPermitted,
        );
        if self.frozen {
            return reasons;
        }
        if self.poisoned {
            reasons.push(Refusal::Poisoned);
        }
        let mut windows = self.windows.iter();
        if windows.any(|it| it.open && it.access == Access::Write) {
            reasons.push(Refusal::WouldBlock);
        }
        reasons
    }

    /// Reasons against clearing poison.
    #[must_use]
    pub fn against_clear(&self, handle: usize) -> Vec<Refusal> {
        if self.gone(handle) {
            return vec![Refusal::Gone];
        }
        unless(self.handles[handle].can.write, Refusal::NotPermitted)
    }
}

fn unless(may: bool, refusal: Refusal) -> Vec<Refusal> {
    if may { Vec::new() } else { vec![refusal] }
}
