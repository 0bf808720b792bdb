//! Apps: components that run as guests, each in a store of its own, and call
//! each other.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use tombolo_app::{App, GuestSpec};
//!
//! let guest = |name: &str| -> std::io::Result<GuestSpec> {
//!     let wasm = std::fs::read(format!("{name}.wasm"))?;
//!     Ok(GuestSpec { inherit_stdio: true, ..GuestSpec::new(name, wasm) })
//! };
//! let app = App::builder()
//!     .guest(guest("player")?)
//!     .guest(guest("audioserver")?)
//!     .start()
//!     .await?;
//! let outcome = app.run().await;
//! println!("{:?}", outcome.end);
//! # Ok(())
//! # }
//! ```
//!
//! # A guest that is ended
//!
//! Guests end by their own fault, and by [`AppHandle`]: because the operator
//! wants it, because memory is short, or because the whole app is to stop. Who
//! called such a guest is told which one it was, and why: as a value where the
//! function's result type is `result<_, E>` and `E` is `string` or a variant
//! with a case `peer-failed(string)`, and by a trap otherwise.
#![forbid(unsafe_code)]

mod bytes;
mod call;
mod channel;
mod check;
mod clock;
mod compile;
mod files;
mod filesystem;
mod guest;
mod handle;
mod idle;
mod instance_size;
mod interfaces;
#[doc(hidden)]
pub mod internal;
mod limiter;
mod link;
mod near;
mod oom;
mod output;
mod pressure_task;
mod proxy;
mod random;
mod report;
mod scope;
mod spec;
mod status;
mod strand;
mod supervisor;
mod sync;
mod text;
mod values;
mod waits;
mod wasi;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};
use wasmtime::Engine;
use wasmtime::component::Linker;

use self::call::{Calls, Peer};
use self::channel::{Channel, Channels, Member};
use self::check::Prepared;
pub use self::check::{Findings, StartError};
use self::guest::GuestExit;
pub use self::handle::{AppHandle, NoSuchGuest};
use self::interfaces::{AppGrants, LIFECYCLE};
pub use self::link::{
    Difference, Export, Import, Interfaces, LinkError, LinkErrors, LinkWarning, NearestExport,
    Provider, UnsupportedImport,
};
pub use self::oom::{Candidate, OnPressure, Verdict};
use self::oom::{OomKiller, OomPolicy};
pub use self::output::Output;
use self::output::Stdio;
use self::pressure_task::PressureTask;
pub use self::report::{
    CallReport, ChannelReport, GuestReport, KillReport, Report, RestartReport, WindowReport,
};
use self::scope::{Scope, Scopes};
pub use self::spec::{
    Backoff, CallSpec, ChannelSpec, CommandSpec, Grant, GuestSpec, Restart, ScopeSpec,
};
use self::status::ExitGuard;
use self::strand::Strands;
use self::supervisor::{GuestTemplate, Incarnation, Supervisor};
pub use crate::compile::{CompileLimits, CompilerProcess};
use tombolo::pressure::{MemoryGauge, PressureSource};
use tombolo::{HostLimits, Limits};
use tombolo::{RegionHost, Strand};

/// How often a running guest is looked after: whether its time is up, whether
/// it did what it must not, and whether others wait for their turn.
const TICK: Duration = Duration::from_millis(10);

/// How long guests have to come to an end when no command runs any more.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// What guests are told that are still at a call then.
const APP_ENDED: &str = "the app has ended";
const APP_STOPPED: &str = "the app was told to stop";

/// Describes an app; see [`App::builder`].
#[derive(Default)]
pub struct AppBuilder {
    limits: Limits,
    host_limits: HostLimits,
    compile_limits: CompileLimits,
    compiler: Option<CompilerProcess>,
    command: CommandSpec,
    guests: Vec<GuestSpec>,
    /// Who may call whom; everybody, if nothing is said.
    may_call: Option<Vec<CallSpec>>,
    channels: Vec<ChannelSpec>,
    scopes: Vec<ScopeSpec>,
    policy: OomPolicy,
    pressure: Option<Box<dyn PressureSource>>,
    gauge: Option<Arc<dyn MemoryGauge>>,
    stop_timeout: Option<Duration>,
}

impl std::fmt::Debug for AppBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppBuilder")
            .field("guests", &self.guests)
            .finish_non_exhaustive()
    }
}

