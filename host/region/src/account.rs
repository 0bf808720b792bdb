//! Accounts: the resources that one guest, or the whole host, holds.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A resource that an account limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChargeKind {
    /// Claims on regions. In the host's account: regions.
    Regions,
    /// Bytes of the claimed regions, by their sizes. In the host's account: each region once.
    ClaimedBytes,
    /// Handles to regions, and to resources of other guests.
    Handles,
    /// Windows of guests and guards of the host program.
    Windows,
    /// Separate runs of granules that the claims do not pin.
    UnpinnedSpans,
    /// Bytes of the host's own memory that are used for a guest.
    HostMemory,
}

const KINDS: usize = 6;

impl ChargeKind {
    /// Returns the name of the limit as operators write it, for example `claimed-bytes`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ChargeKind::Regions => "regions",
            ChargeKind::ClaimedBytes => "claimed-bytes",
            ChargeKind::Handles => "handles",
            ChargeKind::Windows => "windows",
            ChargeKind::UnpinnedSpans => "unpinned-spans",
            ChargeKind::HostMemory => "host-memory",
        }
    }
}

/// The limits of an account.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Limit of [`ChargeKind::Regions`].
    pub regions: u64,
    /// Limit of [`ChargeKind::ClaimedBytes`], in bytes.
    pub claimed_bytes: u64,
    /// Limit of [`ChargeKind::Handles`].
    pub handles: u64,
    /// Limit of [`ChargeKind::Windows`].
    pub windows: u64,
    /// Limit of [`ChargeKind::UnpinnedSpans`].
    pub unpinned_spans: u64,
    /// Limit of [`ChargeKind::HostMemory`], in bytes.
    pub host_memory: u64,
}

/// The resources that one guest, or the host as a whole, holds at the moment.
///
/// A [`Charge`] is taken before anything is allocated, and returned when it is dropped. All
/// operations are lock-free and take constant time.
pub struct Account {
    /// The owner's name, for errors.
    owner: String,
    used: [AtomicU64; KINDS],
    most: [u64; KINDS],
}

impl Account {
    /// Creates an empty account. The owner's name, for example ``guest `a` ``, appears in
    /// errors.
    #[must_use]
    pub fn new(owner: impl Into<String>, quota: Quota) -> Arc<Account> {
        Arc::new(Account {
            owner: owner.into(),
            used: Default::default(),
            most: [
                quota.regions,
                quota.claimed_bytes,
                quota.handles,
                quota.windows,
                quota.unpinned_spans,
                quota.host_memory,
            ],
        })
    }

    /// Charges `amount` to the account.
    ///
    /// # Errors
    ///
    /// Returns [`Exhausted`] if that would exceed the limit. Nothing has changed then.
    #[inline]
    pub fn charge(self: &Arc<Account>, kind: ChargeKind, amount: u64) -> Result<Charge, Exhausted> {
        self.take(kind, amount)?;
        Ok(Charge {
            account: self.clone(),
            kind,
            amount,
        })
    }

    #[inline]
    fn take(&self, kind: ChargeKind, amount: u64) -> Result<(), Exhausted> {
        let most = self.most[kind as usize];
        // Relaxed: the counter protects no other memory.
        self.used[kind as usize]
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(amount).filter(|sum| *sum <= most)
            })
            .map(|_| ())
            .map_err(|used| Exhausted {
                owner: self.owner.clone(),
                limit: kind.name(),
                used,
                asked: amount,
                most,
            })
    }

    /// Returns the limit of a kind.
    #[must_use]
    #[inline]
    pub fn most(&self, kind: ChargeKind) -> u64 {
        self.most[kind as usize]
    }

    /// Returns how much of a kind is charged at the moment.
    #[must_use]
    #[inline]
    pub fn used(&self, kind: ChargeKind) -> u64 {
        self.used[kind as usize].load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// An amount charged to an account, returned when this is dropped.
#[derive(Debug)]
#[must_use = "dropping a charge returns it to the account"]
pub struct Charge {
    account: Arc<Account>,
    kind: ChargeKind,
    amount: u64,
}

impl Charge {
    /// Returns the resource that is charged.
    #[must_use]
    pub fn kind(&self) -> ChargeKind {
        self.kind
    }

    /// Returns the account that is charged.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Charges `amount` more.
    ///
    /// # Errors
    ///
    /// Returns [`Exhausted`] if that would exceed the limit. Nothing has changed then.
    pub fn grow(&mut self, amount: u64) -> Result<(), Exhausted> {
        self.account.take(self.kind, amount)?;
        self.amount += amount;
        Ok(())
    }

    /// Changes the charge to `amount`. Less than before is never refused.
    ///
    /// # Errors
    ///
    /// Returns [`Exhausted`] if that would exceed the limit. Nothing has changed then.
    pub fn resize(&mut self, amount: u64) -> Result<(), Exhausted> {
        match amount.checked_sub(self.amount) {
            Some(more) => self.account.take(self.kind, more)?,
            None => {
                self.account.used[self.kind as usize]
                    .fetch_sub(self.amount - amount, Ordering::Relaxed);
            }
        }
        self.amount = amount;
        Ok(())
    }
}

impl Drop for Charge {
    #[inline]
    fn drop(&mut self) {
        self.account.used[self.kind as usize].fetch_sub(self.amount, Ordering::Relaxed);
    }
}

/// An error: a limit is used up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limit `{limit}` of {owner} is used up: {asked} more asked for, {most} allowed")]
#[non_exhaustive]
pub struct Exhausted {
    /// The owner of the limit.
    pub owner: String,
    /// The name of the limit, as in [`ChargeKind::name`].
    pub limit: &'static str,
    /// The amount in use.
    pub used: u64,
    /// The additional amount that was requested.
    pub asked: u64,
    /// The limit.
    pub most: u64,
}

impl Exhausted {
    /// Creates the error for a limit of an owner, with 0 for all amounts. Set these.
    pub fn new(owner: impl Into<String>, limit: &'static str) -> Exhausted {
        Exhausted {
            owner: owner.into(),
            limit,
            used: 0,
            asked: 0,
            most: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule 10
    #[test]
    fn charges_are_limited_and_returned_on_drop() {
        let quota = Quota {
            regions: 2,
            claimed_bytes: 10,
            handles: 1,
            windows: 0,
            unpinned_spans: 0,
            host_memory: 0,
        };
        let account = Account::new("guest `a`", quota);
        let mut first = account.charge(ChargeKind::ClaimedBytes, 5).unwrap();
        assert!(first.resize(11).is_err());
        first.resize(9).unwrap();
        first.resize(8).unwrap();
        let refused = account.charge(ChargeKind::ClaimedBytes, 3).unwrap_err();
        assert_eq!((refused.used, refused.limit), (8, "claimed-bytes"));
        assert!(account.charge(ChargeKind::ClaimedBytes, u64::MAX).is_err());
        drop(first);
        assert_eq!(account.used(ChargeKind::ClaimedBytes), 0);
        assert!(account.charge(ChargeKind::Windows, 1).is_err());
    }
}
