//! Several holders of two regions within one budget, acting on the ledgers and
//! on their models alike.
//!
//! Every step is a question to both; after it, everything that can be seen of
//! the ledgers and the budget is compared with the models, and the rules that
//! the models do not state themselves are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::model::{Can, Clock, GRANULES, Granules, Model, Turn as Waits};
use crate::region::{
    Access, Account, Budget, Charge, ChargeKind, ClaimId, CommitCharge, GRANULE, Handle, Holder,
    Ledger, LedgerError, LedgerGuard, LedgerLock, LendId, LiveOwner, PinError, Pinned,
    PurgeRequest, Purgeable, Quota, Rights, Span, WaitStatus, WaiterId, WindowEnd, WindowId,
};

/// How many regions there are.
const REGIONS: usize = 2;
/// How many holders each of them has.
const HOLDERS: usize = 4;
/// What the regions may commit at first: too little for both of them.
const BUDGET: usize = 6;
/// The region's size: its last granule is not whole.
const SIZE: u64 = (GRANULES as u64 - 1) * GRANULE + 1;
/// The most claims that a holder may have, so that some are refused.
const CLAIMS: u64 = 2;
/// The most runs that its claims may leave unpinned, so that some are refused.
const SPANS: u64 = 2;

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
        access: u8,
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
        access: u8,
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
    Pin {
        handle: u8,
        first: u8,
        length: u8,
        /// Something else failed, and the pin is taken back.
        undo: bool,
    },
    Unpin {
        handle: u8,
        first: u8,
        length: u8,
        undo: bool,
    },
    IsPinned {
        handle: u8,
        first: u8,
        length: u8,
    },
    /// Somebody writes into what its claim pins.
    Write {
        handle: u8,
        granule: u8,
    },
    /// Memory is needed elsewhere.
    Purge {
        granules: u8,
    },
    SetBudget {
        granules: u8,
    },
    /// Somebody waits for a window.
    Wait {
        handle: u8,
        first: u8,
        length: u8,
        access: u8,
    },
    /// It asks whether it is its turn.
    Ask {
        waiter: u8,
    },
    /// It does not want it any more.
    Forget {
        waiter: u8,
    },
    /// Time passes.
    Pass {
        millis: u8,
    },
    /// A guest ends, with all that it has.
    End {
        holder: u8,
        died: bool,
    },
}

/// What is done, and with which region.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Step {
    /// Chooses the region; nothing to those that are about all of them.
    pub region: u8,
    /// What is done.
    pub op: Op,
}

/// How often each kind of step came to each outcome.
pub type Seen = BTreeMap<(&'static str, String), u64>;

/// A region as the layer above has it: its ledger, and memory, of which one
/// number stands for each granule.
struct Region {
    lock: LedgerLock<usize>,
    bytes: Mutex<[u64; GRANULES]>,
}

impl Region {
    fn bytes(&self) -> MutexGuard<'_, [u64; GRANULES]> {
        self.bytes.lock().expect("no other thread")
    }
}

impl Purgeable for Region {
    fn purge(&self, request: PurgeRequest) -> CommitCharge {
        self.lock.purge(request, |span| {
            for at in span.granules() {
                self.bytes()[usize::try_from(at).expect("few")] = 0;
            }
        })
    }
}

/// Regions within a budget, and their models.
pub struct World {
    budget: Arc<Budget>,
    sites: Vec<Site>,
    clock: Clock,
    /// What may be committed, in granules.
    most: usize,
    /// The most that was.
    peak: usize,
    /// How many granules were purged.
    purged: usize,
    /// How many regions there were.
    regions: u64,
    /// The last number that was written anywhere.
    written: u64,
    seen: Seen,
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}

impl World {
    /// New regions, each created by its first holder.
    ///
    /// # Panics
    ///
    /// As all of this: where ledgers and models differ.
    #[must_use]
    pub fn new() -> World {
        let mut world = World {
            budget: Budget::new(BUDGET as u64 * GRANULE),
            sites: Vec::new(),
            clock: Clock::default(),
            most: BUDGET,
            peak: 0,
            purged: 0,
            regions: 0,
            written: 0,
            seen: Seen::new(),
        };
        for _ in 0..REGIONS {
            let pinned = world.sites.is_empty();
            let site = world.create(pinned);
            world.sites.push(site);
        }
        world.compare();
        world
    }

