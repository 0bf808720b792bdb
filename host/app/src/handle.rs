//! What can be done about a running app, from any thread.

use std::sync::Arc;

use super::App;
use super::call::Calls;
use super::oom::OomKiller;
use super::report::KillReport;
use super::status::StopReason;
use tombolo::RegionHost;
use tombolo_region::escape;

/// A running app, for whoever steers it: from any thread, and while
/// [`App::run`] has the app itself.
///
/// It keeps no guest alive.
#[derive(Clone)]
pub struct AppHandle {
    calls: Arc<Calls>,
    killer: Arc<OomKiller>,
    host: RegionHost,
}

/// There is no guest of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no guest `{}`; the guests are {}", escape(guest), list(.guests))]
pub struct NoSuchGuest {
    /// The name that was asked for.
    pub guest: String,
    /// The names that there are.
    pub guests: Vec<String>,
}

fn list(names: &[String]) -> String {
    let names: Vec<String> = names
        .iter()
        .map(|name| format!("`{}`", escape(name)))
        .collect();
    names.join(", ")
}

impl App {
    /// What steers the app while it runs.
    #[must_use]
    pub fn handle(&self) -> AppHandle {
        AppHandle {
            calls: self.calls.clone(),
            killer: self.killer.clone(),
            host: self.host.clone(),
        }
    }
}

impl AppHandle {
    /// Purges all bytes that no guest pins, and returns how many there were. As after any
    /// purge, guests learn of the loss only when they pin the bytes. Blocks for about 10 ms
    /// for each 100 MiB.
    pub fn purge(&self) -> u64 {
        // No more than now, because guests go on unpinning.
        self.host.purge(self.host.purgeable())
    }

    /// Ends a guest, for the given reason, which its callers are told.
    ///
    /// It takes effect at the next tick of the epoch if the guest computes, and
    /// at once if it waits: in a host call, for another guest, for calls, or for
    /// its start. Its memory goes first, with its windows, which poison regions
    /// as at any death; then what it was lent is back with the lender; then its
    /// callers get a [`peer-failed`](super#a-guest-that-is-ended). Calls that it
    /// made go on to their ends. Nothing happens if it has ended already.
    ///
    /// # Errors
    ///
    /// [`NoSuchGuest`].
    pub fn end_guest(&self, guest: &str, reason: impl Into<String>) -> Result<(), NoSuchGuest> {
        self.exists(guest)?;
        let told = StopReason {
            reason: reason.into().into(),
            app_shutdown: false,
        };
        for status in self.killer.statuses(guest) {
            status.end(told.clone());
        }
        Ok(())
    }

    /// Waits until a guest has ended, in whatever way, and its memory is back. Of one
    /// that is started again, that is the status which it has at this moment, or is
    /// about to have.
    ///
    /// # Errors
    ///
    /// [`NoSuchGuest`].
    pub async fn exited(&self, guest: &str) -> Result<(), NoSuchGuest> {
        self.exists(guest)?;
        for status in self.killer.statuses(guest) {
            status.exited().await;
        }
        Ok(())
    }

    fn exists(&self, guest: &str) -> Result<(), NoSuchGuest> {
        exists(guest, self.killer.names())
    }

    /// Ends the app in order: the commands at once, or, if one of them hears of it,
    /// after their [stop timeout](super::AppBuilder::stop_timeout); the others when they have
    /// answered the calls that they are at, for which they have a second.
    /// [`App::run`] returns then.
    pub fn stop(&self) {
        self.calls.stop_app();
    }

    /// Ends one guest to free memory, or counts that it would have been ended,
    /// as [`AppBuilder::on_pressure`](super::AppBuilder::on_pressure) says.
    /// To be called when memory is critically short, and purging has freed
    /// nothing.
    ///
    /// Returns when the memory of the guest is back. While an earlier one's is
    /// not, nobody else is ended: then it waits for that, and returns `None`, so
    /// that one looks again whether memory is still short. `None` as well if
    /// there is nobody to be ended.
    ///
    /// What it has begun goes on if the future is dropped.
    pub async fn kill_for_memory(&self) -> Option<KillReport> {
        self.killer.kill_for_memory().await
    }
}

impl std::fmt::Debug for AppHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppHandle").finish_non_exhaustive()
    }
}

/// Fails, with the names that there are, if this is none of them.
pub(super) fn exists<'a>(
    guest: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), NoSuchGuest> {
    let names: Vec<String> = names.map(str::to_owned).collect();
    match names.iter().any(|name| name == guest) {
        true => Ok(()),
        false => Err(NoSuchGuest {
            guest: guest.to_owned(),
            guests: names,
        }),
    }
}
