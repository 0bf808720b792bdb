//! A running app, and how it comes to its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use tokio::time::{Instant, sleep_until};

use super::builder::AppBuilder;
use super::call_stats::CallStats;
use super::exit::GuestExit;
use super::handle::AppHandle;
use super::oom::OomKiller;
use super::outcome::{CommandExit, Outcome};
use super::pressure_task::PressureTask;
use super::report::{ChannelReport, GuestEnd, GuestReport, Report, RestartReport};
use super::signals::STOP_TIMEOUT;
use super::strand::Strands;
use super::supervisor::Supervisor;
use tombolo::RegionHost;
use tombolo_exchange::GuestId;

/// The reasons that guests are given which the end of the app ends.
const APP_ENDED: &str = "the app has ended";
const APP_STOPPED: &str = "the app was told to stop";

/// A running app. Its guests run as tasks; see [`App::run`] for its end.
///
/// Dropping it ends all guests where they are. Their memory is freed, and regions with open
/// write windows are poisoned.
pub struct App {
    pub(super) host: RegionHost,
    pub(super) killer: Arc<OomKiller>,
    pub(super) supervisor: Arc<Supervisor>,
    pub(super) stats: CallStats,
    pub(super) strands: Strands<GuestExit>,
    /// The guests that export `wasi:cli/run`, and the names of the exports. There is at
    /// least one.
    pub(super) commands: Vec<(GuestId, String)>,
    pub(super) pressure_task: Option<PressureTask>,
    /// The guests that ended for good before the app ran.
    pub(super) early: VecDeque<GuestExit>,
    pub(super) stop_timeout: Duration,
}

impl App {
    /// Begins the description of an app.
    #[must_use]
    pub fn builder() -> AppBuilder {
        AppBuilder::default()
    }

    /// Returns the host whose regions the guests use.
    #[must_use]
    pub fn host(&self) -> &RegionHost {
        &self.host
    }

    /// Returns a handle that steers the app while it runs.
    #[must_use]
    pub fn handle(&self) -> AppHandle {
        AppHandle::new(
            &self.supervisor.table,
            self.killer.clone(),
            self.supervisor.app.signals.clone(),
            self.host.clone(),
        )
    }

    /// Restarts a guest that failed, if that is decided and it `may`. Otherwise the guest has
    /// ended for good, and its exit is returned.
    pub(super) fn start_again(&mut self, mut exit: GuestExit, may: bool) -> Option<GuestExit> {
        let entry = self.supervisor.table.entry(exit.guest);
        if let Some((report, restart)) = entry.peer.take_history() {
            exit.add_history(report, restart);
        }
        let Some(next) = exit.next.take() else {
            return Some(exit);
        };
        if !may {
            let name = &entry.peer.name;
            // For guests that have called its next incarnation already.
            entry.peer.set_exit_reason(format!(
                "guest `{name}` failed, and is not started again: the app ends"
            ));
            self.supervisor.on_exit(exit.guest);
            // As if it had failed a moment later.
            exit.excused = true;
            return Some(exit);
        }
        let restart = RestartReport {
            failure: exit.failure_text().unwrap_or_default(),
            lived: exit.lived,
            delay: next.delay,
        };
        let (failure, delay, guest) = (&restart.failure, restart.delay, &*entry.peer.name);
        tracing::warn!(guest, "{failure}; started again in {delay:?}");
        entry.peer.set_history(exit.report, restart);
        self.strands
            .enter(exit.guest, self.supervisor.live(next, None));
        None
    }