impl AppBuilder {
    /// Sets what each guest may hold and take.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> AppBuilder {
        self.limits = limits;
        self
    }

    /// Sets what all guests may hold together.
    #[must_use]
    pub fn host_limits(mut self, limits: HostLimits) -> AppBuilder {
        self.host_limits = limits;
        self
    }

    /// Sets the limits on what a component may cost the compiler. A component that is over
    /// a limit is refused before it is compiled.
    #[must_use]
    pub fn compile_limits(mut self, limits: CompileLimits) -> AppBuilder {
        self.compile_limits = limits;
        self
    }

    /// Compiles the components in a process of its own, in which
    /// [`CompileLimits::time`] and [`CompileLimits::memory_bytes`] hold. Without this,
    /// they are compiled in this process, and these two limits do not hold. Then measuring
    /// is the only defence against components that are made expensive to compile.
    ///
    /// If the process cannot be started, the app does not start.
    #[must_use]
    pub fn compiler(mut self, process: CompilerProcess) -> AppBuilder {
        self.compiler = Some(process);
        self
    }

    /// Sets what the first command gets.
    #[must_use]
    pub fn command(mut self, command: CommandSpec) -> AppBuilder {
        self.command = command;
        self
    }

    /// Adds a guest.
    #[must_use]
    pub fn guest(mut self, guest: GuestSpec) -> AppBuilder {
        self.guests.push(guest);
        self
    }

    /// Returns the guests, to set the destinations of their output.
    #[doc(hidden)]
    pub fn guests_mut(&mut self) -> &mut [GuestSpec] {
        &mut self.guests
    }

    /// Sets who may call whom. Without this, what a guest imports is linked to
    /// whichever guest exports it.
    #[must_use]
    pub fn may_call(mut self, calls: impl IntoIterator<Item = CallSpec>) -> AppBuilder {
        self.may_call.get_or_insert_default().extend(calls);
        self
    }

    /// Adds a channel.
    #[must_use]
    pub fn channel(mut self, channel: ChannelSpec) -> AppBuilder {
        self.channels.push(channel);
        self
    }

    /// Adds a scope.
    #[must_use]
    pub fn scope(mut self, scope: ScopeSpec) -> AppBuilder {
        self.scopes.push(scope);
        self
    }

    /// Sets how long the commands have to come to an end when the app is
    /// [told to stop](AppHandle::stop), if any of them hears of it: that is, if it
    /// imports `tombolo:app/lifecycle`. A second otherwise. When those that hear of
    /// it have ended, the others have a second at most; if none does, all are ended at
    /// once.
    #[must_use]
    pub fn stop_timeout(mut self, timeout: Duration) -> AppBuilder {
        self.stop_timeout = Some(timeout);
        self
    }

    /// Heeds memory pressure that this source reports, for as long as the app runs:
    /// purges, tells the guests, and then does what
    /// [`on_pressure`](AppBuilder::on_pressure) says. See
    /// [`detect`](tombolo::pressure::detect) for the kernel's.
    #[must_use]
    pub fn pressure(mut self, source: impl PressureSource + 'static) -> AppBuilder {
        self.pressure = Some(Box::new(source));
        self
    }

    /// Sets the gauge that measures how much memory is left, for the host's
    /// [margin](HostLimits::margin). The default is
    /// [`SystemGauge`](tombolo::pressure::SystemGauge).
    #[must_use]
    pub fn gauge(mut self, gauge: Arc<dyn MemoryGauge>) -> AppBuilder {
        self.gauge = Some(gauge);
        self
    }

    /// Sets what happens when memory is short and purging has freed nothing.
    /// [`OnPressure::Purge`] otherwise: nothing.
    #[must_use]
    pub fn on_pressure(mut self, on_pressure: OnPressure) -> AppBuilder {
        self.policy.on_pressure = on_pressure;
        self
    }

    /// Sets a guest's score, from 0 to 1000; 500 otherwise. Where guests are
    /// ended for want of memory, the one with the highest score goes first, and
    /// among those the one that was busy longest ago.
    #[must_use]
    pub fn oom_score(mut self, guest: impl Into<String>, score: u16) -> AppBuilder {
        self.policy.scores.push((guest.into(), score));
        self
    }

    /// Sets the floor, from 0 to 1000; 1 otherwise. No guest with a score below
    /// it is ended for want of memory.
    #[must_use]
    pub fn oom_floor(mut self, floor: u16) -> AppBuilder {
        self.policy.floor = floor;
        self
    }

    /// Sets what is asked before a guest is ended for want of memory, and may
    /// spare it, this time: then it is asked about the next one. Also asked
    /// where only counting is done, which counts what would have happened.
    ///
    /// It is called for [`AppHandle::kill_for_memory`], on a thread of its own that is none of
    /// the runtime's, or on the caller's where there is no memory for one. It may block,
    /// and should not take long: memory is short. If it panics, so does
    /// [`AppHandle::kill_for_memory`], and nobody is ended; it is asked again at the next report.
    #[must_use]
    pub fn before_kill(
        mut self,
        hook: impl FnMut(&Candidate) -> Verdict + Send + 'static,
    ) -> AppBuilder {
        self.policy.hook = Some(Box::new(hook));
        self
    }

    /// Measures, links, compiles and instantiates the guests. If the guests cannot be
    /// linked, nothing is compiled. Blocks while it compiles. Call it on a tokio
    /// runtime with time and I/O enabled; strands are tasks on it. On a runtime with
    /// several threads they run in parallel.
    ///
    /// # Errors
    ///
    /// All that [`check`](AppBuilder::check) finds, or what else keeps the app
    /// from starting; nothing is running then. What guests printed before that is
    /// written, unless its destination takes nothing for a second.
    pub async fn start(self) -> Result<App, StartError> {
        let Prepared {
            engine,
            linker,
            components,
            sizes,
            plan,
            entries,
        } = self.prepare()?;
        for warning in &plan.warnings {
            tracing::warn!("{warning}");
        }

        let host = match self.gauge {
            Some(gauge) => RegionHost::with_gauge(self.host_limits, gauge),
            None => RegionHost::with_limits(self.host_limits),
        };
        // Finds the cgroups, and takes the first look: not on the clock of a guest's start.
        let _ = host.may_grow(0);
        let ticker = Ticker::start(&engine).map_err(|error| StartError::Host(error.into()))?;
        let first = entries[0].0;
        let app = AppGrants {
            channels: Arc::new(channels(&self.guests, self.channels, &self.limits)),
            scopes: Arc::new(scopes(&self.guests, self.scopes)),
            stopped: watch::Sender::new(false),
        };
        let mut command = Some(self.command);
        let mut named = BTreeMap::new();
        let mut templates = Vec::new();
        let mut seats = Vec::new();
        let mut peers = Vec::new();
        let mut statuses = Vec::new();
        for (index, (mut spec, component)) in self.guests.into_iter().zip(components).enumerate() {
            // It is compiled.
            spec.wasm = Arc::default();
            let run = entries.iter().find(|(entry, _)| *entry == index);
            let ty = component.component_type();
            let hears = ty
                .imports(&engine)
                .any(|(name, _)| name.split('@').next() == Some(LIFECYCLE));
            let strand = match &spec.strand {
                Some(name) => named
                    .entry(name.clone())
                    .or_insert_with(Strand::new)
                    .clone(),
                None => Strand::new(),
            };
            let (stdout, stderr) = spec.outputs();
            let stdio =
                Stdio::new(&spec.name, stdout.as_ref(), stderr.as_ref()).map_err(|source| {
                    StartError::Output {
                        guest: spec.name.clone(),
                        source,
                    }
                })?;
            let template = GuestTemplate {
                stdio,
                files: Arc::default(),
                strand,
                command: (index == first).then(|| command.take()).flatten(),
                limits: spec.limits.clone().unwrap_or_else(|| self.limits.clone()),
                size: sizes[index],
                lift_ratio: values::lift_ratio(&plan.links, index),
                component,
                run: run.map(|(_, name)| name.clone()),
                hears,
                account: OnceLock::new(),
                spec,
            };
            let state =
                template
                    .state(&host, app.of(index))
                    .map_err(|source| StartError::Grant {
                        guest: template.spec.name.clone(),
                        source,
                    })?;
            let (peer, inbox) = Peer::new(index, &template.spec.name, state.recipient());
            peers.push(peer);
            statuses.push((template.spec.name.clone(), state.status.clone()));
            seats.push((state, inbox));
            templates.push(template);
        }
        let calls = Calls::new(peers, app.stopped.clone());
        let killer = OomKiller::new(self.policy, statuses);
        killer.set_engine(&engine);
        let mut linkers = Vec::new();
        let unlinked = Arc::new(linker);
        for index in 0..templates.len() {
            if !plan.links.iter().any(|link| link.importer == index) {
                linkers.push(unlinked.clone());
                continue;
            }
            let mut linker = Linker::clone(&unlinked);
            for link in plan.links.iter().filter(|link| link.importer == index) {
                let (importer, exporter) = (&templates[link.importer], &templates[link.exporter]);
                let same_strand = importer.strand == exporter.strand;
                calls
                    .link(&mut linker, link, &exporter.component, same_strand)
                    .map_err(|error| StartError::Host(error.into()))?;
            }
            linkers.push(Arc::new(linker));
        }
        let supervisor = Arc::new(Supervisor {
            engine,
            host: host.clone(),
            calls: calls.clone(),
            killer: killer.clone(),
            ticker,
            app,
            failures: Mutex::new(vec![0; templates.len()]),
            kinds: proxy::ProxyKind::all(plan.resources),
            templates,
            linkers,
        });

        let mut strands =
            Strands::new(supervisor.templates.iter().map(|template| &template.strand));
        let mut ready = Vec::new();
        for (index, (state, inbox)) in seats.into_iter().enumerate() {
            let (tell, told) = oneshot::channel();
            ready.push(told);
            let next = Incarnation {
                index,
                exit_guard: ExitGuard(state.status.clone()),
                state,
                inbox,
                delay: Duration::ZERO,
            };
            strands.enter(index, supervisor.live(next, Some(tell)));
        }
        let mut app = App {
            host,
            calls,
            killer,
            supervisor,
            strands,
            commands: entries,
            pressure_task: None,
            restarted: ready.iter().map(|_| None).collect(),
            early: VecDeque::new(),
            stop_timeout: self.stop_timeout.unwrap_or(STOP_TIMEOUT),
        };
        let pressure_task = PressureTask::start(self.pressure, &app.host, app.handle());
        app.pressure_task = Some(pressure_task.map_err(|error| StartError::Host(error.into()))?);
        for (index, mut ready) in ready.into_iter().enumerate() {
            let ready = loop {
                tokio::select! {
                    biased;
                    ready = &mut ready => break ready,
                    // One that is there already may be called, and fail, while others
                    // start, and they may wait for its next life.
                    Some(ended) = app.strands.next() => {
                        if let Some(ended) = app.start_again(ended, true) {
                            app.early.push_back(ended);
                        }
                    }
                }
            };
            let source = match ready {
                Ok(Ok(())) => continue,
                Ok(Err(source)) => source,
                Err(_) => wasmtime::Error::msg("the guest's task ended"),
            };
            let supervisor = app.supervisor.clone();
            // The other guests print no more.
            drop(app);
            supervisor.printed().await;
            return Err(StartError::Instantiate {
                guest: supervisor.templates[index].spec.name.clone(),
                source,
            });
        }
        Ok(app)
    }
}

