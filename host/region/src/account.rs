use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What an account counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChargeKind {
    /// Claims on regions; for the host, regions.
    Regions,
    /// Bytes of the claimed regions, whole sizes; for the host, each region
    /// once.
    ClaimedBytes,
    /// Handles to regions, and to resources of other guests.
    Handles,
    /// Windows, and the guards of the host program.
    Windows,
    /// Separate runs of granules that claims do not pin.
    UnpinnedSpans,
    /// Bytes of the host's own memory, for a guest that Tombolo runs.
    HostMemory,
}

const KINDS: usize = 6;

impl ChargeKind {
    /// The name of the limit, as the operator writes it.
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

/// The most that an account may hold of each kind.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// See [`ChargeKind::Regions`].
    pub regions: u64,
    /// See [`ChargeKind::ClaimedBytes`].
    pub claimed_bytes: u64,
    /// See [`ChargeKind::Handles`].
    pub handles: u64,
    /// See [`ChargeKind::Windows`].
    pub windows: u64,
    /// See [`ChargeKind::UnpinnedSpans`].
    pub unpinned_spans: u64,
    /// See [`ChargeKind::HostMemory`].
    pub host_memory: u64,
}

/// What one guest, or the host as a whole, holds at the moment.
///
/// A charge is taken before anything is allocated, and given back by dropping
/// it, so that no path can forget to.
pub struct Account {
    /// Whose account, for the error's text.
    owner: String,
    used: [AtomicU64; KINDS],
    most: [u64; KINDS],
}

impl Account {
    /// An account that holds nothing yet.
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

    /// Takes `amount` of a kind.
    ///
    /// # Errors
    ///
    /// [`Exhausted`] where that would go over the quota; nothing has changed.
    pub fn charge(self: &Arc<Account>, kind: ChargeKind, amount: u64) -> Result<Charge, Exhausted> {
        self.take(kind, amount)?;
        Ok(Charge {
            account: self.clone(),
            kind,
            amount,
        })
    }

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

    /// Returns how much of a kind the account allows.
    #[must_use]
    pub fn most(&self, kind: ChargeKind) -> u64 {
        self.most[kind as usize]
    }

    /// How much of a kind is taken.
    #[must_use]
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

/// A part of an account, given back when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Charge {
    account: Arc<Account>,
    kind: ChargeKind,
    amount: u64,
}

impl Charge {
    /// What it counts.
    #[must_use]
    pub fn kind(&self) -> ChargeKind {
        self.kind
    }

    /// The account that it is a part of.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Makes it larger.
    ///
    /// # Errors
    ///
    /// As for [`resize`](Charge::resize).
    pub fn grow(&mut self, amount: u64) -> Result<(), Exhausted> {
        self.account.take(self.kind, amount)?;
        self.amount += amount;
        Ok(())
    }

    /// Makes it larger or smaller.
    ///
    /// # Errors
    ///
    /// [`Exhausted`] where that would go over the quota; nothing has changed.
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
    fn drop(&mut self) {
        self.account.used[self.kind as usize].fetch_sub(self.amount, Ordering::Relaxed);
    }
}

/// A limit is used up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limit `{limit}` of {owner} is used up: {asked} more asked for, {most} allowed")]
pub struct Exhausted {
    /// Whose limit.
    pub owner: String,
    /// The name of the limit.
    pub limit: &'static str,
    /// How much is taken.
    pub used: u64,
    /// How much was asked for.
    pub asked: u64,
    /// The quota.
    pub most: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_over_the_quota_is_refused_and_a_dropped_one_given_back() {
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
