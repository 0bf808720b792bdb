//! The identities of regions and hosts. Those of regions reveal nothing about other regions.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use tombolo_region::RegionNumber;

/// The bits of an identity: as many as readers of JSON keep exactly, and even.
const BITS: u32 = 52;
const HALF: u32 = BITS / 2;
const MASK: u64 = (1 << HALF) - 1;

/// Four are enough for a permutation that cannot be told from a random one, if the
/// function of each round cannot (Luby and Rackoff, 1988).
const ROUNDS: u32 = 8;

/// The identity of a region: equal for all handles to it, never used again by the same
/// [`RegionHost`](crate::RegionHost), and below 2^52. Identities are in no order that means
/// anything.
///
/// Guests, logs and reports have it as a number. `u64::from` returns the number, and
/// `RegionId::from` the identity that a guest names by a number.
///
/// ```
/// # fn main() -> Result<(), tombolo::RegionError> {
/// use tombolo::{RegionHost, RegionId};
///
/// let region = RegionHost::new().create("greeting", 5)?;
/// let number = u64::from(region.id());
/// assert_eq!(region.id().to_string(), number.to_string());
/// assert_eq!(RegionId::from(number), region.id());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(u64);

impl fmt::Display for RegionId {
    /// Writes the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for RegionId {
    /// Returns the identity with this number. There may be no such region.
    fn from(number: u64) -> RegionId {
        RegionId(number)
    }
}

impl From<RegionId> for u64 {
    fn from(id: RegionId) -> u64 {
        id.0
    }
}

/// The identity of a host, which no other host of the process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostId(u64);

impl HostId {
    /// Returns a new identity.
    pub(crate) fn fresh() -> HostId {
        static LAST: AtomicU64 = AtomicU64::new(0);
        HostId(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// A source of identities below 2^52: each once, and in an order that nobody can foresee.
///
/// They are a counter's numbers after a permutation: a Feistel network over hashes with a
/// random key. So there is no need to remember earlier ones, and a guest that knows some of
/// them cannot tell how many there are.
#[derive(Debug)]
pub(crate) struct Identities {
    last: AtomicU64,
    key: RandomState,
}

impl Identities {
    /// Begins anew, with a key from the system's source of randomness.
    pub(crate) fn new() -> Identities {
        Identities {
            last: AtomicU64::new(0),
            key: RandomState::new(),
        }
    }

    /// Returns the next number, counted from 1, and the identity that belongs to it.
    pub(crate) fn next(&self) -> (RegionNumber, RegionId) {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        // At a million a second, that is a hundred years.
        assert!(number >> BITS == 0, "all identities are used up");
        (RegionNumber::new(number), RegionId(self.permute(number)))
    }

    fn permute(&self, number: u64) -> u64 {
        let (mut left, mut right) = (number >> HALF, number & MASK);
        for round in 0..ROUNDS {
            let hash = self.key.hash_one((round, right)) & MASK;
            (left, right) = (right, left ^ hash);
        }
        left << HALF | right
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const MANY: usize = 100_000;

    fn some(identities: &Identities) -> Vec<u64> {
        (0..MANY).map(|_| identities.next().1.into()).collect()
    }

    // rule 1
    #[test]
    fn identities_are_unique() {
        let identities = some(&Identities::new());
        assert!(identities.iter().all(|id| id >> BITS == 0));
        assert_eq!(identities.iter().collect::<BTreeSet<_>>().len(), MANY);
    }

    /// The order of two tells nothing about which was first, and how far they are
    /// apart nothing about how many are between them.
    // rule 1
    #[test]
    fn identities_are_in_no_order() {
        let identities = some(&Identities::new());
        let pairs = || identities.windows(2).map(|pair| (pair[0], pair[1]));
        let rising = pairs().filter(|(a, b)| a < b).count();
        // Half of them, and seven times the standard deviation.
        assert!(rising.abs_diff(MANY / 2) < 1_200, "{rising}");
        let near = pairs().filter(|(a, b)| a.abs_diff(*b) < 1 << 32).count();
        assert!(near < 50, "{near}");
    }

    #[test]
    fn each_bit_is_set_in_half_of_the_identities() {
        let identities = some(&Identities::new());
        for bit in 0..BITS {
            let set = identities.iter().filter(|id| **id >> bit & 1 == 1).count();
            assert!(set.abs_diff(MANY / 2) < 1_200, "bit {bit}: {set}");
        }
    }

    #[test]
    fn other_hosts_have_other_identities() {
        let (one, other) = (some(&Identities::new()), some(&Identities::new()));
        let same = one.iter().zip(&other).filter(|(a, b)| a == b).count();
        assert!(same <= 1, "{same}");
    }
}
