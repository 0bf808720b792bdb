//! Apps: components that run as guests, each in a store of its own, and call
//! each other.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use tombolo::app::{App, GuestSpec};
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

mod bytes;
mod call;
mod check;
mod clock;
mod guest;
mod handle;
mod killer;
mod life;
mod limiter;
mod link;
mod relief;
mod report;
mod spec;
mod wasi;

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use wasmtime::Engine;

use self::call::{Calls, Peer};
use self::check::Prepared;
pub use self::check::{Findings, StartError};
use self::guest::{Ended, Guest, GuestState};
pub use self::handle::{AppHandle, NoSuchGuest};
pub use self::killer::{Candidate, OnPressure, Verdict};
use self::killer::{Killer, Policy};
pub use self::link::{
    Difference, Export, Import, Interfaces, LinkError, LinkErrors, Near, Provider, Refusal, Warning,
};
use self::relief::Relief;
pub use self::report::{CallReport, GuestReport, KillReport, Report, WindowReport};
pub use self::spec::{
    Backoff, CallSpec, ChannelSpec, CommandSpec, Grant, GuestSpec, Restart, ScopeSpec,
};
use crate::limits::{HostLimits, Limits};
use crate::pressure::PressureSource;
use crate::{Host, RegionCtxBuilder};

/// How often a running guest is looked after: whether its time is up, whether
/// it did what it must not, and whether others wait for their turn.
const TICK: Duration = Duration::from_millis(10);

/// How long guests have to come to an end when no command runs any more.
const GRACE: Duration = Duration::from_secs(1);

/// What guests are told that are still at a call then.
const APP_ENDED: &str = "the app has ended";
const APP_STOPPED: &str = "the app was told to stop";

/// Describes an app; see [`App::builder`].
#[derive(Default)]
pub struct AppBuilder {
    limits: Limits,
    host_limits: HostLimits,
    command: CommandSpec,
    guests: Vec<GuestSpec>,
    /// Who may call whom; everybody, if nothing is said.
    may_call: Option<Vec<CallSpec>>,
    channels: Vec<ChannelSpec>,
    scopes: Vec<ScopeSpec>,
    policy: Policy,
    pressure: Option<Box<dyn PressureSource>>,
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

    /// Heeds memory pressure that this source reports, for as long as the app runs:
    /// purges, tells the guests, and then does what
    /// [`on_pressure`](AppBuilder::on_pressure) says. See
    /// [`detect`](crate::pressure::detect) for the kernel's.
    #[must_use]
    pub fn pressure(mut self, source: impl PressureSource + 'static) -> AppBuilder {
        self.pressure = Some(Box::new(source));
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
    pub fn score(mut self, guest: impl Into<String>, score: u16) -> AppBuilder {
        self.policy.scores.push((guest.into(), score));
        self
    }

    /// Sets the floor, from 0 to 1000; 1 otherwise. No guest with a score below
    /// it is ended for want of memory.
    #[must_use]
    pub fn floor(mut self, floor: u16) -> AppBuilder {
        self.policy.floor = floor;
        self
    }

    /// Sets what is asked before a guest is ended for want of memory, and may
    /// spare it, this time: then it is asked about the next one. Also asked
    /// where only counting is done, which counts what would have happened.
    ///
    /// It is called by whoever calls [`AppHandle::relieve`], and should not
    /// take long: memory is short.
    #[must_use]
    pub fn before_kill(
        mut self,
        hook: impl FnMut(&Candidate) -> Verdict + Send + 'static,
    ) -> AppBuilder {
        self.policy.hook = Some(Box::new(hook));
        self
    }

    /// Compiles, links and instantiates the guests. To be called on a tokio
    /// runtime with time and I/O enabled; the guests are tasks on it. On one
    /// with a single thread they are one strand.
    ///
    /// # Errors
    ///
    /// All that [`check`](AppBuilder::check) finds, or what else keeps the app
    /// from starting; nothing is running then.
    pub async fn start(self) -> Result<App, StartError> {
        let Prepared {
            engine,
            linker,
            components,
            plan,
            entries,
        } = self.prepare()?;
        for warning in &plan.warnings {
            tracing::warn!("{warning}");
        }

        let host = Host::with_limits(self.host_limits);
        let ticker = Ticker::start(&engine).map_err(|error| StartError::Host(error.into()))?;
        let first = entries[0].0;
        let mut command = Some(self.command);
        let mut seats = Vec::new();
        let mut peers = Vec::new();
        let mut lives = Vec::new();
        for (index, spec) in self.guests.iter().enumerate() {
            let command = (index == first).then(|| command.take()).flatten();
            let wasi =
                wasi::context(spec, command.as_ref()).map_err(|source| StartError::Grant {
                    guest: spec.name.clone(),
                    source,
                })?;
            let limits = spec.limits.as_ref().unwrap_or(&self.limits);
            let regions = RegionCtxBuilder::new(&host, spec.name.clone())
                .limits(limits.clone())
                .run_by_us()
                .build();
            let (peer, inbox) = Peer::new(&spec.name, regions.recipient());
            peers.push(peer);
            let state = GuestState::new(wasi, regions, limits);
            lives.push((spec.name.clone(), state.life.clone()));
            seats.push((state, inbox));
        }
        let calls = Calls::new(peers);
        let killer = Killer::new(self.policy, lives);

        let mut tasks = JoinSet::new();
        let mut ready = Vec::new();
        for (index, (state, inbox)) in seats.into_iter().enumerate() {
            let mut linker = linker.clone();
            let clock = state.clock.clone();
            for link in plan.links.iter().filter(|link| link.importer == index) {
                calls
                    .link(&mut linker, link, &components[link.exporter], &clock)
                    .map_err(|error| StartError::Host(error.into()))?;
            }
            let run = entries
                .iter()
                .find(|(entry, _)| *entry == index)
                .map(|(_, name)| name);
            let limits = self.guests[index].limits.as_ref().unwrap_or(&self.limits);
            let guest = Guest::new(&engine, state, limits, ticker.clone());
            let (tell, told) = tokio::sync::oneshot::channel();
            ready.push(told);
            tasks.spawn(guest.live(
                index,
                linker,
                components[index].clone(),
                run.cloned(),
                calls.clone(),
                inbox,
                tell,
            ));
        }
        let mut app = App {
            host,
            calls,
            killer,
            tasks,
            commands: entries,
            relief: None,
        };
        if let Some(source) = self.pressure {
            let relief = Relief::start(source, &app.host, app.handle());
            app.relief = Some(relief.map_err(|error| StartError::Host(error.into()))?);
        }
        for (index, ready) in ready.into_iter().enumerate() {
            match ready.await {
                Ok(Ok(())) => {}
                Ok(Err(source)) => {
                    let guest = self.guests[index].name.clone();
                    return Err(StartError::Instantiate { guest, source });
                }
                Err(_) => {
                    let guest = self.guests[index].name.clone();
                    return Err(StartError::Instantiate {
                        guest,
                        source: wasmtime::Error::msg("the guest's task ended"),
                    });
                }
            }
        }
        Ok(app)
    }
}

/// A running app.
pub struct App {
    host: Host,
    calls: Arc<Calls>,
    killer: Arc<Killer>,
    tasks: JoinSet<Ended>,
    /// The guests that export `wasi:cli/run`, and the name of the export.
    commands: Vec<(usize, String)>,
    relief: Option<Relief>,
}

/// How an app ended.
#[derive(Debug)]
pub struct Outcome {
    /// How the first command ended.
    pub end: End,
    /// What the guests did.
    pub report: Report,
    /// How guests failed, one line each, in the order in which they did.
    pub failures: Vec<String>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By its own decision, with this code.
    Exit(u8),
    /// It trapped, or was ended.
    Failed,
    /// It was ended because the app was [told to stop](AppHandle::stop).
    Stopped,
}

impl App {
    /// Begins the description of an app.
    #[must_use]
    pub fn builder() -> AppBuilder {
        AppBuilder::default()
    }