/// The number of a guest that a channel or a scope names.
fn number(guests: &[GuestSpec], name: &str) -> usize {
    let mut guests = guests.iter();
    guests
        .position(|guest| guest.name == name)
        .expect("what is named is checked before")
}

/// Makes the channels.
fn channels(guests: &[GuestSpec], specs: Vec<ChannelSpec>, limits: &Limits) -> Channels {
    let member = |guest: usize| Member {
        guest,
        restarts: guests[guest].restart != Restart::Never,
        limits: guests[guest].limits.as_ref().unwrap_or(limits).clone(),
    };
    Channels::new(specs.into_iter().map(|spec| {
        let senders = spec.from.iter().map(|name| number(guests, name));
        let senders: BTreeSet<usize> = senders.collect();
        let receiver = number(guests, &spec.to);
        let senders = senders.into_iter().map(member).collect();
        Channel::new(spec, senders, member(receiver))
    }))
}

/// Makes the scopes.
fn scopes(guests: &[GuestSpec], specs: Vec<ScopeSpec>) -> Scopes {
    Scopes::new(specs.into_iter().map(|spec| {
        let members = spec.members.iter();
        let members = members.map(|(name, rights)| (number(guests, name), *rights));
        Scope::new(spec.name, members.collect())
    }))
}

