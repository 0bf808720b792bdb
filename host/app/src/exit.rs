//! How an incarnation of a guest ended, and how others are told.

use std::time::{Duration, Instant};

use tombolo::internal::{RecipientInternals as _, RegionErrorInternals as _};
use tombolo::{Recipient, RegionError, WriteViolation};
use tombolo_exchange::GuestId;
use tombolo_region::{Charge, ChargeKind, Exhausted};

use super::clock::{BUG, Panicked, TimeUp};
use super::incarnation::{Incarnation, RestartDecision};
use super::outcome::CommandExit;
use super::report::{GuestEnd, GuestReport, RECORDS, RestartReport};
use crate::text;

/// How an incarnation of a guest ended.
pub(super) struct GuestExit {
    pub(super) guest: GuestId,
    /// The exit code, if the guest exited by itself.
    pub(super) code: Option<u8>,
    /// The text for the operator, if it failed.
    pub(super) failure: Option<String>,
    /// Whether it was told to end because the app does.
    pub(super) app_shutdown: bool,
    pub(super) report: GuestReport,
    /// How long it ran.
    pub(super) lived: Duration,
    /// When it ended, which is before any other guest learns of it.
    pub(super) at: Instant,
    /// The next incarnation, if it failed and is restarted.
    pub(super) next: Option<Incarnation>,
    /// Whether it failed, and would be restarted if the app did not end.
    pub(super) excused: bool,
}

impl GuestExit {
    /// Returns the exit of a guest that went down with a panic of the host.
    pub(super) fn panicked(
        guest: GuestId,
        name: &str,
        panicked: &Panicked,
        born: Instant,
    ) -> GuestExit {
        GuestExit {
            guest,
            code: None,
            failure: Some(format!("guest `{name}` was ended: {panicked}")),
            app_shutdown: false,
            report: GuestReport {
                name: name.to_owned(),
                end: GuestEnd::Failed,
                ..GuestReport::default()
            },
            lived: born.elapsed(),
            at: Instant::now(),
            next: None,
            excused: false,
        }
    }

    /// Notes whether the guest is restarted.
    pub(super) fn decide(&mut self, decision: RestartDecision) {
        match decision {
            RestartDecision::Restart(next) => self.next = Some(*next),
            RestartDecision::AppEnding => self.excused = true,
            RestartDecision::Never => {}
        }
    }

    /// Returns how it ended, as a command.
    pub(super) fn of_command(&self) -> CommandExit {
        match (self.code, &self.failure) {
            (Some(code), None) => CommandExit::Exit(code),
            _ if self.app_shutdown => CommandExit::Stopped,
            _ => CommandExit::Failed,
        }
    }

    /// Adds what the incarnations before it did, of which the last one failed like this.
    pub(super) fn add_history(&mut self, before: GuestReport, restart: RestartReport) {
        let report = &mut self.report;
        report.windows_total += before.windows_total;
        report.regions_released_total += before.regions_released_total;
        report.regions_created += before.regions_created;
        report.regions_freed += before.regions_freed;
        report.growths_refused += before.growths_refused;
        report.restarts_total = before.restarts_total + 1;
        report.restarts = before.restarts;
        if report.restarts.len() >= RECORDS {
            report.restarts.remove(0);
        }
        report.restarts.push(restart);
    }

    /// Returns the text of its failure, if it failed. An exit code other than 0 is one.
    pub(super) fn failure_text(&self) -> Option<String> {
        match (&self.failure, self.code) {
            (Some(failure), _) => Some(failure.clone()),
            (None, Some(code)) if code != 0 => Some(format!(
                "guest `{}` exited with code {code}",
                self.report.name
            )),
            _ => None,
        }
    }
}

/// Charges the results of a call to the caller.
///
/// # Errors
///
/// The text for the caller. The log for the operator also has the numbers.
pub(super) fn charge_results(
    caller: &Recipient,
    callee: &str,
    bytes: u64,
) -> Result<Charge, String> {
    let account = &caller.owner().account;
    account
        .charge(ChargeKind::HostMemory, bytes)
        .map_err(|exhausted| {
            tracing::info!("the results of guest `{callee}` cannot be passed: {exhausted}");
            let Exhausted { owner, limit, .. } = exhausted;
            format!("the results of guest `{callee}` are over the limit `{limit}` of {owner}")
        })
}

/// The longest text of a failure that is kept, in bytes. Names in it are the guest's own,
/// and reports keep many.
const MAX_FAILURE_BYTES: usize = 2048;

/// Shortens a text that is too long to keep.
pub(super) fn clip(mut text: String) -> String {
    if text.len() > MAX_FAILURE_BYTES {
        text.truncate(text.floor_char_boundary(MAX_FAILURE_BYTES));
        text.push('…');
    }
    text
}

/// Returns an error in one line: its causes, without a backtrace of wasm.
pub(super) fn for_operator(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<WriteViolation>() {
        Some(violation) => violation.to_string(),
        None => text::line(error),
    }
}

/// Returns the reason why a guest was ended, for its callers. It has no names of regions,
/// which they may not know, and no numbers of the guest's limits.
pub(super) fn for_callers(error: &wasmtime::Error) -> String {
    if error.is::<WriteViolation>() {
        return "it wrote to a read-only window".to_owned();
    }
    if error.is::<TimeUp>() {
        return "its time is up".to_owned();
    }
    if error.is::<Panicked>() {
        return BUG.to_owned();
    }
    match error.downcast_ref::<Exhausted>() {
        Some(exhausted) => RegionError::from(exhausted.clone()).for_others(),
        None => for_operator(error),
    }
}