    /// Takes one step on both sides, and compares.
    ///
    /// # Panics
    ///
    /// Where ledgers and models differ.
    pub fn step(&mut self, step: &Step) {
        let no = usize::from(step.region) % REGIONS;
        if self.sites[no].lock().claims() == 0 {
            // The region is gone, with all that anybody has of it. Here is
            // another.
            let site = self.create(self.regions.is_multiple_of(2));
            let gone = std::mem::replace(&mut self.sites[no], site);
            gone.finish(&mut self.seen);
            if self.sites[no].model.committed == [true; GRANULES] {
                self.make_true();
                self.peak = self.peak.max(self.committed());
            }
        }
        match step.op {
            Op::Pin {
                handle,
                first,
                length,
                undo,
            } => self.pin(no, handle, &span(first, length), undo),
            Op::Write { handle, granule } => {
                self.written += 1;
                self.sites[no].write(handle, usize::from(granule) % GRANULES, self.written);
            }
            Op::Purge { granules } => self.purge(usize::from(granules)),
            Op::SetBudget { granules } => self.set_budget(usize::from(granules)),
            ref op => {
                self.give_room(no);
                let lost = self.sites[no].model.lost;
                self.sites[no].act(op);
                let lost = self.sites[no].model.lost - lost;
                self.purged += usize::try_from(lost).expect("few");
            }
        }
        for (outcome, count) in std::mem::take(&mut self.sites[no].seen) {
            *self.seen.entry(outcome).or_default() += count;
        }
        self.compare();
    }

    /// Everybody lets go, call by call and guest by guest.
    ///
    /// # Panics
    ///
    /// Where anything is left.
    pub fn finish(mut self) -> Seen {
        while !self.sites.is_empty() {
            self.give_room(0);
            self.sites.remove(0).finish(&mut self.seen);
        }
        self.check_empty();
        self.seen
    }

    /// The regions go as they are, as with a host that ends.
    ///
    /// # Panics
    ///
    /// Where an account or the budget keeps anything.
    pub fn drop_all(mut self) {
        for site in std::mem::take(&mut self.sites) {
            site.drop_all();
        }
        self.check_empty();
    }

    /// Nothing is committed any more, and nothing kept for anybody: all of the
    /// budget can be taken.
    fn check_empty(&self) {
        let usage = self.budget.usage();
        assert_eq!((usage.committed, usage.purgeable), (0, 0));
        let all = self
            .budget
            .commit(self.most as u64)
            .expect("nobody has any");
        assert_eq!(all.granules(), self.most as u64);
        assert!(self.budget.commit(1).is_err());
    }

    /// Creates a region: pinned, or, where there is no room for that or nobody
    /// asks for it, unpinned.
    fn create(&mut self, pinned: bool) -> Site {
        let fits = self.fits(GRANULES, None);
        let commit = match pinned.then(|| self.budget.commit(GRANULES as u64)) {
            Some(Ok(commit)) => {
                assert!(fits);
                self.note("create", "pinned");
                Some(commit)
            }
            Some(Err(exhausted)) => {
                assert!(!fits, "{exhausted}");
                assert_eq!(exhausted.limit, "budget");
                self.note("create", "exhausted");
                None
            }
            None => {
                self.note("create", "unpinned");
                None
            }
        };
        self.regions += 1;
        Site::new(self.regions, &self.budget, commit, &self.clock)
    }

    /// Tells by rule 8 whether so many granules can be committed, purging what
    /// nobody pins, but for a span that is to be pinned.
    fn fits(&self, granules: usize, pins: Option<(usize, &Granules)>) -> bool {
        let nothing = [false; GRANULES];
        let sites = self.sites.iter().enumerate();
        let purgeable: usize = sites
            .map(|(no, site)| match pins {
                Some((at, span)) if at == no => site.model.purgeable(span),
                _ => site.model.purgeable(&nothing),
            })
            .sum();
        granules == 0 || self.committed() + granules <= self.most + purgeable
    }

