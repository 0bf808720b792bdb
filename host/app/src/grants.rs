//! The grants of an app to its guests: channels, scopes, and signals of its end.

use std::sync::Arc;

use super::channel::Channels;
use super::scope::Scopes;
use super::signals::AppSignals;
use tombolo_exchange::GuestId;

/// Everything that an app grants to its guests.
#[derive(Clone)]
pub(super) struct AppGrants {
    pub(super) channels: Arc<Channels>,
    pub(super) scopes: Arc<Scopes>,
    pub(super) signals: AppSignals,
}

impl AppGrants {
    /// Returns what one guest may use of it.
    pub(super) fn of(&self, guest: GuestId) -> Grants {
        Grants {
            guest,
            app: self.clone(),
        }
    }
}

/// The grants of one guest.
pub(super) struct Grants {
    pub(super) guest: GuestId,
    pub(super) app: AppGrants,
}
