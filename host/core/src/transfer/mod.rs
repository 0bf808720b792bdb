//! Regions on their way from one store to another.
//!
//! wasmtime passes the arguments of a call to a host function as values with the handles of the
//! caller's store, and takes values with handles of the callee's. In between, each region
//! handle, at any depth, is lent (`borrow<region>`) or moved (`region`):
//!
//! ```text
//!   caller's store                              callee's store
//!   Parcel::pack(params)  ----------------->    Parcel::unpack
//!     moves: its windows are unmapped             Borrowed: the lends
//!     lends: Lending                              ... the call ...
//!                                               Parcel::pack(results)
//!   Lending::over, Lending::end  <----------    Borrowed::end
//!   Parcel::unpack(results)
//! ```
//!
//! A handle never has two holders, even if one of these values is dropped or a guest dies on
//! the way. A lend ends when its [`Borrowed`] is dropped.
//!
//! # Packing
//!
//! `pack` first takes all handles out of the values. Then it checks that each may go, charges
//! the receiver, and only then unmaps the windows of regions that move. A refusal at any of
//! these steps leaves the sender's windows as they were. A parcel belongs to no store. Dropping
//! it drops the moved handles and ends the lends. Dropping `Borrowed` revokes the lends, and
//! leaves their windows to the drop of the callee's memory. The lender waits for that in
//! `Lending::over`, and `Lending::end` refuses while a lend is not over.
//!
//! A guard of the host program on a claim refuses any lend or move of that claim, not only one
//! that conflicts. Whether it would conflict depends on what the borrower does, and a refusal in
//! the middle of a call helps nobody.
//!
//! A move needs the right `share` and the claim's first handle, and no restricted or lent handle
//! of the claim may live. This holds for arguments, results, messages and
//! [`Region::give`](crate::Region::give).
//!
//! A lend is over when the windows made through it are gone, not when the call returns. A
//! borrower may have died after it re-lent the region to a guest that lives.
//!
//! # In stores that Tombolo does not run
//!
//! Safe code can forget a future, so that the lender's store is used while the borrower writes.
//! So `pack` *masks* the lender's windows for the call if they or the borrower can write:
//! private zero pages stand there, the lock stays, and `end` unmasks them. An embedder that
//! holds the store for the whole lend says so by `keep_mapped_while_lent`, an unsafe function,
//! and saves the remapping.
//!
//! | file | content |
//! |---|---|
//! | `parcel` | values without a store |
//! | `packed` | regions without a store |
//! | `few` | a list that is usually short |
//! | `lending`, `borrowed` | lends, from either side |
//! | `error` | the ways in which regions pass, and the reasons why they do not |

mod borrowed;
mod error;
mod few;
mod lending;
mod packed;
mod parcel;

use std::sync::Arc;

use crate::ctx::RegionCtx;
use crate::host::Owner;

pub use self::borrowed::Borrowed;
pub use self::error::{PackError, Transfer};
pub(crate) use self::lending::LendRevoker;
pub use self::lending::{Lending, Lends};
pub use self::packed::PackedRegions;
pub use self::parcel::{Parcel, is_region};

/// The receiver of a [`Parcel`]; see [`RegionCtx::recipient`].
#[derive(Debug, Clone)]
pub struct Recipient(Arc<Owner>);

impl Recipient {
    pub(crate) fn owner(&self) -> &Arc<Owner> {
        &self.0
    }
}

impl RegionCtx {
    /// Returns this guest as a receiver of regions, on its account.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient(self.owner.clone())
    }
}
