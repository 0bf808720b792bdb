//! An incarnation of a guest before it starts, and whether there is a next one.

use std::time::Duration;

use super::guests::Inbox;
use super::state::GuestState;
use super::status::ExitGuard;
use tombolo_exchange::GuestId;

/// A guest that is about to start, for the first time or again.
pub(super) struct Incarnation {
    pub(super) guest: GuestId,
    pub(super) state: GuestState,
    pub(super) inbox: Inbox,
    /// How long to wait before the start.
    pub(super) delay: Duration,
    /// Declared after the state, so that its memory is gone when the status says so, even if
    /// it never starts.
    pub(super) exit_guard: ExitGuard,
}

impl Incarnation {
    /// Makes an incarnation that starts after `delay`.
    pub(super) fn new(
        guest: GuestId,
        state: GuestState,
        inbox: Inbox,
        delay: Duration,
    ) -> Incarnation {
        Incarnation {
            guest,
            exit_guard: ExitGuard(state.status.clone()),
            state,
            inbox,
            delay,
        }
    }
}

/// Whether a guest that failed is restarted.
pub(super) enum RestartDecision {
    /// It is.
    Restart(Box<Incarnation>),
    /// It would be if the app did not end.
    AppEnding,
    /// It is not.
    Never,
}
