//! Pins: keeping bytes from being purged, and learning which were lost.

/// The state of bytes that were pinned again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "lost bytes read as zeros"]
pub enum Pinned<T> {
    /// All bytes are as they were.
    Intact(T),
    /// Some of the bytes were purged, and read as zeros now. Recreate them.
    Lost(T),
}

impl<T> Pinned<T> {
    /// Returns whether some of the bytes were lost.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    /// Returns the pinned object, whatever the state of its bytes.
    pub fn into_inner(self) -> T {
        match self {
            Self::Intact(it) | Self::Lost(it) => it,
        }
    }

    pub(crate) fn map<U>(self, then: impl FnOnce(T) -> U) -> Pinned<U> {
        match self {
            Self::Intact(it) => Pinned::Intact(then(it)),
            Self::Lost(it) => Pinned::Lost(then(it)),
        }
    }
}