    /// The host whose regions the guests use.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Starts the commands and waits until all of them have ended, or the app is
    /// [told to stop](AppHandle::stop); then ends the other guests.
    pub async fn run(mut self) -> Outcome {
        let first = self.commands[0].0;
        let mut running: Vec<usize> = self.commands.iter().map(|(index, _)| *index).collect();
        let names: Vec<String> = self.calls.names().map(str::to_owned).collect();
        let mut guests: Vec<Option<Ended>> = names.iter().map(|_| None).collect();
        let mut failures = Vec::new();
        let mut end = End::Failed;
        // When those who are still at a call are not waited for any longer, and
        // whether they were told so.
        let mut deadline: Option<Instant> = None;
        let mut last_word = None;
        self.calls.begin();
        loop {
            let next = tokio::select! {
                next = self.tasks.join_next() => next,
                () = self.calls.stopped(), if deadline.is_none() => {
                    for (command, _) in &self.commands {
                        self.killer.end_with_app(*command, APP_STOPPED);
                    }
                    self.calls.stop();
                    last_word = Some(APP_STOPPED);
                    deadline = Some(Instant::now() + GRACE);
                    continue;
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    match last_word.take() {
                        Some(reason) => self.killer.end_all_with_app(reason),
                        // They do not even look.
                        None => self.tasks.abort_all(),
                    }
                    deadline = Some(Instant::now() + GRACE);
                    continue;
                }
            };
            let ended = match next {
                Some(Ok(ended)) => ended,
                // A panic of the host's, which is a bug: not to be hidden.
                Some(Err(error)) if error.is_panic() => {
                    std::panic::resume_unwind(error.into_panic())
                }
                Some(Err(_)) => continue,
                None => break,
            };
            if let Some(failure) = &ended.failure {
                tracing::info!(guest = names[ended.index], "{failure}");
                failures.push(failure.clone());
            }
            if ended.index == first {
                end = ended.end();
            }
            running.retain(|index| *index != ended.index);
            let index = ended.index;
            guests[index] = Some(ended);
            if running.is_empty() && deadline.is_none() {
                self.calls.stop();
                last_word = Some(APP_ENDED);
                deadline = Some(Instant::now() + GRACE);
            }
        }
        drop(self.relief.take());
        let counts = self.host.counts();
        let report = Report {
            guests: guests
                .into_iter()
                .zip(&names)
                .map(|(ended, name)| match ended {
                    Some(ended) => ended.into_report(),
                    None => GuestReport {
                        name: name.clone(),
                        end: "ended with the app".into(),
                        ..GuestReport::default()
                    },
                })
                .collect(),
            regions_created: counts.regions_created,
            regions_given_back: counts.regions_given_back,
            bytes_shared: counts.bytes_shared,
            bytes_copied_regions: counts.bytes_copied,
            bytes_copied_calls: self.calls.bytes_copied(),
            calls: self.calls.report(),
            kills: self.killer.kills(),
            budget: self.host.budget(),
        };
        Outcome {
            end,
            report,
            failures,
        }
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