/// A running app.
pub struct App {
    host: RegionHost,
    calls: Arc<Calls>,
    killer: Arc<OomKiller>,
    supervisor: Arc<Supervisor>,
    strands: Strands<GuestExit>,
    /// The guests that export `wasi:cli/run`, and the name of the export.
    commands: Vec<(usize, String)>,
    pressure_task: Option<PressureTask>,
    /// What those did before who are started again.
    restarted: Vec<Option<(GuestReport, RestartReport)>>,
    /// Those who ended for good before the app ran.
    early: VecDeque<GuestExit>,
    stop_timeout: Duration,
}

/// How an app ended.
#[derive(Debug)]
pub struct Outcome {
    /// How the first command ended.
    pub end: CommandExit,
    /// What the guests did.
    pub report: Report,
    /// The failures of guests, one line each, in order. A guest that is to be restarted has
    /// not failed, even if the app ended before the restart.
    pub failures: Vec<String>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandExit {
    /// By its own decision, with this code.
    Exit(u8),
    /// It trapped, or was ended.
    Failed,
    /// It was ended because the app was [told to stop](AppHandle::stop).
    Stopped,
}

/// How far the end of an app has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It has not begun.
    Running,
    /// Commands that can hear of it were told, and all have some time.
    Stopping,
    /// No command runs any more. The others answer the calls that they are at.
    Ending,
    /// All were told to end.
    Ended,
}

