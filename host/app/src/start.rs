//! Starting an app: its guests are made, linked, and instantiated.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::oneshot;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use super::async_interfaces::ASYNC_LIFECYCLE;
use super::builder::AppBuilder;
use super::call_stats::CallStats;
use super::channel::{Channel, Channels};
use super::check::{Prepared, StartError};
use super::exit::GuestExit;
use super::grants::AppGrants;
use super::guests::Inbox;
use super::import::ImportWays;
use super::incarnation::Incarnation;
use super::instance_size::InstanceSize;
use super::interfaces::LIFECYCLE;
use super::link::{self, LinkPlan};
use super::oom::OomKiller;
use super::output::Stdio;
use super::pressure_task::PressureTask;
use super::proxy::ProxyKind;
use super::run::App;
use super::scope::{Scope, Scopes};
use super::signals::{AppSignals, STOP_TIMEOUT};
use super::spec::{ChannelSpec, CommandSpec, GuestSpec, Restart, ScopeSpec};
use super::state::GuestState;
use super::strand::{AppStrand, Strands};
use super::supervisor::Supervisor;
use super::table::{GuestEntry, GuestTable};
use super::template::GuestTemplate;
use super::ticker::Ticker;
use super::values;
use tombolo::internal::LimitsInternals as _;
use tombolo::{Limits, RegionHost};
use tombolo_exchange::{ChannelSettings, GuestId, Member};

/// Learns whether a guest could be instantiated.
type Ready = oneshot::Receiver<wasmtime::Result<()>>;

/// The first incarnations of all guests, before they start.
type FirstStates = Vec<(GuestState, Inbox)>;

fn host_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StartError {
    StartError::Host(error.into())
}

impl AppBuilder {
    /// Measures, links, compiles and instantiates the guests. If the guests cannot be linked,
    /// nothing is compiled.
    ///
    /// Blocks while it compiles. Call it on a tokio runtime with time and I/O enabled;
    /// strands are tasks on it. On a runtime with several threads they run in parallel. If
    /// the future is dropped, all guests end.
    ///
    /// # Errors
    ///
    /// Everything that [`check`](AppBuilder::check) finds, and what else keeps the app from
    /// starting. Nothing is running then. What guests printed before is written, unless its
    /// destination takes nothing for 1 s.
    pub async fn start(self) -> Result<App, StartError> {
        let Prepared {
            engine,
            linker,
            components,
            sizes,
            plan,
            commands,
        } = self.prepare()?;
        for warning in &plan.warnings {
            tracing::warn!("{warning}");
        }

        let host = match self.gauge {
            Some(gauge) => RegionHost::with_gauge(self.host_limits, gauge),
            None => RegionHost::with_limits(self.host_limits),
        };
        // Finds the cgroups and measures memory a first time, before a guest's clock runs.
        let _ = host.may_grow(0);
        let ticker = Ticker::start(&engine).map_err(host_error)?;
        let grants = AppGrants {
            channels: Arc::new(channels(&self.guests, self.channels, &self.limits)),
            scopes: Arc::new(scopes(&self.guests, self.scopes)),
            signals: AppSignals::new(),
        };
        let maker = TemplateMaker {
            engine: &engine,
            plan: &plan,
            limits: &self.limits,
            commands: &commands,
            command: Some(self.command),
            strands: AppStrand::of_all(&self.guests),
        };
        let guests = self.guests.into_iter().zip(components).zip(sizes);
        let (table, states) = maker.table(guests, &host, &grants)?;
        let stats = CallStats::default();
        let ways = ImportWays {
            table: &table,
            stats: &stats,
            dynamic: self.dynamic_calls,
        };
        link_guests(&ways, linker, &plan).map_err(host_error)?;

        let killer = OomKiller::new(self.policy, Some(engine.clone()));
        let supervisor = Arc::new(Supervisor {
            engine,
            host: host.clone(),
            table,
            ticker,
            app: grants,
            kinds: ProxyKind::all(plan.resources),
        });
        let (strands, ready) = enter_all(&supervisor, states);
        let mut app = App {
            host,
            killer,
            supervisor,
            stats,
            strands,
            commands,
            pressure_task: None,
            early: VecDeque::new(),
            stop_timeout: self.stop_timeout.unwrap_or(STOP_TIMEOUT),
        };
        let pressure_task = PressureTask::start(self.pressure, &app.host, app.handle());
        app.pressure_task = Some(pressure_task.map_err(host_error)?);
        app.all_ready(ready).await
    }
}

