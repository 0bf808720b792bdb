//! The rules of the design that the ledger holds, case by case.

mod budget;
mod lends;
mod life;
mod live;
mod lock;
mod moves;
mod pinned_region;
mod pins;
mod waits;

use tombolo_region_tests::region::{
    Access, Account, Budget, ChargeKind, GRANULE, Handle, Holder, Ledger, LedgerError, LiveOwner,
    Quota, Rights, Span, WindowEnd, WindowId,
};

use Access::{Read, Write};

const READ_WRITE: Rights = Rights::ALL.without(Rights::SHARE);

fn region() -> (Ledger<()>, Handle) {
    let budget = Budget::new(8 * GRANULE);
    let commit = budget.commit(8).unwrap();
    Ledger::new(8 * GRANULE, &budget, Some(commit), Vec::new())
}

/// Returns one granule of a region of eight.
fn granule(number: u64) -> Span {
    granules(number, 1)
}

fn granules(first: u64, count: u64) -> Span {
    Span::of_window(first * GRANULE, count * GRANULE, 8 * GRANULE).unwrap()
}

fn open(
    ledger: &mut Ledger<()>,
    handle: &Handle,
    span: Span,
    access: Access,
) -> Result<WindowId, LedgerError> {
    ledger.open(handle, access.needs(), span, access, Holder::Guest, ())
}

fn guard(
    ledger: &mut Ledger<()>,
    handle: &Handle,
    span: Span,
    access: Access,
) -> Result<WindowId, LedgerError> {
    ledger.open(handle, access.needs(), span, access, Holder::Host, ())
}