impl App {
    /// Begins the description of an app.
    #[must_use]
    pub fn builder() -> AppBuilder {
        AppBuilder::default()
    }

    /// The host whose regions the guests use.
    #[must_use]
    pub fn host(&self) -> &RegionHost {
        &self.host
    }

    /// Has a guest that failed live again, if it is to, and it `may`. Otherwise it
    /// has ended for good.
    fn start_again(&mut self, mut ended: GuestExit, may: bool) -> Option<GuestExit> {
        let index = ended.index;
        if let Some((report, restart)) = self.restarted[index].take() {
            ended.after(report, restart);
        }
        let next = ended.next.take();
        if next.is_some() && !may {
            let name = &self.supervisor.templates[index].spec.name;
            let why = format!("guest `{name}` failed, and is not started again: the app ends");
            // As if it had failed a moment later.
            ended.excused = true;
            // For those who call its next life already.
            self.supervisor.calls.set_exit_reason(index, why);
            self.supervisor.on_exit(index);
        }
        let Some(next) = next.filter(|_| may) else {
            return Some(ended);
        };
        let restart = RestartReport {
            failure: ended.fault().unwrap_or_default(),
            lived: ended.lived,
            delay: next.delay,
        };
        let (failure, delay) = (&restart.failure, restart.delay);
        let guest = &self.supervisor.templates[index].spec.name;
        tracing::warn!(guest, "{failure}; started again in {delay:?}");
        self.restarted[index] = Some((ended.into_report(), restart));
        self.strands.enter(index, self.supervisor.live(next, None));
        None
    }

