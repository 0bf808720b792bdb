//! The system under test: several holders of two regions within one budget, acting on the
//! ledgers and on their models alike.
//!
//! Each step is an operation on both. After it, all visible state of the ledgers and the budget
//! is compared with the models. The rules that the models do not state are checked as well.

mod acts;
mod choose;
mod compare;
mod op;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::model::{Can, Clock, GRANULES, Granules, Model, WaiterState};
use crate::region::{
    Access, Account, Budget, Charge, ChargeKind, ClaimId, CommitCharge, GRANULE, Handle, Holder,
    Ledger, LedgerError, LedgerGuard, LedgerLock, LendId, LiveOwner, PinError, Pinned,
    PurgeRequest, Purgeable, Quota, RegionNumber, Rights, Span, WaitStatus, WaiterId, WindowEnd,
    WindowId,
};

use self::choose::{access_of, can, charge, check_empty, end, note, pick, rights, span, span_of};
pub use self::op::{Op, Step};

/// The number of regions.
const REGIONS: usize = 2;
/// The number of holders of each region.
const HOLDERS: usize = 4;
/// The budget at first, in granules: too little for both regions.
const BUDGET: usize = 6;
/// The size of a region in bytes. Its last granule is not whole.
const SIZE: u64 = (GRANULES as u64 - 1) * GRANULE + 1;
/// The maximum number of claims of a holder, so that some are refused.
const CLAIMS: u64 = 2;
/// The maximum number of unpinned runs of a holder, so that some are refused.
const SPANS: u64 = 2;

/// The number of steps of each kind with each outcome.
pub type Seen = BTreeMap<(&'static str, String), u64>;

/// A region as the layer above has it: a ledger, and memory with one number for each granule.
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
pub struct System {
    budget: Arc<Budget>,
    sites: Vec<Site>,
    clock: Clock,
    /// The budget, in granules.
    most: usize,
    /// The maximum that was committed, in granules.
    peak: usize,
    /// The number of granules that were purged.
    purged: usize,
    /// The number of regions that were created.
    regions: u64,
    /// The last number that was written to any region.
    written: u64,
    seen: Seen,
}

impl Default for System {
    fn default() -> System {
        System::new()
    }
}

impl System {
    /// Creates the regions, each by its first holder.
    ///
    /// # Panics
    ///
    /// Panics if ledgers and models differ.
    #[must_use]
    pub fn new() -> System {
        let mut world = System {
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

    /// Takes one step on both sides and compares them.
    ///
    /// # Panics
    ///
    /// Panics if ledgers and models differ.
    pub fn step(&mut self, step: &Step) {
        let no = usize::from(step.region) % REGIONS;
        if self.sites[no].lock().claims() == 0 {
            // The region is gone, and another one takes its place.
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

    /// Ends all calls and then all guests, one by one.
    ///
    /// # Panics
    ///
    /// Panics if anything is left.
    pub fn finish(mut self) -> Seen {
        while !self.sites.is_empty() {
            self.give_room(0);
            self.sites.remove(0).finish(&mut self.seen);
        }
        self.check_empty();
        self.seen
    }

    /// Drops the regions as they are, as a host that ends does.
    ///
    /// # Panics
    ///
    /// Panics if an account or the budget keeps a charge.
    pub fn drop_all(mut self) {
        for site in std::mem::take(&mut self.sites) {
            site.drop_all();
        }
        self.check_empty();
    }

    /// Checks that nothing is committed or promised: all of the budget can be committed.
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

    /// Creates a region: pinned if `pinned` and the budget allows it, otherwise unpinned.
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

    /// Returns whether so many granules can be committed by rule 8. Unpinned granules can be
    /// purged for it, except for a span that is being pinned.
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

    /// Notes for a site how much of the budget the others leave. If they are over it already,
    /// they have nothing to purge.
    fn give_room(&mut self, no: usize) {
        let others = self.committed() - self.sites[no].committed();
        self.sites[no].room = self.most.saturating_sub(others);
    }

    /// Purges at least so many granules in the models, the least recently unpinned first.
    /// Returns how many were purged.
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

    /// Purges in the models what is over budget.
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

    /// Compares a pin with the models, which had this outcome or was undone at once.
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
            // The granules are unpinned again, and the next pin reports the same losses.
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

/// One region, its model, and its holders.
struct Site {
    id: u64,
    budget: Arc<Budget>,
    region: Arc<Region>,
    model: Model,
    /// The handles by the model's numbers, as in the other fields; `None` once released.
    handles: Vec<Option<Handle>>,
    /// The holder of each handle.
    handle_holders: Vec<usize>,
    claims: Vec<ClaimId>,
    /// The holder to which each claim is charged.
    claim_holders: Vec<usize>,
    lends: Vec<LendId>,
    windows: Vec<WindowId>,
    window_holders: Vec<usize>,
    waiters: Vec<WaiterId>,
    now: Duration,
    accounts: Vec<Arc<Account>>,
    was_frozen: bool,
    /// The number of granules that may be committed while this site acts.
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
            lock: LedgerLock::new(RegionNumber::new(id), budget, ledger),
            bytes: Mutex::default(),
        });
        let purge: Arc<dyn Purgeable> = region.clone();
        budget.register(RegionNumber::new(id), Arc::downgrade(&purge));
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
        // Comparing takes most of the time, and Miri is slow.
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
        self.budget.unregister(RegionNumber::new(self.id));
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
        budget.unregister(RegionNumber::new(id));
        for account in accounts {
            check_empty(&account);
        }
    }

    /// Returns the region's charge if its last claim has ended.
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

    /// Purges in the model what is over budget, as soon as nobody pins it and only as much as
    /// needed, by rule 8.
    fn keep_budget(&mut self) {
        while self.committed() > self.room && self.model.next().is_some() {
            self.model.purge();
            let frozen = self.model.frozen;
            self.note("over budget", if frozen { "frozen" } else { "granule" });
        }
    }
}