    /// Starts the commands, and waits until all of them have ended or the app is
    /// [stopped](super::AppHandle::stop). Then ends the other guests.
    ///
    /// The runtime on which the app was started must live until then, because the guests are
    /// tasks on it. This holds even if this method is called on another runtime. If the
    /// first one is dropped, they fail, and [`Outcome::failures`] has the reason.
    ///
    /// A command that has returned counts as running until all its output is written: its
    /// deadline and [`AppHandle::stop`](super::AppHandle::stop) hold meanwhile. Output of
    /// other guests is also written before this returns, unless its destination takes
    /// nothing for 1 s.
    ///
    /// If the future is dropped, all guests end where they are.
    pub async fn run(self) -> Outcome {
        RunningApp::new(self).finish().await
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// How far the end of an app has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It has not begun.
    Running,
    /// The app was asked to stop, and its commands have some time to end.
    Stopping,
    /// No command runs any more. The other guests answer their current calls.
    Ending,
    /// All guests were told to end.
    Ended,
}

/// An event that an app waits for.
enum Event {
    /// A guest has ended. `None` means that there are no more guests.
    Exit(Option<Box<GuestExit>>),
    /// The app was asked to stop.
    Stop,
    /// The time of the current phase is up.
    Deadline,
}

/// An app while it runs, with what is known of its end.
struct RunningApp {
    app: App,
    phase: Phase,
    /// When the next phase begins.
    deadline: Option<Instant>,
    /// The reason that guests are given which are still there at the deadline.
    reason: &'static str,
    /// The commands that have not ended.
    running: Vec<GuestId>,
    end: CommandExit,
    /// How each guest ended, if it has.
    exits: Vec<Option<GuestExit>>,
    /// With the moment of each: guests of different strands are heard of in any order.
    failures: Vec<(StdInstant, String)>,
}

impl RunningApp {
    fn new(app: App) -> RunningApp {
        let guests = app.supervisor.table.iter();
        RunningApp {
            phase: Phase::Running,
            deadline: None,
            reason: APP_ENDED,
            running: app.commands.iter().map(|(guest, _)| *guest).collect(),
            end: CommandExit::Failed,
            exits: guests.map(|_| None).collect(),
            failures: Vec::new(),
            app,
        }
    }

    /// Runs the app to its end.
    async fn finish(mut self) -> Outcome {
        if self.app.supervisor.app.signals.is_ending() {
            // It was stopped before it ran, so no command begins.
            self.end_commands(APP_STOPPED);
        }
        self.app.supervisor.app.signals.begin();
        loop {
            match self.next_event().await {
                Event::Stop => self.on_stop(),
                Event::Deadline => self.on_deadline(),
                Event::Exit(Some(exit)) => self.on_exit(*exit),
                Event::Exit(None) => break,
            }
        }
        drop(self.app.pressure_task.take());
        self.add_lost_guests();
        self.app.supervisor.printed().await;
        self.into_outcome()
    }

    async fn next_event(&mut self) -> Event {
        if let Some(exit) = self.app.early.pop_front() {
            return Event::Exit(Some(Box::new(exit)));
        }
        let (phase, deadline) = (self.phase, self.deadline);
        let signals = &self.app.supervisor.app.signals;
        tokio::select! {
            exit = self.app.strands.next() => Event::Exit(exit.map(Box::new)),
            () = signals.stopping(), if phase == Phase::Running => Event::Stop,
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                Event::Deadline
            }
        }
    }

    /// Returns whether any command that still runs learns of the stop.
    fn hears_stop(&self) -> bool {
        let table = &self.app.supervisor.table;
        let mut running = self.running.iter();
        running.any(|command| table.entry(*command).template.hears_stop)
    }

    fn on_stop(&mut self) {
        self.phase = Phase::Stopping;
        self.reason = APP_STOPPED;
        let time = match self.hears_stop() {
            true => self.app.stop_timeout,
            false => Duration::ZERO,
        };
        self.deadline = Some(Instant::now() + time);
    }

    fn on_deadline(&mut self) {
        match self.phase {
            Phase::Running | Phase::Stopping => {
                self.end_commands(self.reason);
                self.begin_ending();
            }
            Phase::Ending => {
                for entry in self.app.supervisor.table.iter() {
                    entry.peer.end_with_app(self.reason);
                }
                self.enter_phase(Phase::Ended);
            }
            Phase::Ended => {
                // They do not even look at what they are told.
                self.app.strands.abort();
                self.enter_phase(Phase::Ended);
            }
        }
    }

