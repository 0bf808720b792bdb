//! The guests of an app: one record for each.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use wasmtime::component::Linker;

use super::guests::{Inbox, Mailbox};
use super::oom::GuestView;
use super::report::{GuestReport, RestartReport};
use super::state::GuestState;
use super::status::{GuestStatus, StopReason};
use super::template::GuestTemplate;
use tombolo::Recipient;
use tombolo_exchange::{GuestId, Turn};

/// All guests of an app, by their ids.
///
/// Linkers hold a weak reference to it, because it holds them: otherwise it would never be
/// freed.
pub(super) struct GuestTable(Vec<GuestEntry>);

/// All that is known of one guest.
pub(super) struct GuestEntry {
    pub(super) peer: Arc<Peer>,
    pub(super) template: GuestTemplate,
    /// Set once, when the guests are linked. Guests that call nobody share one.
    linker: OnceLock<Arc<Linker<GuestState>>>,
}

/// The part of an entry that other guests, the OOM killer and handles of the app use. They may
/// keep it for longer than the guest lives.
pub(super) struct Peer {
    pub(super) id: GuestId,
    pub(super) name: Arc<str>,
    /// The turn of its strand.
    turn: Arc<Turn>,
    /// How many calls it answers at a time, if it has async functions.
    tasks: Option<u32>,
    record: Mutex<Record>,
}

/// The part of a guest that changes.
struct Record {
    /// The mailbox of the incarnation that runs now, or will next.
    mailbox: Arc<Mailbox>,
    /// The status of the same incarnation.
    status: Arc<GuestStatus>,
    /// How often the guest failed in a row.
    failures: u32,
    /// A report of the incarnations before, if there were any.
    history: Option<(GuestReport, RestartReport)>,
}

/// Makes the mailbox of an incarnation.
fn mailbox(
    tasks: Option<u32>,
    id: GuestId,
    name: &Arc<str>,
    turn: &Arc<Turn>,
    to: Recipient,
) -> (Arc<Mailbox>, Inbox) {
    let (name, turn) = (name.clone(), turn.clone());
    match tasks {
        Some(most) => Mailbox::of_tasks(id, name, turn, to, most as usize),
        None => Mailbox::new(id, name, turn, to),
    }
}

impl GuestEntry {
    /// Makes an entry from the state of the guest's first incarnation. Returns the inbox of
    /// that incarnation as well.
    pub(super) fn new(
        id: GuestId,
        template: GuestTemplate,
        state: &GuestState,
    ) -> (GuestEntry, Inbox) {
        let name: Arc<str> = template.spec.name.as_str().into();
        let turn = template.strand.turn.clone();
        let tasks = template.tasks.then_some(template.limits.tasks);
        let (mailbox, inbox) = mailbox(tasks, id, &name, &turn, state.recipient());
        let peer = Peer {
            id,
            name,
            turn,
            tasks,
            record: Mutex::new(Record {
                mailbox,
                status: state.status.clone(),
                failures: 0,
                history: None,
            }),
        };
        let entry = GuestEntry {
            peer: Arc::new(peer),
            template,
            linker: OnceLock::new(),
        };
        (entry, inbox)
    }

    /// Sets what the guest is linked to.
    pub(super) fn set_linker(&self, linker: Arc<Linker<GuestState>>) {
        let _ = self.linker.set(linker);
    }

    /// Returns what the guest is linked to.
    ///
    /// # Panics
    ///
    /// If the guests are not linked yet.
    pub(super) fn linker(&self) -> &Linker<GuestState> {
        self.linker
            .get()
            .expect("guests start after they are linked")
    }
}

impl Peer {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the mailbox of the current incarnation.
    pub(super) fn mailbox(&self) -> Arc<Mailbox> {
        self.record().mailbox.clone()
    }

    /// Returns the status of the current incarnation.
    pub(super) fn status(&self) -> Arc<GuestStatus> {
        self.record().status.clone()
    }

    /// Notes why the current incarnation has ended, for those that call it from now on.
    pub(super) fn set_exit_reason(&self, why: String) {
        self.mailbox().set_exit_reason(why);
    }

    /// Begins a new incarnation. From now on callers, the OOM killer and the app's handles
    /// see this one.
    pub(super) fn new_incarnation(&self, to: Recipient, status: Arc<GuestStatus>) -> Inbox {
        let (mailbox, inbox) = mailbox(self.tasks, self.id, &self.name, &self.turn, to);
        let mut record = self.record();
        let before = (
            std::mem::replace(&mut record.mailbox, mailbox),
            std::mem::replace(&mut record.status, status),
        );
        drop(record);
        drop(before);
        inbox
    }

    /// Counts a failure and returns how many there were in a row. If the guest was
    /// `healthy`, the count begins anew.
    pub(super) fn count_failure(&self, healthy: bool) -> u32 {
        let mut record = self.record();
        if healthy {
            record.failures = 0;
        }
        record.failures = record.failures.saturating_add(1);
        record.failures
    }

    /// Keeps what the incarnations up to now did.
    pub(super) fn set_history(&self, report: GuestReport, restart: RestartReport) {
        self.record().history = Some((report, restart));
    }

    /// Takes what the earlier incarnations did.
    pub(super) fn take_history(&self) -> Option<(GuestReport, RestartReport)> {
        self.record().history.take()
    }

    /// Returns what the OOM killer needs to know of the guest, as it is now.
    pub(super) fn view(&self) -> GuestView {
        GuestView {
            id: self.id,
            name: self.name.clone(),
            status: self.status(),
        }
    }

    /// Makes the current incarnation end because the app does.
    pub(super) fn end_with_app(&self, reason: &str) {
        self.status().end(StopReason {
            reason: reason.into(),
            app_shutdown: true,
        });
    }
}

impl GuestTable {
    pub(super) fn new(entries: Vec<GuestEntry>) -> GuestTable {
        GuestTable(entries)
    }

    pub(super) fn entry(&self, guest: GuestId) -> &GuestEntry {
        &self.0[guest.index()]
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &GuestEntry> {
        self.0.iter()
    }

    /// Returns the refusal of a call that would close this cycle.
    pub(super) fn refuse_cycle(&self, cycle: &[GuestId]) -> String {
        never_returns(cycle.iter().map(|guest| &*self.entry(*guest).peer.name))
    }

    /// Notifies all guests that no command runs any more.
    pub(super) fn notify_stop(&self) {
        for entry in &self.0 {
            entry.peer.mailbox().notify_stop();
        }
    }
}

/// Returns the refusal of a call that would close this cycle.
fn never_returns<'a>(cycle: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = cycle.map(|name| format!("`{name}`")).collect();
    format!("the call would never return: {}", names.join(" waits for "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_names_the_cycle() {
        let text = never_returns(["c", "a", "c"].into_iter());
        assert_eq!(
            text,
            "the call would never return: `c` waits for `a` waits for `c`"
        );
    }
}
