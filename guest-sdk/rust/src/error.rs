use std::fmt;

use crate::regions::ErrorCode;

/// Why something was refused. Nothing has changed when one of these is
/// returned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// An argument is malformed; the text says which, and why.
    InvalidArgument(String),
    /// A window does not begin on a granule, or a span of pins does not begin or
    /// end on one; the text says where.
    Misaligned(String),
    /// A span lies outside the region; the text says which.
    OutOfBounds(String),
    /// The handle lacks the right, or is one that was lent and may not do this.
    NotPermitted,
    /// Somebody holds these bytes in a conflicting way, or the claim is lent at
    /// the moment.
    WouldBlock,
    /// The region is frozen.
    Frozen,
    /// The claim does not pin all of these bytes.
    Unpinned,
    /// The region was frozen and then purged; its bytes are gone for good.
    Purged,
    /// Another window lies under that part of this guest's memory.
    Overlap,
    /// The handle or the window ended with its lend or its move.
    Gone,
    /// A writer died before it let go; the contents may be half-written.
    Poisoned,
    /// A limit is used up; the text names it.
    Exhausted(String),
    /// This host does not do that; the text says why. Where it cannot map,
    /// [`read_at`](crate::Region::read_at) and [`write_at`](crate::Region::write_at)
    /// work. A live window is refused where this guest takes turns with nobody, or
    /// not with those who have live windows on the bytes.
    Unsupported(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidArgument(text) => write!(f, "invalid argument: {text}"),
            Self::Misaligned(text) => write!(
                f,
                "misaligned: {text}; begin windows, and begin and end pins, at multiples of {}",
                crate::GRANULE
            ),
            Self::OutOfBounds(text) => write!(f, "out of bounds: {text}"),
            Self::NotPermitted => f.write_str(
                "not permitted: the handle lacks the right for this, or was only lent; \
                 ask its holder for a handle with more rights",
            ),
            Self::WouldBlock => f.write_str(
                "would block: these bytes are held in a conflicting way, or the region is lent; \
                 drop this guest's own windows on them, or try again later",
            ),
            Self::Frozen => {
                f.write_str("frozen: the region cannot be written any more; copy it into a new one")
            }
            Self::Unpinned => {
                f.write_str("unpinned: the claim does not pin all of these bytes; pin them first")
            }
            Self::Purged => f.write_str(
                "purged: the region was frozen, and its memory was needed while nobody pinned \
                 it; drop it, and make a new one",
            ),
            Self::Overlap => {
                f.write_str("overlap: another window lies under that part of the memory")
            }
            Self::Gone => {
                f.write_str("gone: the handle or window ended when its lend did, or was moved")
            }
            Self::Poisoned => f.write_str(
                "poisoned: a guest died while it wrote to the region; \
                 make the contents whole and call `clear_poison`, or drop the region",
            ),
            Self::Exhausted(text) => write!(f, "exhausted: {text}"),
            Self::Unsupported(text) => write!(f, "unsupported: {text}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::InvalidArgument(text) => Self::InvalidArgument(text),
            ErrorCode::Misaligned(text) => Self::Misaligned(text),
            ErrorCode::OutOfBounds(text) => Self::OutOfBounds(text),
            ErrorCode::NotPermitted => Self::NotPermitted,
            ErrorCode::WouldBlock => Self::WouldBlock,
            ErrorCode::Frozen => Self::Frozen,
            ErrorCode::Unpinned => Self::Unpinned,
            ErrorCode::Purged => Self::Purged,
            ErrorCode::Overlap => Self::Overlap,
            ErrorCode::Gone => Self::Gone,
            ErrorCode::Poisoned => Self::Poisoned,
            ErrorCode::Exhausted(text) => Self::Exhausted(text),
            ErrorCode::Unsupported(text) => Self::Unsupported(text),
        }
    }
}

/// For a guest whose own interface answers with `error-code`.
impl From<Error> for ErrorCode {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidArgument(text) => Self::InvalidArgument(text),
            Error::Misaligned(text) => Self::Misaligned(text),
            Error::OutOfBounds(text) => Self::OutOfBounds(text),
            Error::NotPermitted => Self::NotPermitted,
            Error::WouldBlock => Self::WouldBlock,
            Error::Frozen => Self::Frozen,
            Error::Unpinned => Self::Unpinned,
            Error::Purged => Self::Purged,
            Error::Overlap => Self::Overlap,
            Error::Gone => Self::Gone,
            Error::Poisoned => Self::Poisoned,
            Error::Exhausted(text) => Self::Exhausted(text),
            Error::Unsupported(text) => Self::Unsupported(text),
        }
    }
}
