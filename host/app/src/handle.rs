//! Steering a running app from any thread.
//!
//! # The end of an app
//!
//! [`AppHandle::stop`] begins it. Commands that import `lifecycle` are told, and all commands
//! have the stop timeout, or 1 s once those that were told have ended. If no command imports it,
//! all are ended at once. When no command is left, the other guests have 1 s to answer their
//! current calls. Then they are told to end, and after another second they are dropped.
//!
//! A guest that fails while the app ends might have been restarted otherwise. Its failure is
//! logged, and does not count as a failure of the app. So the exit code does not depend on
//! whether it came just before or just after the end of the last command.

use std::sync::Arc;

use super::oom::OomKiller;
use super::report::KillReport;
use super::signals::AppSignals;
use super::status::{GuestStatus, StopReason};
use super::table::{GuestTable, Peer};
use tombolo::RegionHost;
use tombolo_region::escape;

/// A handle to a running app. It works from any thread, also while
/// [`App::run`](super::App::run) has the app itself.
///
/// It keeps no guest alive.
#[derive(Clone)]
pub struct AppHandle {
    guests: Arc<[Arc<Peer>]>,
    killer: Arc<OomKiller>,
    signals: AppSignals,
    host: RegionHost,
}

/// The error that there is no guest of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no guest `{}`; the guests are {}", escape(guest), list(.guests))]
#[non_exhaustive]
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

impl AppHandle {
    pub(super) fn new(
        table: &GuestTable,
        killer: Arc<OomKiller>,
        signals: AppSignals,
        host: RegionHost,
    ) -> AppHandle {
        AppHandle {
            guests: table.iter().map(|entry| entry.peer.clone()).collect(),
            killer,
            signals,
            host,
        }
    }

    /// Purges all bytes that no guest pins, and returns how many there were. As after any
    /// purge, guests learn of the loss only when they pin the bytes.
    ///
    /// Blocks for about 10 ms for each 100 MiB.
    pub fn purge(&self) -> u64 {
        // No more than is purgeable now, because guests go on unpinning.
        self.host.purge(self.host.purgeable())
    }

    /// Ends a guest for the given reason, of which its callers are told. Does not block, and
    /// does nothing if the guest has ended already.
    ///
    /// A guest that computes ends at the next tick of the epoch, within 10 ms. A guest that
    /// waits ends at once: in a host call, for another guest, for calls, or for its start.
    ///
    /// Its memory goes first, with its windows, which poisons regions as at any death. Then
    /// what it borrowed is back with the lender. Then its callers get a
    /// [`peer-failed`](super#guests-that-are-ended). Calls that it made go on to their ends.
    ///
    /// # Errors
    ///
    /// [`NoSuchGuest`].
    pub fn end_guest(&self, guest: &str, reason: impl Into<String>) -> Result<(), NoSuchGuest> {
        let reason = StopReason {
            reason: reason.into().into(),
            app_shutdown: false,
        };
        for status in self.statuses(guest)? {
            status.end(reason.clone());
        }
        Ok(())
    }

    /// Waits until a guest has ended, in whatever way, and its memory is freed. Of a guest
    /// that is restarted, that is the incarnation which it has at this moment, or is about
    /// to have. The future can be dropped at any time.
    ///
    /// # Errors
    ///
    /// [`NoSuchGuest`].
    pub async fn exited(&self, guest: &str) -> Result<(), NoSuchGuest> {
        for status in self.statuses(guest)? {
            status.exited().await;
        }
        Ok(())
    }

    fn statuses(&self, guest: &str) -> Result<Vec<Arc<GuestStatus>>, NoSuchGuest> {
        exists(guest, self.guests.iter().map(|peer| &*peer.name))?;
        let named = self.guests.iter().filter(|peer| &*peer.name == guest);
        Ok(named.map(|peer| peer.status()).collect())
    }

    /// Stops the app in order, and makes [`App::run`](super::App::run) return. Does not block.
    ///
    /// Commands end at once or, if any of them imports `tombolo:app/lifecycle`, after the
    /// [stop timeout](super::AppBuilder::stop_timeout). Other guests end when they have
    /// answered their current calls, for which they have a second.
    pub fn stop(&self) {
        self.signals.stop();
    }

    /// Ends one guest to free memory, or counts that it would have been ended, as
    /// [`AppBuilder::on_pressure`](super::AppBuilder::on_pressure) says. Call it when memory
    /// is critically short and purging has freed nothing, on a tokio runtime.
    ///
    /// Returns when the memory of the guest is freed. While the memory of an earlier one is
    /// not, no other guest is ended: this waits for it and returns `None`, so that the
    /// caller looks again whether memory is still short. It also returns `None` if no guest
    /// may be ended.
    ///
    /// If the future is dropped, a kill that has begun goes on.
    ///
    /// # Panics
    ///
    /// If the hook of [`AppBuilder::before_kill`](super::AppBuilder::before_kill) panics. No
    /// guest is ended then.
    pub async fn kill_for_memory(&self) -> Option<KillReport> {
        let guests = self.guests.clone();
        let views = move || guests.iter().map(|peer| peer.view()).collect();
        self.killer.kill_for_memory(views).await
    }
}

impl std::fmt::Debug for AppHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppHandle").finish_non_exhaustive()
    }
}

/// Fails if `guest` is none of these names. The error lists them.
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