    fn committed(&self) -> usize {
        self.sites.iter().map(Site::committed).sum()
    }

    /// Tells a site how much of the budget the others leave. Where they are over it
    /// already, nothing of them can be purged.
    fn give_room(&mut self, no: usize) {
        let others = self.committed() - self.sites[no].committed();
        self.sites[no].room = self.most.saturating_sub(others);
    }

    /// Purges in the models, the least recently unpinned first, until so many
    /// granules are; gives how many were.
    fn purge_models(&mut self, granules: usize) -> usize {
        let mut purged = 0;
        while purged < granules {
            let sites = self.sites.iter_mut();
            let next = sites
                .filter_map(|site| Some((site.model.next()?, site)))
                .min_by_key(|(when, _)| *when);
            let Some((_, site)) = next else { break };
            purged += site.model.purge();
            let what = if site.model.frozen {
                "frozen"
            } else {
                "granule"
            };
            self.note("purged", what);
        }
        self.purged += purged;
        purged
    }

    /// What was committed in the models, and fits, is made room for.
    fn make_true(&mut self) {
        self.purge_models(self.committed().saturating_sub(self.most));
    }

    fn pin(&mut self, no: usize, handle: u8, span: &Granules, undo: bool) {
        let site = &self.sites[no];
        let Some(handle) = site.pick_handle(handle) else {
            return;
        };
        let reasons = site.model.against_pin(handle);
        let unpaid = site.model.unpaid(span);
        let fits = self.fits(unpaid, Some((no, span)));
        let spans = site.spans_after(handle, span, true);
        let region = site.region.clone();
        let before = format!("{:?}", *region.lock.lock());
        let taken = self.sites[no].handles[handle].take().expect("picked");
        let outcome = match region.lock.pin(&taken, span_of(span)) {
            Ok((pinned, pin, mut ledger)) => {
                assert_eq!(reasons, []);
                assert!(fits && spans.0 <= SPANS, "{unpaid} more, {spans:?} spans");
                if undo {
                    ledger.undo_pin(pin);
                }
                drop(ledger);
                self.pinned(no, handle, span, pinned, undo);
                let (paid, undone) = (unpaid > 0, undo);
                match (pinned, paid, undone) {
                    (Pinned::Lost, _, false) => "lost",
                    (Pinned::Intact, true, false) => "paid for",
                    (Pinned::Intact, false, false) => "intact",
                    (_, _, true) => "undone",
                }
                .to_owned()
            }
            Err(refusal) => {
                let after = format!("{:?}", *region.lock.lock());
                assert_eq!(before, after);
                match refusal {
                    PinError::Refused(refusal) => {
                        assert!(reasons.contains(&refusal), "{refusal:?}, not {reasons:?}");
                        refusal.to_string()
                    }
                    PinError::Exhausted(exhausted) => {
                        let may = match exhausted.limit {
                            "budget" => !fits,
                            _ => spans.1 > SPANS,
                        };
                        assert!(may, "{exhausted}");
                        exhausted.limit.to_owned()
                    }
                }
            }
        };
        self.sites[no].handles[handle] = Some(taken);
        self.note("pin", outcome);
    }

    /// A pin is there, and had this outcome; or was taken back at once.
    fn pinned(&mut self, no: usize, handle: usize, span: &Granules, pinned: Pinned, undo: bool) {
        let site = &mut self.sites[no];
        let before = site.model.pins(handle);
        let paid = site.model.unpaid(span) > 0;
        let lost = site.model.pin(handle, span);
        assert_eq!(pinned == Pinned::Lost, lost);
        if paid {
            self.make_true();
        }
        if undo {
            // What the claim did not pin is unpinned now, and what it was told
            // is told again.
            let model = &mut self.sites[no].model;
            let pins = model.pins_mut(handle);
            for at in (0..GRANULES).filter(|at| span[*at]) {
                pins.pinned[at] = before.pinned[at];
                pins.untold[at] = before.untold[at];
            }
            model.settle();
            self.make_true();
        }
    }