    fn on_exit(&mut self, exit: GuestExit) {
        let may_restart = self.phase == Phase::Running;
        let Some(exit) = self.app.start_again(exit, may_restart) else {
            return;
        };
        let guest = exit.guest;
        let name = &*self.app.supervisor.table.entry(guest).peer.name;
        if let Some(failure) = &exit.failure {
            if exit.excused {
                tracing::warn!(
                    guest = name,
                    "{failure}; not started again, because the app ends"
                );
            } else {
                tracing::info!(guest = name, "{failure}");
                self.failures.push((exit.at, failure.clone()));
            }
        }
        if self.app.commands[0].0 == guest {
            self.end = exit.of_command();
        }
        self.exits[guest.index()] = Some(exit);
        self.running.retain(|running| *running != guest);
        if self.phase == Phase::Stopping && !self.hears_stop() {
            // The commands that learn of the stop have ended.
            self.deadline = self.deadline.min(Some(Instant::now() + STOP_TIMEOUT));
        }
        if self.running.is_empty() && matches!(self.phase, Phase::Running | Phase::Stopping) {
            self.begin_ending();
        }
    }

    fn end_commands(&self, reason: &str) {
        for (command, _) in &self.app.commands {
            self.app
                .supervisor
                .table
                .entry(*command)
                .peer
                .end_with_app(reason);
        }
    }

    /// Lets the other guests finish: no command runs any more.
    fn begin_ending(&mut self) {
        self.app.supervisor.app.signals.end();
        self.app.supervisor.table.notify_stop();
        self.enter_phase(Phase::Ending);
    }

    fn enter_phase(&mut self, phase: Phase) {
        self.phase = phase;
        self.deadline = Some(Instant::now() + STOP_TIMEOUT);
    }

    /// Adds failures of guests whose runtime was dropped.
    fn add_lost_guests(&mut self) {
        if !self.app.strands.were_dropped() {
            return;
        }
        for (entry, exit) in self.app.supervisor.table.iter().zip(&self.exits) {
            if exit.is_some() {
                continue;
            }
            let name = &*entry.peer.name;
            let failure = format!(
                "guest `{name}` was dropped together with the runtime on which the app was \
                 started; run the app on that runtime, and keep it until the app has ended"
            );
            tracing::error!(guest = name, "{failure}");
            self.failures.push((StdInstant::now(), failure));
        }
    }

    fn into_outcome(mut self) -> Outcome {
        self.failures.sort_by_key(|(at, _)| *at);
        let failures = self.failures.into_iter().map(|(_, failure)| failure);
        let failures = failures.collect();
        let App {
            host,
            killer,
            supervisor,
            stats,
            strands,
            ..
        } = &self.app;
        let lost = match strands.were_dropped() {
            true => GuestEnd::Failed,
            false => GuestEnd::EndedWithApp,
        };
        let guests = self.exits.into_iter().zip(supervisor.table.iter());
        let guests = guests.map(|(exit, entry)| match exit {
            Some(exit) => exit.report,
            None => GuestReport {
                name: entry.peer.name.to_string(),
                end: lost.clone(),
                ..GuestReport::default()
            },
        });
        let guests = guests.collect();
        let channels = supervisor.app.channels.counts();
        let channels = channels.map(|(name, counts)| ChannelReport {
            name: name.to_owned(),
            sent: counts.sent,
            received: counts.received,
            dropped: counts.dropped,
            bytes: counts.bytes,
            regions: counts.regions,
        });
        let counts = host.counts();
        let (kills, kills_total) = killer.kills();
        Outcome {
            end: self.end,
            report: Report {
                guests,
                regions_created: counts.regions_created,
                regions_freed: counts.regions_freed,
                bytes_shared: counts.bytes_shared,
                bytes_copied_regions: counts.bytes_copied,
                bytes_copied_calls: stats.bytes_copied(),
                calls: stats.report(|guest| &*supervisor.table.entry(guest).peer.name),
                channels: channels.collect(),
                kills,
                kills_total,
                budget: host.budget(),
            },
            failures,
        }
    }
}