    /// Starts the commands and waits until all of them have ended, or the app is
    /// [told to stop](AppHandle::stop); then ends the other guests.
    ///
    /// The runtime on which the app was started must live until then, even if this is
    /// called on another one, because the guests are tasks on it. If it is dropped, they
    /// fail, and [`failures`](Outcome::failures) has the reason.
    ///
    /// A command that has returned counts as running until all its output is written: its
    /// deadline and [`AppHandle::stop`] hold meanwhile. Output of other guests is also
    /// written before this returns, unless its destination takes nothing for a second.
    pub async fn run(mut self) -> Outcome {
        let first = self.commands[0].0;
        let mut running: Vec<usize> = self.commands.iter().map(|(index, _)| *index).collect();
        let names: Vec<String> = self.calls.names().map(str::to_owned).collect();
        let mut guests: Vec<Option<GuestExit>> = names.iter().map(|_| None).collect();
        // With the moment of each: guests of different strands are heard of in any order.
        let mut failures = Vec::new();
        let mut end = CommandExit::Failed;
        let mut phase = Phase::Running;
        // When the next phase begins, and what those are told who are still there.
        let mut deadline: Option<Instant> = None;
        let mut last_word = APP_ENDED;
        let supervisor = self.supervisor.clone();
        let hears = |commands: &[usize]| commands.iter().any(|it| supervisor.templates[*it].hears);
        if self.calls.is_ending() {
            // StopReason to stop before it ran: nothing begins.
            for (command, _) in &self.commands {
                self.killer.end_with_app(*command, APP_STOPPED);
            }
        }
        self.calls.begin();
        loop {
            let next = tokio::select! {
                next = next_ended(&mut self.early, &mut self.strands) => next,
                () = self.calls.stopped(), if phase == Phase::Running => {
                    last_word = APP_STOPPED;
                    phase = Phase::Stopping;
                    deadline = Some(match hears(&running) {
                        true => Instant::now() + self.stop_timeout,
                        false => Instant::now(),
                    });
                    continue;
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    phase = match phase {
                        Phase::Running | Phase::Stopping => {
                            for (command, _) in &self.commands {
                                self.killer.end_with_app(*command, last_word);
                            }
                            self.calls.stop();
                            Phase::Ending
                        }
                        Phase::Ending => {
                            self.killer.end_all_with_app(last_word);
                            Phase::Ended
                        }
                        Phase::Ended => {
                            // They do not even look.
                            self.strands.abort();
                            Phase::Ended
                        }
                    };
                    deadline = Some(Instant::now() + STOP_TIMEOUT);
                    continue;
                }
            };
            let Some(ended) = next else {
                break;
            };
            // The app may be ending since.
            let Some(ended) = self.start_again(ended, phase == Phase::Running) else {
                continue;
            };
            let index = ended.index;
            if let Some(failure) = ended.failure.as_ref().filter(|_| ended.excused) {
                let guest = &names[index];
                tracing::warn!(guest, "{failure}; not started again, because the app ends");
            } else if let Some(failure) = &ended.failure {
                tracing::info!(guest = names[index], "{failure}");
                failures.push((ended.at, failure.clone()));
            }
            if index == first {
                end = ended.end();
            }
            running.retain(|running| *running != index);
            if phase == Phase::Stopping && !hears(&running) {
                // Those who could hear of it have finished.
                deadline = deadline.min(Some(Instant::now() + STOP_TIMEOUT));
            }
            guests[index] = Some(ended);
            if running.is_empty() && matches!(phase, Phase::Running | Phase::Stopping) {
                self.calls.stop();
                phase = Phase::Ending;
                deadline = Some(Instant::now() + STOP_TIMEOUT);
            }
        }
        drop(self.pressure_task.take());
        if self.strands.were_dropped() {
            let lost = guests
                .iter()
                .zip(&names)
                .filter(|(ended, _)| ended.is_none());
            for (_, name) in lost {
                let failure = format!(
                    "guest `{name}` was dropped together with the runtime on which the app was \
                     started; run the app on that runtime, and keep it until the app has ended"
                );
                tracing::error!(guest = name, "{failure}");
                failures.push((std::time::Instant::now(), failure));
            }
        }
        failures.sort_by_key(|(at, _)| *at);
        let failures = failures.into_iter().map(|(_, failure)| failure).collect();
        supervisor.printed().await;
        let counts = self.host.counts();
        let (kills, kills_total) = self.killer.kills();
        let report = Report {
            guests: guests
                .into_iter()
                .zip(&names)
                .map(|(ended, name)| match ended {
                    Some(ended) => ended.into_report(),
                    None => GuestReport {
                        name: name.clone(),
                        end: match self.strands.were_dropped() {
                            true => "failed".into(),
                            false => "ended with the app".into(),
                        },
                        ..GuestReport::default()
                    },
                })
                .collect(),
            regions_created: counts.regions_created,
            regions_freed: counts.regions_freed,
            bytes_shared: counts.bytes_shared,
            bytes_copied_regions: counts.bytes_copied,
            bytes_copied_calls: self.calls.bytes_copied(),
            calls: self.calls.report(),
            channels: self.supervisor.app.channels.report(),
            kills,
            kills_total,
            budget: self.host.budget(),
        };
        Outcome {
            end,
            report,
            failures,
        }
    }
}

/// Waits for a guest to end. Nothing is lost if the future is dropped.
async fn next_ended(
    early: &mut VecDeque<GuestExit>,
    strands: &mut Strands<GuestExit>,
) -> Option<GuestExit> {
    match early.pop_front() {
        Some(ended) => Some(ended),
        None => strands.next().await,
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// Advances an engine's epoch, until the last guest that needs it has dropped
/// it.
struct Ticker {
    /// Never used: dropping it tells the thread.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: &Engine) -> std::io::Result<Arc<Ticker>> {
        let (stop, stopped) = mpsc::channel::<()>();
        let engine = engine.clone();
        let thread = std::thread::Builder::new()
            .name("tombolo-ticker".into())
            .spawn(move || {
                while stopped.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
                    engine.increment_epoch();
                }
            })?;
        Ok(Arc::new(Ticker {
            stop: Some(stop),
            thread: Some(thread),
        }))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