impl App {
    /// Waits until all guests are instantiated, or one cannot be.
    async fn all_ready(mut self, ready: Vec<Ready>) -> Result<App, StartError> {
        for (index, ready) in ready.into_iter().enumerate() {
            let source = match self.ready(ready).await {
                Ok(Ok(())) => continue,
                Ok(Err(source)) => source,
                Err(_) => wasmtime::Error::msg("the guest's task ended"),
            };
            let supervisor = self.supervisor.clone();
            // Ends the other guests, so that they print no more.
            drop(self);
            supervisor.printed().await;
            let entry = supervisor.table.entry(GuestId::new(index));
            return Err(StartError::Instantiate {
                guest: entry.peer.name.to_string(),
                source,
            });
        }
        Ok(self)
    }

    /// Waits until one guest is ready. Guests that are ready already may be called meanwhile
    /// and fail, and others may wait for their next incarnations. So those are started.
    async fn ready(
        &mut self,
        mut ready: Ready,
    ) -> Result<wasmtime::Result<()>, oneshot::error::RecvError> {
        loop {
            tokio::select! {
                biased;
                ready = &mut ready => return ready,
                Some(exit) = self.strands.next() => {
                    if let Some(exit) = self.start_again(exit, true) {
                        self.early.push_back(exit);
                    }
                }
            }
        }
    }
}

/// Makes the templates of the guests.
struct TemplateMaker<'a> {
    engine: &'a Engine,
    plan: &'a LinkPlan,
    limits: &'a Limits,
    commands: &'a [(GuestId, String)],
    /// Taken by the first command.
    command: Option<CommandSpec>,
    /// The strand of each guest.
    strands: Vec<AppStrand>,
}

impl TemplateMaker<'_> {
    /// Makes the table of all guests, and the states of their first incarnations.
    fn table(
        mut self,
        guests: impl Iterator<Item = ((GuestSpec, Component), InstanceSize)>,
        host: &RegionHost,
        grants: &AppGrants,
    ) -> Result<(Arc<GuestTable>, FirstStates), StartError> {
        let (mut entries, mut states) = (Vec::new(), Vec::new());
        for (index, ((spec, component), size)) in guests.enumerate() {
            let guest = GuestId::new(index);
            let template = self.template(guest, spec, component, size)?;
            let state =
                template
                    .state(host, grants.of(guest))
                    .map_err(|source| StartError::Grant {
                        guest: template.spec.name.clone(),
                        source,
                    })?;
            let (entry, inbox) = GuestEntry::new(guest, template, &state);
            entries.push(entry);
            states.push((state, inbox));
        }
        Ok((Arc::new(GuestTable::new(entries)), states))
    }

    fn template(
        &mut self,
        guest: GuestId,
        mut spec: GuestSpec,
        component: Component,
        size: InstanceSize,
    ) -> Result<GuestTemplate, StartError> {
        // It is compiled, so the binary form is not needed any more.
        spec.wasm = Arc::default();
        let (stdout, stderr) = spec.outputs();
        let stdio = Stdio::new(&spec.name, stdout.as_ref(), stderr.as_ref());
        let stdio = stdio.map_err(|source| StartError::Output {
            guest: spec.name.clone(),
            source,
        })?;
        let is_first = self.commands.first().is_some_and(|(it, _)| *it == guest);
        let run = self.commands.iter().find(|(command, _)| *command == guest);
        let ty = component.component_type();
        let mut imports = ty.imports(self.engine);
        let hears_stop = imports.any(|(name, _)| {
            let interface = name.split('@').next();
            interface == Some(LIFECYCLE) || interface == Some(ASYNC_LIFECYCLE)
        });
        drop(imports);
        Ok(GuestTemplate {
            stdio,
            files: Arc::default(),
            strand: self.strands[guest.index()].clone(),
            command: is_first.then(|| self.command.take()).flatten(),
            limits: spec.limits.clone().unwrap_or_else(|| self.limits.clone()),
            size,
            lift_ratio: values::lift_ratio(&self.plan.links, guest),
            tasks: link::has_tasks(self.engine, &component),
            component,
            run: run.map(|(_, name)| name.clone()),
            hears_stop,
            account: OnceLock::new(),
            spec,
        })
    }
}

/// Makes a linker for each guest. Guests that call no other guest share one.
fn link_guests(
    ways: &ImportWays<'_>,
    linker: Linker<GuestState>,
    plan: &LinkPlan,
) -> wasmtime::Result<()> {
    let table = ways.table;
    let unlinked = Arc::new(linker);
    for importer in table.iter() {
        let links = || {
            let links = plan.links.iter();
            links.filter(|link| link.importer == importer.peer.id)
        };
        if links().next().is_none() {
            importer.set_linker(unlinked.clone());
            continue;
        }
        let mut linker = Linker::clone(&unlinked);
        for link in links() {
            let exporter = &table.entry(link.exporter).template;
            ways.define(&mut linker, link, &exporter.component)?;
        }
        importer.set_linker(Arc::new(linker));
    }
    Ok(())
}

