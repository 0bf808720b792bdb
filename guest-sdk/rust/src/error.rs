//! The error of operations on regions and windows.

use std::fmt;

use crate::bindings::regions::ErrorCode;
use crate::granule::GRANULE;

/// The reason for a refusal. An operation that returns one of these has changed
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// An argument is malformed. The text names the argument and the reason.
    InvalidArgument(String),
    /// A window does not begin on a granule, or a span of pins does not begin or end
    /// on one. The text names the offset.
    Misaligned(String),
    /// A span lies outside the region. The text names the span.
    OutOfBounds(String),
    /// The handle lacks the right, or the operation is not allowed for a lent handle.
    NotPermitted,
    /// A window, guard or copy conflicts with the request, or a queued waiter wants
    /// these bytes, or the claim is lent at the moment.
    WouldBlock,
    /// The request would wait for good, because this guest itself has a window that
    /// conflicts with it. The text names the window.
    ///
    /// Only calls that wait return this. The corresponding `try_` calls return
    /// [`Error::WouldBlock`].
    Deadlock(String),
    /// The region is frozen.
    Frozen,
    /// The claim does not pin all of these bytes.
    Unpinned,
    /// The region was frozen and then purged. Its bytes are lost for good.
    Purged,
    /// Another window already covers that part of this guest's memory.
    Overlap,
    /// The handle or the window ended because its lend ended, or because it was moved.
    Gone,
    /// A guest died while it had a window for writing, so the contents may be
    /// half-written.
    Poisoned,
    /// A limit is exhausted. The text names it.
    Exhausted(String),
    /// This host does not support the request. The text gives the reason.
    ///
    /// On a host that cannot map, [`Region::read_at`](crate::Region::read_at) and
    /// [`Region::write_at`](crate::Region::write_at) still work. Live windows are
    /// refused if this guest does not take turns with any other, or not with those that
    /// have live windows on the bytes.
    Unsupported(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidArgument(text) => write!(f, "invalid argument: {text}"),
            Self::Misaligned(text) => write!(
                f,
                "misaligned: {text}; windows begin, and pins begin and end, at multiples of \
                 {GRANULE} bytes"
            ),
            Self::OutOfBounds(text) => write!(f, "out of bounds: {text}"),
            Self::NotPermitted => f.write_str(
                "not permitted: the handle lacks the right, or is lent; ask its holder for a \
                 handle with more rights",
            ),
            Self::WouldBlock => f.write_str(
                "would block: the bytes are in use or reserved, or the region is lent; drop this \
                 guest's own windows on them, wait, or try again later",
            ),
            Self::Deadlock(text) => write!(f, "deadlock: {text}"),
            Self::Frozen => f.write_str(
                "frozen: the region is immutable; copy its contents into a new region to change \
                 them",
            ),
            Self::Unpinned => f.write_str(
                "unpinned: the claim does not pin all of these bytes; pin them first with `pin`",
            ),
            Self::Purged => f.write_str(
                "purged: the frozen region lost its contents while it was unpinned; drop it, and \
                 create a new one",
            ),
            Self::Overlap => {
                f.write_str("overlap: another window already covers that part of the memory")
            }
            Self::Gone => f.write_str(
                "gone: the handle or window ended with its lend, or was moved; get a new handle",
            ),
            Self::Poisoned => f.write_str(
                "poisoned: a guest died while it was writing to the region; repair the contents \
                 and call `clear_poison`, or drop the region",
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

/// Serves guests whose own interfaces return `error-code`.
///
/// `error-code` has no case for [`Error::Deadlock`], which becomes `would-block`.
impl From<Error> for ErrorCode {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidArgument(text) => Self::InvalidArgument(text),
            Error::Misaligned(text) => Self::Misaligned(text),
            Error::OutOfBounds(text) => Self::OutOfBounds(text),
            Error::NotPermitted => Self::NotPermitted,
            Error::WouldBlock | Error::Deadlock(_) => Self::WouldBlock,
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