    fn purge(&mut self, granules: usize) {
        let purged = self.purge_models(granules);
        assert_eq!(self.budget.purge(granules as u64), purged as u64);
        self.note("purge", if purged < granules { "less" } else { "enough" });
    }

    fn set_budget(&mut self, granules: usize) {
        self.most = granules;
        self.make_true();
        let over = self.committed().saturating_sub(self.most);
        assert_eq!(self.budget.resize(granules as u64 * GRANULE), over as u64);
        self.note("set-budget", if over > 0 { "over" } else { "kept" });
    }

    fn note(&mut self, name: &'static str, outcome: impl ToString) {
        note(&mut self.seen, name, outcome);
    }

    fn compare(&mut self) {
        self.peak = self.peak.max(self.committed());
        let usage = self.budget.usage();
        let granules = |count: usize| count as u64 * GRANULE;
        assert_eq!(usage.budget, granules(self.most));
        assert_eq!(usage.committed, granules(self.committed()));
        assert_eq!(usage.committed_peak, granules(self.peak));
        let purgeable = |site: &Site| site.model.purgeable(&[false; GRANULES]);
        let purgeable = self.sites.iter().map(purgeable).sum();
        assert_eq!(usage.purgeable, granules(purgeable));
        assert_eq!(usage.purged, granules(self.purged));
        for site in &mut self.sites {
            site.compare();
        }
    }
}

/// One region, its model, and who holds what of it.
struct Site {
    id: u64,
    budget: Arc<Budget>,
    region: Arc<Region>,
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
    waiters: Vec<WaiterId>,
    now: Duration,
    accounts: Vec<Arc<Account>>,
    was_frozen: bool,
    /// How many granules may be committed while this site acts.
    room: usize,
    seen: Seen,
}

impl Site {
    fn new(id: u64, budget: &Arc<Budget>, commit: Option<CommitCharge>, clock: &Clock) -> Site {
        let accounts = (0..HOLDERS)
            .map(|no| {
                let quota = Quota {
                    regions: CLAIMS,
                    claimed_bytes: CLAIMS * SIZE,
                    handles: 0,
                    windows: 0,
                    unpinned_spans: SPANS,
                    host_memory: 0,
                };
                Account::new(format!("holder {no}"), quota)
            })
            .collect::<Vec<_>>();
        let pinned = commit.is_some();
        let runs = if pinned { 0 } else { 1 };
        let charges = charge(&accounts[0], runs).expect("the first is in the quota");
        let (ledger, handle) = Ledger::new(SIZE, budget, commit, charges);
        let region = Arc::new(Region {
            lock: LedgerLock::new(id, budget, ledger),
            bytes: Mutex::default(),
        });
        let purge: Arc<dyn Purgeable> = region.clone();
        budget.register(id, Arc::downgrade(&purge));
        let mut site = Site {
            id,
            budget: budget.clone(),
            region,
            model: Model::new(pinned, clock),
            claims: vec![handle.claim()],
            claim_holders: vec![0],
            handles: Vec::new(),
            handle_holders: Vec::new(),
            lends: Vec::new(),
            windows: Vec::new(),
            window_holders: Vec::new(),
            waiters: Vec::new(),
            now: Duration::ZERO,
            accounts,
            was_frozen: false,
            room: 0,
            seen: Seen::new(),
        };
        assert_eq!(handle.rights(), Rights::ALL);
        site.got(0, handle, 0, None);
        site
    }