/// Lets all guests enter their strands.
fn enter_all(
    supervisor: &Arc<Supervisor>,
    states: FirstStates,
) -> (Strands<GuestExit>, Vec<Ready>) {
    let table = &supervisor.table;
    let mut strands = Strands::new(table.iter().map(|entry| &entry.template.strand));
    let mut all = Vec::new();
    for (entry, (state, inbox)) in table.iter().zip(states) {
        let (tell, ready) = oneshot::channel();
        all.push(ready);
        let first = Incarnation::new(entry.peer.id, state, inbox, Duration::ZERO);
        strands.enter(entry.peer.id, supervisor.live(first, Some(tell)));
    }
    (strands, all)
}

/// Returns the guest of this name.
fn guest_id(guests: &[GuestSpec], name: &str) -> GuestId {
    let mut guests = guests.iter();
    let index = guests.position(|guest| guest.name == name);
    GuestId::new(index.expect("names were checked before"))
}

/// Makes the channels.
fn channels(guests: &[GuestSpec], specs: Vec<ChannelSpec>, limits: &Limits) -> Channels {
    let member = |guest: GuestId| {
        let spec = &guests[guest.index()];
        Member {
            guest,
            restarts: spec.restart != Restart::Never,
            quota: spec.limits.as_ref().unwrap_or(limits).quota(),
        }
    };
    Channels::new(specs.into_iter().map(|spec| {
        let senders = spec.from.iter().map(|name| guest_id(guests, name));
        let senders: BTreeSet<GuestId> = senders.collect();
        let receiver = guest_id(guests, &spec.to);
        let senders = senders.into_iter().map(member).collect();
        let settings = ChannelSettings {
            name: spec.name,
            to: spec.to,
            capacity: spec.capacity,
            message_bytes: spec.message_bytes,
            message_regions: spec.message_regions,
        };
        Channel::new(settings, senders, member(receiver))
    }))
}

/// Makes the scopes.
fn scopes(guests: &[GuestSpec], specs: Vec<ScopeSpec>) -> Scopes {
    Scopes::new(specs.into_iter().map(|spec| {
        let members = spec.members.iter();
        let members = members.map(|(name, rights)| (guest_id(guests, name), *rights));
        Scope::new(spec.name, members.collect())
    }))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc;

    use super::super::output::Output;
    use super::*;

    /// A command that prints why it cannot start, and traps.
    const GIVES_UP: &str = r#"
(component
  (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
  (alias export $errors "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $error (type $outer))
    (export "error" (type $error (eq $outer)))
    (export "output-stream" (type $stream (sub resource)))
    (type $failure (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failure)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $stream)) (param "contents" (list u8))
        (result (result (error $stream-error)))))
  ))
  (alias export $streams "output-stream" (type $stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $stream (type $outer))
    (export "output-stream" (type $stream (eq $outer)))
    (export "get-stdout" (func (result (own $stream))))
  ))
  (core module $memory (memory (export "memory") 1) (data (i32.const 0) "no license"))
  (core instance $memory (instantiate $memory))
  (core func $stdout (canon lower (func $stdout "get-stdout")))
  (core func $print (canon lower
    (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory (core memory $memory "memory"))))
  (core module $code
    (import "" "stdout" (func $stdout (result i32)))
    (import "" "print" (func $print (param i32 i32 i32 i32)))
    (func $start
      (call $print (call $stdout) (i32.const 0) (i32.const 10) (i32.const 64))
      unreachable)
    (start $start)
    (func (export "run") (result i32) i32.const 0)
  )
  (core instance $code (instantiate $code (with "" (instance
    (export "stdout" (func $stdout))
    (export "print" (func $print))
  ))))
  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance $run (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $run))
)"#;

    /// A slow destination: an app that does not wait for it ends too early.
    struct SlowOutput(mpsc::Sender<Vec<u8>>);

    impl Write for SlowOutput {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            std::thread::sleep(Duration::from_millis(50));
            let _ = self.0.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn output_of_a_failed_start_is_written() {
        let (kept, written) = mpsc::channel();
        let spec = GuestSpec {
            stdout: Some(Output::new(SlowOutput(kept)).named()),
            ..GuestSpec::new("a", wat::parse_str(GIVES_UP).unwrap())
        };
        let started = App::builder().guest(spec).start().await;
        let error = started.expect_err("it traps");
        assert!(
            matches!(&error, StartError::Instantiate { guest, .. } if guest == "a"),
            "{error:?}"
        );
        let written: Vec<u8> = written.try_iter().flatten().collect();
        assert_eq!(String::from_utf8_lossy(&written), "a | no license\n");
    }
}
