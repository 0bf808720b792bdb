//! Choices from the numbers of a step.

use super::*;

impl Site {
    pub(super) fn handle(&self, number: usize) -> &Handle {
        self.handles[number].as_ref().expect("not released")
    }

    /// Charges a holder for another claim that pins as much as this one.
    pub(super) fn charge(&self, holder: usize, claim: usize) -> Option<Vec<Charge>> {
        let account = &self.accounts[holder];
        let spans = self.lock().unpinned_spans(self.claims[claim]);
        let full = account.used(ChargeKind::Regions) == CLAIMS
            || account.used(ChargeKind::UnpinnedSpans) + spans > SPANS;
        let charges = charge(account, spans);
        assert_eq!(charges.is_none(), full);
        charges
    }

    pub(super) fn pick_handle(&self, number: u8) -> Option<usize> {
        let held = (0..self.handles.len()).filter(|no| self.handles[*no].is_some());
        let held = held.collect::<Vec<_>>();
        let live = held.iter().copied().filter(|no| !self.model.gone(*no));
        match number {
            // This includes revoked ones.
            224.. => pick(u8::MAX - number, held, 0),
            _ => pick(number, live.collect(), 0),
        }
    }

    pub(super) fn pick_waiter(&self, number: u8) -> Option<usize> {
        pick(number, self.model.queue.clone(), self.waiters.len())
    }

    pub(super) fn pick_window(&self, number: u8) -> Option<usize> {
        let windows = 0..self.windows.len();
        let open = windows.filter(|no| self.model.windows[*no].open);
        pick(number, open.collect(), self.windows.len())
    }
}

/// Chooses among the objects that exist, or for large numbers among `all` that ever did.
pub(super) fn pick(number: u8, there: Vec<usize>, all: usize) -> Option<usize> {
    match number {
        224.. if all > 0 => Some(usize::from(u8::MAX - number) % all),
        _ if there.is_empty() => None,
        _ => Some(there[usize::from(number) % there.len()]),
    }
}

pub(super) fn note(seen: &mut Seen, name: &'static str, outcome: impl ToString) {
    *seen.entry((name, outcome.to_string())).or_default() += 1;
}

pub(super) fn charge(account: &Arc<Account>, spans: u64) -> Option<Vec<Charge>> {
    Some(vec![
        account.charge(ChargeKind::Regions, 1).ok()?,
        account.charge(ChargeKind::ClaimedBytes, SIZE).ok()?,
        account.charge(ChargeKind::UnpinnedSpans, spans).ok()?,
    ])
}

pub(super) fn check_empty(account: &Account) {
    for kind in [
        ChargeKind::Regions,
        ChargeKind::ClaimedBytes,
        ChargeKind::UnpinnedSpans,
    ] {
        assert_eq!(account.used(kind), 0, "{}", kind.name());
    }
}

/// Returns a run of granules, never empty.
pub(super) fn span(first: u8, length: u8) -> Granules {
    let first = usize::from(first) % GRANULES;
    let last = first + usize::from(length) % (GRANULES - first);
    let mut span = [false; GRANULES];
    span[first..=last].fill(true);
    span
}

pub(super) fn span_of(granules: &Granules) -> Span {
    let within = || granules.iter();
    let first = within().position(|it| *it).expect("never empty");
    let granules = within().filter(|it| **it).count();
    Span::of_window(first as u64 * GRANULE, granules as u64 * GRANULE, SIZE)
        .expect("inside the region")
}

pub(super) fn can(bits: u8) -> Can {
    Can {
        read: bits & 1 != 0,
        write: bits & 2 != 0,
        share: bits & 4 != 0,
    }
}

pub(super) fn rights(can: Can) -> Rights {
    let one = |has, right| if has { right } else { Rights::NONE };
    one(can.read, Rights::READ) | one(can.write, Rights::WRITE) | one(can.share, Rights::SHARE)
}

/// Returns an access of a holder. Each holder is a store, and two of them are a strand.
pub(super) fn access_of(number: u8, holder: usize) -> Access {
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

pub(super) fn end(died: bool) -> WindowEnd {
    if died {
        WindowEnd::Died
    } else {
        WindowEnd::Orderly
    }
}
