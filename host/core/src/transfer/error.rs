//! The ways in which regions pass, and the reasons why they do not.

use std::fmt;

use tombolo_region::escape;

use crate::error::{MemoryError, RegionError};

/// A way in which a region passes from one holder to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transfer {
    /// For one call: `borrow<region>`.
    Lend,
    /// For good: `region`.
    Move,
}

impl fmt::Display for Transfer {
    /// Writes `lent` or `moved`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Transfer::Lend => "lent",
            Transfer::Move => "moved",
        })
    }
}

/// A reason why values could not be sent.
///
/// The text of the error and its source is for the operator: it names a region, and has the
/// numbers of limits. Neither is meant for both guests. The texts for the guests are
/// [`for_sender`](PackError::for_sender) and [`for_receiver`](PackError::for_receiver).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A region among them may not be lent or moved, so none was. The sender's windows stay. The
    /// handles that it wanted to move are dropped, because the canonical ABI took them before.
    #[error("region `{}` cannot be {transfer}", escape(region))]
    Refused {
        /// The region's name.
        region: String,
        /// The refused transfer.
        transfer: Transfer,
        /// The reason.
        #[source]
        reason: RegionError,
    },
    /// The sender cannot go on.
    #[error(transparent)]
    Fatal(#[from] wasmtime::Error),
}

impl PackError {
    /// Returns the text for the sender. It names the sender's region and the reason, but not the
    /// numbers of the receiver's limits.
    #[must_use]
    pub fn for_sender(&self) -> String {
        match self {
            PackError::Refused {
                region,
                transfer,
                reason,
            } => {
                let reason = reason.for_others();
                format!("region `{region}` cannot be {transfer}: {reason}")
            }
            PackError::Fatal(_) => "the sender cannot go on".to_owned(),
        }
    }

    /// Returns the text for the receiver. It has the reason, but does not name the region, which
    /// the receiver may not know.
    #[must_use]
    pub fn for_receiver(&self) -> String {
        match self {
            PackError::Refused {
                transfer, reason, ..
            } => {
                let reason = reason.for_its_guest();
                format!("a region among them cannot be {transfer}: {reason}")
            }
            PackError::Fatal(_) => "the sender cannot go on".to_owned(),
        }
    }
}

impl From<MemoryError> for PackError {
    fn from(error: MemoryError) -> PackError {
        PackError::Fatal(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombolo_region::Exhausted;

    fn refused(reason: RegionError) -> PackError {
        PackError::Refused {
            region: "secret\n".to_owned(),
            transfer: Transfer::Move,
            reason,
        }
    }

    // rule 1
    #[test]
    fn receiver_does_not_learn_the_region() {
        let error = refused(RegionError::Purged);
        assert_eq!(
            error.for_receiver(),
            "a region among them cannot be moved: the region was frozen, and purged since"
        );
        assert_eq!(error.to_string(), r"region `secret\n` cannot be moved");
        assert!(error.for_sender().starts_with("region `secret\n` cannot"));
    }

    // rule 1
    #[test]
    fn sender_does_not_learn_the_receivers_limits() {
        let mut exhausted = Exhausted::new("guest `b`", "handles");
        (exhausted.used, exhausted.asked, exhausted.most) = (12_345, 23_456, 34_567);
        let error = refused(RegionError::Exhausted(exhausted));
        let told = error.for_sender();
        assert!(
            told.ends_with("limit `handles` of guest `b` is used up"),
            "{told}"
        );
        let own = error.for_receiver();
        assert!(own.contains("23456 more asked for, 34567 allowed"), "{own}");
    }

    // rule 1
    #[test]
    fn neither_learns_the_kernels_message() {
        let system = std::io::Error::other("/proc/self/fd/7 says no");
        let error = refused(RegionError::from(system));
        for told in [error.for_sender(), error.for_receiver()] {
            assert!(told.ends_with("the host's system refused"), "{told}");
        }
    }
}