    fn lock(&self) -> LedgerGuard<'_, usize> {
        self.region.lock.lock()
    }

    fn finish(mut self, seen: &mut Seen) {
        // Comparing is what takes the time, of which Miri needs a lot.
        for lend in 0..self.lends.len() {
            self.end_lend(lend);
            if !cfg!(miri) {
                self.compare();
            }
        }
        for holder in 0..HOLDERS {
            self.end_holder(holder, WindowEnd::Orderly);
            if !cfg!(miri) {
                self.compare();
            }
        }
        self.compare();
        assert_eq!(self.lock().claims(), 0);
        assert!(self.lends.iter().all(|lend| self.lock().is_over(*lend)));
        self.budget.unregister(self.id);
        for account in &self.accounts {
            check_empty(account);
        }
        for (outcome, count) in self.seen {
            *seen.entry(outcome).or_default() += count;
        }
    }

    fn drop_all(self) {
        let (budget, id, accounts) = (self.budget.clone(), self.id, self.accounts.clone());
        drop(self);
        budget.unregister(id);
        for account in accounts {
            check_empty(&account);
        }
    }

    /// After something that may have been the end of a claim. What the region
    /// cost is given back with the last of them.
    fn settle(&mut self) {
        self.model.settle();
        self.keep_budget();
        let mut ledger = self.lock();
        if ledger.claims() == 0 {
            let commit = ledger.release_commit();
            drop(ledger);
            drop(commit);
        }
    }

    fn committed(&self) -> usize {
        self.model.committed.iter().filter(|it| **it).count()
    }

    /// Rule 8: what is over the budget is purged as soon as nobody pins it, only as
    /// much as needed.
    fn keep_budget(&mut self) {
        while self.committed() > self.room && self.model.next().is_some() {
            self.model.purge();
            let frozen = self.model.frozen;
            self.note("over budget", if frozen { "frozen" } else { "granule" });
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
            Op::Ask { waiter } => {
                if let Some(waiter) = self.pick_waiter(waiter) {
                    self.ask_waiter(waiter);
                }
            }
            Op::Forget { waiter } => {
                if let Some(waiter) = self.pick_waiter(waiter) {
                    self.lock().dequeue(self.waiters[waiter]);
                    self.model.leaves(waiter);
                    self.note("forget", "done");
                }
            }
            Op::Pass { millis } => {
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

    fn duplicate(&mut self, source: usize, can: Can) {
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
        let before = format!("{:?}", *self.lock());
        let again = self.model.lends[lend].revoked;
        self.lock().revoke(self.lends[lend]);
        self.model.lends[lend].revoked = true;
        if again {
            assert_eq!(before, format!("{:?}", *self.lock()));
        }
        self.settle();
    }

    fn end_lend(&mut self, lend: usize) {
        self.revoke(lend);
        let (claim, chain) = (self.model.lends[lend].claim, &self.model.lends[lend].chain);
        for window in self.model.windows_of(claim, chain) {
            self.close(window, WindowEnd::Orderly);
        }
    }

    fn transfer(&mut self, handle: usize, to: usize) {
        let reasons = self.model.against_move(handle);
        // Charged before: what goes to oneself is counted twice for a moment.
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

    fn release(&mut self, handle: usize) {
        let taken = self.handles[handle].take().expect("picked");
        self.lock().release(taken);
        self.model.handles[handle].dropped = true;
        self.settle();
    }

    fn open(&mut self, handle: u8, first: u8, length: u8, access: u8, guard: bool) {
        let Some(handle) = self.pick_handle(handle) else {
            return;
        };
        let shows = span(first, length);
        let access = access_of(access, self.handle_holders[handle]);
        let window = self.model.window(handle, shows, access, guard);
        let mut needs = Can::window(access);
        if guard && needs.write {
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

    fn set_access(&mut self, window: usize, access: Access) {
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

    fn wait(&mut self, handle: usize, shows: Granules, access: Access) {
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

    fn ask_waiter(&mut self, waiter: usize) {
        self.model.pass(self.now);
        self.model.asks(waiter);
        self.model.pass(self.now);
        let waited = self.lock().poll_waiter(self.waiters[waiter], self.now);
        let expected = match self.model.ready(waiter) {
            true => WaitStatus::Ready,
            false => WaitStatus::Pending(self.model.next_lapse()),
        };
        assert_eq!(waited, expected);
        self.note(
            "waited",
            match self.model.waiters[waiter].turn {
                Waits::Reserved(_) => "reserved",
                Waits::Left => "left",
                _ => "not yet",
            },
        );
    }

    /// Time has passed, and things were done. Who waits hears of its turn.
    fn pass(&mut self) {
        let turns =
            |model: &Model| -> Vec<Waits> { model.waiters.iter().map(|it| it.turn).collect() };
        let before = turns(&self.model);
        self.model.pass(self.now);
        let told = self.lock().advance(self.now);
        for (was, is) in before.into_iter().zip(turns(&self.model)) {
            if was != is {
                assert!(told, "somebody is not told: {was:?} became {is:?}");
                let name = match is {
                    Waits::Waiting => "waiting",
                    Waits::Reserved(_) => "reserved",
                    Waits::Lapsed => "lapsed",
                    Waits::Left => "left",
                };
                self.note("pass", name);
            }
        }
        assert!(!self.lock().advance(self.now), "nothing is told twice");
    }

    /// What is reserved conflicts with nobody else's window, and with nothing that
    /// is reserved for anybody else.
    fn check_waiters(&self) {
        let reserved = |no: &&usize| matches!(self.model.waiters[**no].turn, Waits::Reserved(_));
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

    fn close(&mut self, window: usize, end: WindowEnd) {
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

    fn unpin(&mut self, handle: usize, span: &Granules, undo: bool) {
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

    fn is_pinned(&mut self, handle: usize, span: &Granules) {
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

    fn write(&mut self, handle: u8, granule: usize, number: u64) {
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

    /// How many runs the account of a handle's claim counts, at least and at
    /// most, once the claim has pinned or unpinned a span.
    fn spans_after(&self, handle: usize, span: &Granules, pin: bool) -> (u64, u64) {
        let claim = self.model.handles[handle].claim;
        if !self.model.lives(claim) {
            return (0, 0);
        }
        let account = &self.accounts[self.claim_holders[claim]];
        let counted = self.lock().unpinned_spans(self.claims[claim]);
        // Nothing is charged for what was purged for good.
        let others = account
            .used(ChargeKind::UnpinnedSpans)
            .saturating_sub(counted);
        let (least, most) = self.model.runs_with(handle, span, pin);
        (others + least, others + most)
    }

    fn end_holder(&mut self, holder: usize, end: WindowEnd) {
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

    fn note(&mut self, name: &'static str, outcome: impl ToString) {
        note(&mut self.seen, name, outcome);
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
        self.pass();
        self.check_waiters();
        assert_eq!(self.lock().is_frozen(), self.model.frozen);
        assert_eq!(self.lock().is_poisoned(), self.model.poisoned);
        assert_eq!(self.lock().is_purged(), self.model.purged);
        self.compare_claims();
        self.compare_handles();
        for (no, id) in self.lends.iter().enumerate() {
            assert_eq!(self.lock().is_over(*id), self.model.over(no), "lend {no}");
        }
        self.compare_windows();
        self.compare_pins();
        self.check_lock();
    }

    fn compare_claims(&self) {
        let live = (0..self.claims.len())
            .filter(|claim| self.model.lives(*claim))
            .collect::<Vec<_>>();
        assert_eq!(self.lock().claims(), live.len());
        for (holder, account) in self.accounts.iter().enumerate() {
            let held = live.iter().filter(|it| self.claim_holders[**it] == holder);
            let held = held.copied().collect::<Vec<_>>();
            let count = held.len() as u64;
            assert_eq!(account.used(ChargeKind::Regions), count, "holder {holder}");
            let (bytes, spans) = (ChargeKind::ClaimedBytes, ChargeKind::UnpinnedSpans);
            if self.model.purged {
                // Rule 7: nothing is charged.
                assert_eq!((account.used(bytes), account.used(spans)), (0, 0));
                continue;
            }
            assert_eq!(account.used(bytes), count * SIZE);
            let counted = held.iter().map(|claim| {
                let counted = self.lock().unpinned_spans(self.claims[*claim]);
                let (least, most) = self.model.runs(*claim);
                assert!(
                    (least..=most).contains(&counted),
                    "claim {claim}: {counted}"
                );
                counted
            });
            assert_eq!(account.used(spans), counted.sum::<u64>());
        }
    }

    fn compare_pins(&self) {
        assert_eq!(*self.region.bytes(), self.model.bytes);
        let bytes = |granules: usize| granules as u64 * GRANULE;
        let usage = self.lock().pin_usage();
        let needed = (0..GRANULES).filter(|at| self.model.needed(*at));
        assert_eq!(usage.pinned, bytes(needed.count()));
        let committed = self.model.committed.iter().filter(|it| **it);
        assert_eq!(usage.committed, bytes(committed.count()));
        let purgeable = self.model.purgeable(&[false; GRANULES]);
        assert_eq!(usage.purgeable, bytes(purgeable));
        assert_eq!(usage.purged, self.model.lost * GRANULE);
        for at in 0..GRANULES {
            let mut span = [false; GRANULES];
            span[at] = true;
            assert!(!self.lock().is_purging(span_of(&span)));
            let unpaid = self.lock().unpaid(span_of(&span));
            assert_eq!(unpaid, self.model.unpaid(&span) as u64, "granule {at}");
            for (no, handle) in self.handles.iter().enumerate() {
                let Some(handle) = handle else { continue };
                let said = self.lock().is_pinned(handle, span_of(&span));
                let reasons = self.model.against_status(no);
                match said {
                    Ok(said) => {
                        assert_eq!((said, reasons), (self.model.is_pinned(no, &span), vec![]))
                    }
                    Err(refusal) => assert_eq!(vec![refusal], reasons),
                }
            }
        }
        for (holder, account) in self.accounts.iter().enumerate() {
            let held = (0..self.claims.len())
                .filter(|claim| self.claim_holders[*claim] == holder && self.model.lives(*claim))
                .collect::<Vec<_>>();
            let pins = |at: &usize| {
                held.iter()
                    .any(|claim| self.model.claims[*claim].pinned[*at])
            };
            let pinned = (0..GRANULES).filter(pins).count();
            assert_eq!(
                self.lock().pinned_by(account),
                bytes(pinned),
                "holder {holder}"
            );
        }
    }

    fn compare_handles(&self) {
        for (no, handle) in self.handles.iter().enumerate() {
            let Some(handle) = handle else { continue };
            let gone = self.lock().check(handle) == Err(LedgerError::Gone);
            assert_eq!(gone, self.model.gone(no), "handle {no}");
            let reasons = self.model.against_move(no);
            match self.lock().may_move(handle) {
                Ok(()) => assert_eq!(reasons, [], "handle {no}"),
                Err(refusal) => assert!(reasons.contains(&refusal), "handle {no}: {refusal:?}"),
            }
        }
    }

    fn compare_windows(&self) {
        let mut chains = BTreeSet::new();
        for (no, window) in self.model.windows.iter().enumerate() {
            let seen = self.lock().window(self.windows[no]);
            let expected = window.open.then(|| (span_of(&window.shows), window.access));
            assert_eq!(seen, expected, "window {no}");
            chains.insert((window.claim, window.chain.clone()));
        }
        for (claim, chain) in chains {
            let via = chain.last().map(|lend| self.lends[*lend]);
            let ledger = self.lock();
            let of = ledger.windows_of(self.claims[claim], via);
            let seen = of.map(|(_, _, place)| *place).collect::<Vec<_>>();
            assert_eq!(seen, self.model.windows_of(claim, &chain));
            for at in 0..GRANULES {
                let mut span = [false; GRANULES];
                span[at] = true;
                let on = ledger.windows_on(self.claims[claim], span_of(&span));
                let seen = on.map(|(_, shown, place)| (*place, shown));
                let windows = self.model.windows.iter().enumerate();
                let expected = windows
                    .filter(|(_, it)| it.open && !it.guard && it.claim == claim && it.shows[at])
                    .map(|(no, it)| (no, span_of(&it.shows)));
                assert!(seen.eq(expected), "claim {claim}, granule {at}");
            }
        }
    }

    /// Rule 2, over all pairs there are, however they came to be.
    fn check_lock(&mut self) {
        let windows = self.model.windows.iter().enumerate();
        let open = windows.filter(|(_, it)| it.open).collect::<Vec<_>>();
        let (mut aside, mut shared) = (0, 0);
        for (at, (one_no, one)) in open.iter().enumerate() {
            for (other_no, other) in &open[at + 1..] {
                let common = (0..GRANULES).any(|at| one.shows[at] && other.shows[at]);
                shared += u32::from(common && one.access != Access::Read);
                if Model::clash(one, other) {
                    let one_aside = self.model.aside(*one_no, &other.chain);
                    let other_aside = self.model.aside(*other_no, &one.chain);
                    assert!(one_aside || other_aside, "{one:?} and {other:?}");
                    assert_eq!(one.claim, other.claim);
                    assert!(!(if one_aside { one.guard } else { other.guard }));
                    aside += 1;
                    shared -= u32::from(one.access != Access::Read);
                }
            }
        }
        let more = open.iter().any(|(_, it)| it.access != Access::Read);
        assert!(!(self.lock().is_frozen() && more));
        assert!(!self.was_frozen || self.lock().is_frozen());
        let frozen = self.lock().is_frozen();
        self.was_frozen = frozen;
        if aside > 0 {
            self.note("windows", "set aside");
        }
        if shared > 0 {
            self.note("windows", "live together");
        }
    }

    fn handle(&self, number: usize) -> &Handle {
        self.handles[number].as_ref().expect("not released")
    }

    /// What another claim that pins as much as this one costs.
    fn charge(&self, holder: usize, claim: usize) -> Option<Vec<Charge>> {
        let account = &self.accounts[holder];
        let spans = self.lock().unpinned_spans(self.claims[claim]);
        let full = account.used(ChargeKind::Regions) == CLAIMS
            || account.used(ChargeKind::UnpinnedSpans) + spans > SPANS;
        let charges = charge(account, spans);
        assert_eq!(charges.is_none(), full);
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

    fn pick_waiter(&self, number: u8) -> Option<usize> {
        pick(number, self.model.queue.clone(), self.waiters.len())
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

fn note(seen: &mut Seen, name: &'static str, outcome: impl ToString) {
    *seen.entry((name, outcome.to_string())).or_default() += 1;
}

fn charge(account: &Arc<Account>, spans: u64) -> Option<Vec<Charge>> {
    Some(vec![
        account.charge(ChargeKind::Regions, 1).ok()?,
        account.charge(ChargeKind::ClaimedBytes, SIZE).ok()?,
        account.charge(ChargeKind::UnpinnedSpans, spans).ok()?,
    ])
}

fn check_empty(account: &Account) {
    for kind in [
        ChargeKind::Regions,
        ChargeKind::ClaimedBytes,
        ChargeKind::UnpinnedSpans,
    ] {
        assert_eq!(account.used(kind), 0, "{}", kind.name());
    }
}

/// A run of granules, never empty.
fn span(first: u8, length: u8) -> Granules {
    let first = usize::from(first) % GRANULES;
    let last = first + usize::from(length) % (GRANULES - first);
    let mut span = [false; GRANULES];
    span[first..=last].fill(true);
    span
}

fn span_of(granules: &Granules) -> Span {
    let within = || granules.iter();
    let first = within().position(|it| *it).expect("never empty");
    let granules = within().filter(|it| **it).count();
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

/// A kind of access, of a holder: each is a store, and two of them are a strand.
fn access_of(number: u8, holder: usize) -> Access {
    let live = LiveOwner {
        strand: holder as u64 / 2,
        store: holder,
    };
    match number % 4 {
        0 => Access::Read,
        1 => Access::Write,
        2 => Access::LiveRead(live),
        _ => Access::LiveWrite(live),
    }
}

fn end(died: bool) -> WindowEnd {
    if died {
        WindowEnd::Died
    } else {
        WindowEnd::Orderly
    }
}
