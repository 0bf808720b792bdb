//! The identity of a guest within its app.

/// The identity of a guest in an app: its place in the order in which the guests were added.
///
/// A guest keeps its id when it is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestId(usize);

impl GuestId {
    /// Returns the id of the guest at this place.
    #[must_use]
    pub fn new(index: usize) -> GuestId {
        GuestId(index)
    }

    /// Returns the guest's place.
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}
