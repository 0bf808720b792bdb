//! The stores of guests that call each other, and what passes between them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use shuttle::rand::{Rng, thread_rng};
use tombolo_exchange::{Lender, LentRegions};
use tombolo_region::{Charge, ChargeKind, ClaimId, LendId, WindowEnd};

use super::calls::{Incarnation, TestGuests};
use super::plan::{Seen, note};
use super::watch::Floor;
use crate::mock_region::{Memory, Recipient, Region, RegionError, Shared};

#[derive(Debug, Default)]
pub(super) struct Lends(pub(super) Vec<(Arc<Shared>, LendId)>);

impl LentRegions for Lends {
    fn are_all_back(&self) -> bool {
        let mut lends = self.0.iter();
        lends.all(|(shared, lend)| shared.ledger().is_over(*lend))
    }
}

#[derive(Default)]
pub(super) struct Parcel(pub(super) Vec<Carried>);

pub(super) enum Carried {
    Moved(Region),
    Lent(Region, LendGuard),
}

pub(super) struct LendGuard {
    pub(super) shared: Arc<Shared>,
    pub(super) claim: ClaimId,
    pub(super) lend: LendId,
}

impl Drop for LendGuard {
    fn drop(&mut self) {
        self.shared.ledger.revoke(self.lend, |_| ());
        self.shared.settle();
    }
}

pub(super) struct Lent {
    pub(super) shared: Arc<Shared>,
    pub(super) claim: ClaimId,
    pub(super) via: Option<LendId>,
    pub(super) lend: LendId,
}

/// A guest's store.
pub(super) struct Store {
    pub(super) memory: Memory,
    pub(super) table: BTreeMap<u32, Region>,
    pub(super) next: u32,
    pub(super) gone: Arc<AtomicBool>,
    pub(super) floor: Arc<Floor>,
}

impl Drop for Store {
    fn drop(&mut self) {
        let floor = self.floor.clone();
        floor.run(|| {
            if thread_rng().gen_range(0..2) == 0 {
                self.table.clear();
            }
            self.memory = Memory::default();
            self.gone.store(true, SeqCst);
        });
    }
}

pub(super) enum Given {
    Moved(Region),
    Lent(Region, LendGuard, Option<LendId>),
}

impl Store {
    pub(super) fn new(incarnation: &Incarnation) -> Store {
        Store {
            memory: Memory::default(),
            table: BTreeMap::new(),
            next: 0,
            gone: incarnation.store_gone.clone(),
            floor: incarnation.floor.clone(),
        }
    }

    pub(super) fn push(&mut self, region: Region) -> u32 {
        self.next += 1;
        self.table.insert(self.next, region);
        self.next
    }

    pub(super) fn some(&self) -> Option<u32> {
        let at = thread_rng().gen_range(0..self.table.len().max(1));
        self.table.keys().nth(at).copied()
    }

    /// Some regions, as they go to somebody else: some lent, some moved.
    pub(super) fn pack(
        &mut self,
        most: usize,
        lends: bool,
        to: &Recipient,
        seen: &Seen,
    ) -> Result<(Parcel, Vec<Lent>), RegionError> {
        let mut given = Vec::new();
        let mut refused = None;
        for _ in 0..thread_rng().gen_range(0..=most) {
            let Some(key) = self.some() else { break };
            let is_lent = self.table[&key].is_lent();
            let moves = !lends || thread_rng().gen_range(0..4) == 0;
            if moves && is_lent {
                continue;
            }
            if moves {
                given.push(Given::Moved(self.table.remove(&key).expect("it is there")));
                continue;
            }
            let lender = &self.table[&key];
            match lender.lend(to.owner()) {
                Ok(region) => {
                    let guard = LendGuard {
                        shared: region.shared().clone(),
                        claim: region.handle().claim(),
                        lend: region.handle().lend().expect("it was just lent"),
                    };
                    note(if is_lent { &seen.lent_on } else { &seen.lent });
                    given.push(Given::Lent(region, guard, lender.handle().lend()));
                }
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        if let Some(error) = refused {
            return Err(error);
        }
        self.send(given, to, seen)
    }

    pub(super) fn send(
        &mut self,
        given: Vec<Given>,
        to: &Recipient,
        seen: &Seen,
    ) -> Result<(Parcel, Vec<Lent>), RegionError> {
        for one in &given {
            if let Given::Moved(region) = one {
                region.shared().ledger().may_move(region.handle())?;
            }
        }
        let mut charges: Vec<(Charge, Vec<Charge>)> = Vec::new();
        for one in &given {
            if let Given::Moved(region) = one {
                let handle = to.owner().account.charge(ChargeKind::Handles, 1)?;
                charges.push((handle, region.charge_claim(to.owner())?));
            }
        }
        let mut charges = charges.into_iter();
        let (mut parcel, mut lending) = (Parcel(Vec::new()), Vec::new());
        for one in given {
            match one {
                Given::Moved(region) => {
                    let (handle, claim) = charges.next().expect("one each");
                    let id = region.handle().claim();
                    self.memory
                        .unmap_all(region.shared(), id, None, WindowEnd::Orderly);
                    note(&seen.moved);
                    let moved = region.transferred(to.owner(), handle, claim);
                    parcel.0.push(Carried::Moved(moved));
                }
                Given::Lent(region, guard, via) => {
                    lending.push(Lent {
                        shared: guard.shared.clone(),
                        claim: guard.claim,
                        via,
                        lend: guard.lend,
                    });
                    parcel.0.push(Carried::Lent(region, guard));
                }
            }
        }
        Ok((parcel, lending))
    }

    pub(super) fn unpack(&mut self, parcel: Parcel) -> Borrowed {
        let mut borrowed = Borrowed(Vec::new());
        for one in parcel.0 {
            match one {
                Carried::Moved(region) => drop(self.push(region)),
                Carried::Lent(region, guard) => borrowed.0.push((self.push(region), guard)),
            }
        }
        borrowed
    }
}

/// The borrower's side. Dropping it leaves windows to the drop of the memory.
pub(super) struct Borrowed(pub(super) Vec<(u32, LendGuard)>);

impl Borrowed {
    pub(super) fn end(self, store: &mut Store) {
        for (key, guard) in self.0 {
            guard.shared.ledger.revoke(guard.lend, |_| ());
            let LendGuard {
                shared,
                claim,
                lend,
            } = &guard;
            store
                .memory
                .unmap_all(shared, *claim, Some(*lend), WindowEnd::Orderly);
            drop(store.table.remove(&key));
        }
    }
}

/// The store of a caller that lends.
pub(super) struct LenderStore<'a> {
    pub(super) store: &'a mut Store,
    pub(super) seen: &'a Seen,
}

impl Lender<TestGuests> for LenderStore<'_> {
    type Lending = Vec<Lent>;
    type Error = Infallible;

    fn lends(lending: &Vec<Lent>) -> Lends {
        let lends = lending.iter();
        Lends(lends.map(|it| (it.shared.clone(), it.lend)).collect())
    }

    async fn wait_until_over(lending: &Vec<Lent>) {
        for lent in lending {
            lent.shared.ledger.over(lent.lend).await;
        }
    }

    fn end(&mut self, lending: Vec<Lent>) -> Result<(), Infallible> {
        for lent in lending {
            lent.shared.check_over(lent.lend);
        }
        Ok(())
    }

    fn abandon(&mut self, lending: Vec<Lent>) {
        for lent in lending {
            note(&self.seen.abandoned);
            let Lent {
                shared, claim, via, ..
            } = &lent;
            self.store
                .memory
                .unmap_all(shared, *claim, *via, WindowEnd::Died);
        }
    }
}
