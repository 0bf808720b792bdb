// The modules of the host's `region`, with what waits in `sync` beside this one.

use super::sync;

#[path = "../../../host/src/region/account.rs"]
mod account;
#[path = "../../../host/src/region/budget.rs"]
mod budget;
#[path = "../../../host/src/region/ledger/mod.rs"]
mod ledger;
#[path = "../../../host/src/region/lock.rs"]
mod lock;
#[path = "../../../host/src/region/pins.rs"]
mod pins;
#[path = "../../../host/src/region/rights.rs"]
mod rights;
#[path = "../../../host/src/region/span.rs"]
mod span;

pub use account::{Account, Charge, Exhausted, Kind, Quota};
pub use budget::{Budget, BudgetUsage, Commit, Purge, Turn};
pub use ledger::{
    Access, ClaimId, End, Handle, Holder, Ledger, LendId, PinRefusal, RESERVED, Refusal, Undo,
    Waited, WaiterId, WindowId,
};
pub use lock::{LedgerGuard, LedgerLock};
pub use pins::Pinned;
pub use rights::Rights;
pub use span::{GRANULE, Span, SpanError};
