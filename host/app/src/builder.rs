//! The description of an app, before it starts.

use std::sync::Arc;
use std::time::Duration;

use super::compile::{CompileLimits, CompilerProcess, SharedCode};
use super::oom_policy::{Candidate, OnPressure, OomPolicy, Verdict};
use super::spec::{CallSpec, ChannelSpec, CommandSpec, GuestSpec, ScopeSpec};
use tombolo::pressure::{MemoryGauge, PressureSource};
use tombolo::{HostLimits, Limits};

/// The description of an app; see [`App::builder`](super::App::builder).
///
/// The setters do nothing yet: [`check`](AppBuilder::check) and
/// [`start`](AppBuilder::start) report what is wrong.
#[derive(Default)]
pub struct AppBuilder {
    pub(super) limits: Limits,
    pub(super) host_limits: HostLimits,
    pub(super) compile_limits: CompileLimits,
    pub(super) compiler: Option<CompilerProcess>,
    pub(super) concurrency: Concurrency,
    /// Code that other apps have too.
    pub(super) shared_code: Option<SharedCode>,
    pub(super) command: CommandSpec,
    pub(super) guests: Vec<GuestSpec>,
    /// The permitted calls. All calls are permitted if this is `None`.
    pub(super) may_call: Option<Vec<CallSpec>>,
    pub(super) channels: Vec<ChannelSpec>,
    pub(super) scopes: Vec<ScopeSpec>,
    pub(super) policy: OomPolicy,
    pub(super) pressure: Option<Box<dyn PressureSource>>,
    pub(super) gauge: Option<Arc<dyn MemoryGauge>>,
    pub(super) stop_timeout: Option<Duration>,
    /// Whether calls whose types are known pass dynamic values too.
    pub(super) dynamic_calls: bool,
}

/// The condition on which the guests of an app run on an engine with concurrency support.
///
/// All guests of an app share one engine. On an engine with concurrency support, each call between
/// guests takes about a microsecond longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Concurrency {
    /// A guest needs it: its component contains async functions, streams or futures, or imports
    /// an interface of WASI 0.3.
    #[default]
    Auto,
    /// None: the engine always has it.
    On,
}

impl std::fmt::Debug for AppBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppBuilder")
            .field("guests", &self.guests)
            .finish_non_exhaustive()
    }
}

impl AppBuilder {
    /// Sets what each guest may hold and use, unless its [`GuestSpec::limits`] are set.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> AppBuilder {
        self.limits = limits;
        self
    }

    /// Sets what all guests together may hold.
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
    /// [`CompileLimits::time`] and [`CompileLimits::memory_bytes`] hold.
    ///
    /// Without this, they are compiled in this process, and these two limits do not hold.
    /// Then measuring is the only defence against components that are made expensive to
    /// compile. If the process cannot be started, the app does not start.
    #[must_use]
    pub fn compiler(mut self, process: CompilerProcess) -> AppBuilder {
        self.compiler = Some(process);
        self
    }

    /// Sets when the guests run on an engine with concurrency support. The default is
    /// [`Concurrency::Auto`]: if a guest needs it.
    #[must_use]
    pub fn concurrency(mut self, concurrency: Concurrency) -> AppBuilder {
        self.concurrency = concurrency;
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
    pub(crate) fn guests_mut(&mut self) -> &mut [GuestSpec] {
        &mut self.guests
    }

    /// Permits these calls, and no others than were permitted before. Without any call of
    /// this method, each import of a guest is linked to whichever guest exports it.
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

    /// Sets how long the commands may take to end when the app is
    /// [stopped](super::AppHandle::stop). The default is 1 s.
    ///
    /// It counts while a command runs that imports `tombolo:app/lifecycle`, and so learns of
    /// the stop. When all of those have ended, the other commands have at most 1 s. If there
    /// are none, all commands are ended at once.
    #[must_use]
    pub fn stop_timeout(mut self, timeout: Duration) -> AppBuilder {
        self.stop_timeout = Some(timeout);
        self
    }

    /// Watches this source of memory pressure while the app runs. Pressure purges, is
    /// reported to the guests, and then has the effect that
    /// [`on_pressure`](AppBuilder::on_pressure) sets. See
    /// [`detect`](tombolo::pressure::detect) for the kernel's own reports.
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

    /// Sets what happens when memory is short and purging has freed nothing. The default is
    /// [`OnPressure::Purge`]: nothing.
    #[must_use]
    pub fn on_pressure(mut self, on_pressure: OnPressure) -> AppBuilder {
        self.policy.on_pressure = on_pressure;
        self
    }

    /// Sets the OOM score of a guest, from 0 to 1000. The default is 500.
    ///
    /// If guests are ended because memory is short, the one with the highest score goes
    /// first. Among equal scores, the one that was busy longest ago goes first.
    #[must_use]
    pub fn oom_score(mut self, guest: impl Into<String>, score: u16) -> AppBuilder {
        self.policy.scores.push((guest.into(), score));
        self
    }

    /// Sets the OOM floor, from 0 to 1000. The default is 1. No guest with a score below it
    /// is ended because memory is short.
    #[must_use]
    pub fn oom_floor(mut self, floor: u16) -> AppBuilder {
        self.policy.floor = floor;
        self
    }

    /// Sets a hook that is asked before a guest is ended because memory is short. It may
    /// spare the guest this time, and is then asked about the next one. A dry run asks it
    /// too, and counts what would have happened.
    ///
    /// [`AppHandle::kill_for_memory`](super::AppHandle::kill_for_memory) calls it on a thread
    /// of its own, outside of the runtime, or on the caller's thread if there is no memory
    /// for one. It may block, but should be quick because memory is short. If it panics,
    /// so does `kill_for_memory`, and no guest is ended. It is asked again at the next report.
    #[must_use]
    pub fn before_kill(
        mut self,
        hook: impl FnMut(&Candidate) -> Verdict + Send + 'static,
    ) -> AppBuilder {
        self.policy.hook = Some(Box::new(hook));
        self
    }
}
