//! Checking an app: errors that keep it from starting are found without starting it.

use std::collections::HashMap;
use std::error::Error as _;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, OptLevel};

use super::builder::AppBuilder;
use super::handle::{self, NoSuchGuest};
use super::instance_size::InstanceSize;
use super::interfaces;
use super::link::{self, Allowed, Interfaces, LinkError, LinkErrors, LinkPlan, LinkWarning, Part};
use super::oom_policy::MAX_SCORE;
use super::spec::{ChannelSpec, GuestSpec};
use super::state::GuestState;
use super::wasi;
use crate::compile::{self, Compiler, TooLarge};
use crate::text;
use tombolo::PrepareError;
use tombolo::internal::half_of_available;
use tombolo_exchange::GuestId;
use tombolo_region::escape;

/// The most bytes of host memory that a message takes besides its own bytes.
const MESSAGE_OVERHEAD: u64 = 512;

/// The findings of [`AppBuilder::check`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Findings {
    /// All that keeps the app from starting, as far as that shows without
    /// starting it.
    pub errors: Vec<StartError>,
    /// Problems that do not keep the app from starting.
    pub warnings: Vec<LinkWarning>,
    /// The imports and exports of the guests, and which guest serves which import. Guests that
    /// do not compile are missing.
    pub guests: Vec<Interfaces>,
}

/// An app that is ready to be instantiated.
pub(super) struct Prepared {
    pub(super) engine: Engine,
    pub(super) linker: Linker<GuestState>,
    pub(super) components: Vec<Component>,
    /// The host memory of the instances of each.
    pub(super) sizes: Vec<InstanceSize>,
    pub(super) plan: LinkPlan,
    /// The commands and the names of their exports; at least one.
    pub(super) commands: Vec<(GuestId, String)>,
}

/// Guests that are the same program share its code.
struct Programs<'a> {
    /// The different programs.
    wasm: Vec<&'a [u8]>,
    /// The program of each guest.
    of_guest: Vec<usize>,
}

impl<'a> Programs<'a> {
    fn of(guests: &'a [GuestSpec]) -> Programs<'a> {
        let mut programs = Programs {
            wasm: Vec::new(),
            of_guest: Vec::new(),
        };
        // A program is looked for by where it is first: to look at all its bytes takes
        // as long as starting many guests.
        let mut placed: HashMap<*const [u8], usize> = HashMap::new();
        let mut known: HashMap<&[u8], usize> = HashMap::new();
        for guest in guests {
            let program = *placed.entry(Arc::as_ptr(&guest.wasm)).or_insert_with(|| {
                *known.entry(&guest.wasm).or_insert_with(|| {
                    programs.wasm.push(&guest.wasm);
                    programs.wasm.len() - 1
                })
            });
            programs.of_guest.push(program);
        }
        programs
    }
}

/// The engine and linker with which guests are checked.
struct Tools {
    engine: Engine,
    linker: Linker<GuestState>,
}

impl AppBuilder {
    /// Measures the guests, reads their types and plans their links. Finds all errors that
    /// would keep the app from starting, without starting anything. The guests' code is
    /// validated, but not compiled.
    ///
    /// Blocks for a time in proportion to the size of the components.
    #[must_use]
    pub fn check(&self) -> Findings {
        let mut findings = Findings::default();
        let level = OptLevel::None;
        match self.tools(level, &mut findings) {
            Ok(tools) => {
                let programs = Programs::of(&self.guests);
                let mut compiler = self.compiler_for(&tools, level);
                self.examine(&tools, &programs, &mut compiler, true, &mut findings);
            }
            Err(error) => findings.errors.push(error),
        }
        findings
    }

    /// Prepares everything, or returns all errors. Nothing is compiled before all links
    /// have been checked.
    pub(super) fn prepare(&self) -> Result<Prepared, StartError> {
        let mut findings = Findings::default();
        let level = OptLevel::Speed;
        let tools = self.tools(level, &mut findings)?;
        let programs = Programs::of(&self.guests);
        let mut compiler = self.compiler_for(&tools, level);
        let sizes = self.examine(&tools, &programs, &mut compiler, false, &mut findings);
        let sizes = match (sizes, findings.errors.len()) {
            (Some(sizes), 0) => sizes,
            (_, 1) => return Err(findings.errors.remove(0)),
            _ => return Err(StartError::Several(findings.errors)),
        };

        let mut code: Vec<Option<Component>> = vec![None; programs.wasm.len()];
        let mut components = Vec::new();
        for (guest, program) in self.guests.iter().zip(&programs.of_guest) {
            let component = match &code[*program] {
                Some(component) => component.clone(),
                None => {
                    let component = compiler.code(programs.wasm[*program]).map_err(|source| {
                        StartError::Compile {
                            guest: guest.name.clone(),
                            source,
                        }
                    })?;
                    code[*program].insert(component).clone()
                }
            };
            components.push(component);
        }
        drop(compiler);
        let Tools { engine, linker } = tools;
        let parts = self.ids().map(|(guest, _)| guest).zip(&components);
        let parts = self.parts(parts);
        let examined = link::examine(&linker, &parts, &self.allowed());
        if let Some(errors) = LinkErrors::new(examined.errors) {
            return Err(StartError::Link(errors));
        }
        let commands = link::entries(&engine, &parts).into_iter();
        let commands = commands.map(|(part, export)| (part.id, export)).collect();
        Ok(Prepared {
            components,
            sizes,
            plan: examined.plan,
            engine,
            linker,
            commands,
        })
    }

    fn compiler_for<'a>(&'a self, tools: &'a Tools, level: OptLevel) -> Compiler<'a> {
        Compiler::new(
            &tools.engine,
            level,
            &self.compile_limits,
            self.compiler.as_ref(),
        )
    }

    /// Makes an engine, and the linker with all that the host offers. Adds what is
    /// wrong with the description to `findings`.
    ///
    /// # Errors
    ///
    /// If the host itself is at fault, so that the guests cannot be checked.
    fn tools(&self, level: OptLevel, findings: &mut Findings) -> Result<Tools, StartError> {
        self.policy_errors(&mut findings.errors);
        self.name_errors(&mut findings.errors);

        let mut config = compile::engine_config(level);
        tombolo::prepare(&mut config)?;
        let engine = Engine::new(&config).map_err(|error| StartError::Host(error.into()))?;
        let mut linker: Linker<GuestState> = Linker::new(&engine);
        wasi::add_to_linker(&mut linker)
            .and_then(|()| tombolo::add_to_linker(&mut linker))
            .and_then(|()| tombolo::add_pressure_to_linker(&mut linker))
            .and_then(|()| tombolo::add_waits_to_linker(&mut linker))
            .and_then(|()| interfaces::add_to_linker(&mut linker))
            .map_err(|error| StartError::Host(error.into()))?;
        Ok(Tools { engine, linker })
    }

    /// Adds to `findings` what there is, from the types of the guests. Returns what the
    /// instances of each take of the host's memory, if all of them could be read, and one
    /// is a command.
    fn examine(
        &self,
        tools: &Tools,
        programs: &Programs<'_>,
        compiler: &mut Compiler<'_>,
        check: bool,
        findings: &mut Findings,
    ) -> Option<Vec<InstanceSize>> {
        // The components that can be read.
        let mut read: Vec<(GuestId, Component)> = Vec::new();
        // The result for each program: its component and size, or what is wrong with it.
        type ReadProgram = Result<(Component, InstanceSize), String>;
        let mut types: Vec<Option<ReadProgram>> = vec![None; programs.wasm.len()];
        let mut sizes = Vec::new();
        for ((id, guest), program) in self.ids().zip(&programs.of_guest) {
            let known = match &types[*program] {
                Some(Ok(known)) => Ok(known.clone()),
                Some(Err(text)) => Err(wasmtime::Error::msg(text.clone())),
                None => compiler
                    .types(programs.wasm[*program], check)
                    .map(|(component, totals)| (component, InstanceSize::of(&totals))),
            };
            types[*program].get_or_insert_with(|| match &known {
                Ok(known) => Ok(known.clone()),
                Err(error) => Err(format!("{error:#}")),
            });
            match known {
                Ok((component, size)) => {
                    self.host_memory_error(guest, size, &mut findings.errors);
                    read.push((id, component));
                    sizes.push(size);
                }
                Err(source) => {
                    findings.errors.push(StartError::Compile {
                        guest: guest.name.clone(),
                        source,
                    });
                    sizes.push(InstanceSize::default());
                }
            }
        }
        let whole = read.len() == self.guests.len();
        let parts = self.parts(read.iter().map(|(guest, component)| (*guest, component)));
        let mut examined = link::examine(&tools.linker, &parts, &self.allowed());
        if !whole {
            // It may be what does not compile that exports it.
            let missing = |error: &LinkError| matches!(error, LinkError::Missing { .. });
            examined.errors.retain(|error| !missing(error));
        }
        findings.warnings = examined.plan.warnings;
        findings.guests = examined.interfaces;
        if let Some(errors) = LinkErrors::new(examined.errors) {
            findings.errors.push(StartError::Link(errors));
        }
        let entries = link::entries(&tools.engine, &parts);
        command_errors(&tools.engine, &parts, &entries, whole, &mut findings.errors);
        (whole && !entries.is_empty()).then_some(sizes)
    }

    /// Returns the guests with their ids.
    fn ids(&self) -> impl Iterator<Item = (GuestId, &GuestSpec)> {
        let guests = self.guests.iter().enumerate();
        guests.map(|(index, guest)| (GuestId::new(index), guest))
    }

    /// Returns these guests with their components, to be linked.
    fn parts<'a>(
        &'a self,
        components: impl Iterator<Item = (GuestId, &'a Component)>,
    ) -> Vec<Part<'a>> {
        let parts = components.map(|(id, component)| Part {
            id,
            name: &self.guests[id.index()].name,
            component,
        });
        parts.collect()
    }

    /// Finds a guest whose instances take more of the host's memory than its limit.
    fn host_memory_error(
        &self,
        guest: &GuestSpec,
        size: InstanceSize,
        errors: &mut Vec<StartError>,
    ) {
        let limits = guest.limits.as_ref().unwrap_or(&self.limits);
        if size.bytes > limits.host_memory_bytes {
            errors.push(StartError::HostMemory {
                guest: guest.name.clone(),
                bytes: size.bytes,
                most: limits.host_memory_bytes,
            });
        }
    }

    /// Returns which guests may call which others.
    fn allowed(&self) -> Allowed {
        let named = |name: &str| -> Vec<GuestId> {
            let named = self.ids().filter(|(_, guest)| guest.name == name);
            named.map(|(id, _)| id).collect()
        };
        Allowed(self.may_call.as_ref().map(|calls| {
            let mut allowed = Vec::new();
            for call in calls {
                for from in named(&call.from) {
                    allowed.extend(named(&call.to).into_iter().map(|to| (from, to)));
                }
            }
            allowed
        }))
    }

    fn exists(&self, guest: &str) -> Result<(), NoSuchGuest> {
        handle::exists(
            guest,
            self.guests.iter().map(|guest: &GuestSpec| &*guest.name),
        )
    }

    /// Finds scores for no guest, and those that are too high.
    fn policy_errors(&self, errors: &mut Vec<StartError>) {
        for (guest, score) in &self.policy.scores {
            if let Err(error) = self.exists(guest) {
                errors.push(error.into());
            }
            if *score > MAX_SCORE {
                errors.push(StartError::OomScore {
                    guest: guest.clone(),
                    score: *score,
                });
            }
        }
        if self.policy.floor > MAX_SCORE {
            errors.push(StartError::OomFloor {
                floor: self.policy.floor,
            });
        }
    }

    /// Finds what is wrong with the names in calls, channels and scopes.
    fn name_errors(&self, errors: &mut Vec<StartError>) {
        let mut need = |by: NamedBy, guests: &mut dyn Iterator<Item = &String>| {
            for guest in guests {
                if let Err(missing) = self.exists(guest) {
                    let by = by.clone();
                    errors.push(StartError::Names { by, missing });
                }
            }
        };
        for call in self.may_call.iter().flatten() {
            let by = NamedBy::Call {
                from: call.from.clone(),
                to: call.to.clone(),
            };
            need(by, &mut [&call.from, &call.to].into_iter());
        }
        for channel in &self.channels {
            let guests = channel.from.iter().chain([&channel.to]);
            need(NamedBy::Channel(channel.name.clone()), &mut { guests });
        }
        for scope in &self.scopes {
            let guests = scope.members.iter().map(|(guest, _)| guest);
            need(NamedBy::Scope(scope.name.clone()), &mut { guests });
        }

        for (index, channel) in self.channels.iter().enumerate() {
            if channel.capacity == 0 {
                errors.push(StartError::Capacity {
                    channel: channel.name.clone(),
                });
            }
            if channel.message_bytes > ChannelSpec::MOST_BYTES {
                errors.push(StartError::MessageBytes {
                    channel: channel.name.clone(),
                    bytes: channel.message_bytes,
                });
            }
            let each = channel.message_bytes.saturating_add(MESSAGE_OVERHEAD);
            let bytes = each.saturating_mul(channel.capacity.into());
            let most = half_of_available();
            if bytes > most {
                errors.push(StartError::Queue {
                    channel: channel.name.clone(),
                    bytes,
                    most,
                });
            }
            let before = &self.channels[..index];
            if before.iter().any(|other| other.name == channel.name) {
                errors.push(StartError::DuplicateChannel {
                    channel: channel.name.clone(),
                });
            }
        }
        for (index, scope) in self.scopes.iter().enumerate() {
            let before = &self.scopes[..index];
            if before.iter().any(|other| other.name == scope.name) {
                errors.push(StartError::DuplicateScope {
                    scope: scope.name.clone(),
                });
            }
        }
    }
}

/// A part of an app's description that names guests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NamedBy {
    /// The permission for one guest to call another.
    Call {
        /// The name of the guest that calls.
        from: String,
        /// The name of the guest that is called.
        to: String,
    },
    /// The channel of this name.
    Channel(String),
    /// The scope of this name.
    Scope(String),
}

impl fmt::Display for NamedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NamedBy::Call { from, to } => {
                write!(f, "the call from `{}` to `{}`", escape(from), escape(to))
            }
            NamedBy::Channel(name) => write!(f, "channel `{}`", escape(name)),
            NamedBy::Scope(name) => write!(f, "scope `{}`", escape(name)),
        }
    }
}

/// Why an app did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// This process cannot map regions.
    #[error("this process cannot map regions")]
    Prepare(#[from] PrepareError),
    /// A component does not compile.
    #[error("cannot compile guest `{}`", escape(guest))]
    Compile {
        /// The guest.
        guest: String,
        /// The error of wasmtime.
        source: wasmtime::Error,
    },
    /// The guests cannot be linked.
    #[error(transparent)]
    Link(#[from] LinkErrors),
    /// An OOM score is set for a guest that does not exist.
    #[error(transparent)]
    NoSuchGuest(#[from] NoSuchGuest),
    /// A call, a channel or a scope names a guest that does not exist.
    #[error("{by}: {missing}")]
    Names {
        /// The call, channel or scope that names it.
        by: NamedBy,
        /// The name, and those that there are.
        missing: NoSuchGuest,
    },
    /// Two channels have the same name.
    #[error("there are two channels `{}`", escape(channel))]
    DuplicateChannel {
        /// The name.
        channel: String,
    },
    /// Two scopes have the same name.
    #[error("there are two scopes `{}`", escape(scope))]
    DuplicateScope {
        /// The name.
        scope: String,
    },
    /// The capacity of a channel is 0.
    #[error("channel `{channel}` has `capacity = 0`; set it to at least 1")]
    Capacity {
        /// The channel.
        channel: String,
    },
    /// A channel allows more bytes in a message than a call can pass.
    #[error(
        "channel `{channel}` allows {bytes} bytes in a message; {} is the most",
        ChannelSpec::MOST_BYTES
    )]
    MessageBytes {
        /// The channel.
        channel: String,
        /// The bytes that it allows.
        bytes: u64,
    },
    /// A channel could hold more bytes, apart from regions, than half of the memory that there
    /// is.
    #[error("channel `{channel}` could hold {bytes} bytes of messages, more than {most}")]
    Queue {
        /// The channel.
        channel: String,
        /// How many bytes it could hold.
        bytes: u64,
        /// Half of the machine's memory, or of the cgroup's limit.
        most: u64,
    },
    /// The OOM score of a guest is too high.
    #[error(
        "`oom-score` of guest `{}` must be a number from 0 to {MAX_SCORE}, not {score}",
        escape(guest)
    )]
    OomScore {
        /// The guest.
        guest: String,
        /// The score.
        score: u16,
    },
    /// The OOM floor is too high.
    #[error("`oom-floor` must be a number from 0 to {MAX_SCORE}, not {floor}")]
    OomFloor {
        /// The floor.
        floor: u16,
    },
    /// The instances of a guest's component take more of the host's memory than the
    /// guest may have.
    #[error(
        "guest `{}` cannot be instantiated: its core instances take {} of the host's memory, \
         and its limit `host-memory` is {most} bytes",
        escape(guest),
        counted(*.bytes)
    )]
    HostMemory {
        /// The guest.
        guest: String,
        /// The bytes that they take; `u64::MAX` if this is too much to count.
        bytes: u64,
        /// The limit.
        most: u64,
    },
    /// No guest exports `wasi:cli/run` of WASI 0.2.
    #[error("{}", no_command(near))]
    NoCommand {
        /// The guests that export it in another version, with the names of the exports.
        near: Vec<(String, String)>,
    },
    /// A guest exports `wasi:cli/run` of WASI 0.2, but with other contents.
    #[error(
        "`{}` exports `{}`, which {}; a command has it as `func() -> result`",
        escape(guest),
        escape(export),
        escape(found)
    )]
    Run {
        /// The guest.
        guest: String,
        /// The name of the export.
        export: String,
        /// A description of the export as it is.
        found: String,
    },
    /// A directory cannot be granted.
    #[error("cannot grant guest `{}` its directories", escape(guest))]
    Grant {
        /// The guest.
        guest: String,
        /// The error of wasmtime.
        source: wasmtime::Error,
    },
    /// No thread can be started to write the output of a guest.
    #[error(
        "cannot start a thread to write the output of guest `{}`",
        escape(guest)
    )]
    Output {
        /// The guest.
        guest: String,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// A guest cannot be instantiated.
    #[error("cannot instantiate guest `{}`", escape(guest))]
    Instantiate {
        /// The guest.
        guest: String,
        /// The error of wasmtime.
        source: wasmtime::Error,
    },
    /// Several of these errors.
    #[error("the app cannot start, for {} reasons{}", .0.len(), listed(.0))]
    Several(Vec<StartError>),
    /// An error of the host itself.
    #[error("the host cannot start an app")]
    Host(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Returns how many bytes there are, in words.
fn counted(bytes: u64) -> String {
    match bytes {
        u64::MAX => "more bytes than can be counted".into(),
        bytes => format!("{bytes} bytes"),
    }
}

impl StartError {
    /// Returns hints for the operator on what to do.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            StartError::Link(errors) => errors.hints(),
            StartError::Several(errors) => {
                let mut hints = Vec::new();
                for hint in errors.iter().flat_map(StartError::hints) {
                    if !hints.contains(&hint) {
                        hints.push(hint);
                    }
                }
                hints
            }
            StartError::NoCommand { near } if !near.is_empty() => {
                vec!["build the guest for WASI 0.2: in Rust, for the target wasm32-wasip2".into()]
            }
            StartError::NoCommand { .. } => vec![
                "one of the guests has to be a command: in Rust, a program with a `main`, built \
                 for wasm32-wasip2"
                    .into(),
            ],
            StartError::MessageBytes { .. } => {
                vec!["larger data belongs in a region, which a message moves without a copy".into()]
            }
            StartError::Queue { .. } => vec![
                "lower how many messages may wait in it, or how many bytes each may have".into(),
            ],
            StartError::Compile { source, .. }
                if let Some(error) = source.downcast_ref::<TooLarge>() =>
            {
                vec![format!(
                    "if you trust the component, raise the limit: `--compile-limit {}=...`",
                    error.limit
                )]
            }
            // wasmtime's words; it does not name the function.
            StartError::Compile { source, .. }
                if format!("{source:#}").contains("component model async") =>
            {
                vec![
                    "asynchronous functions, streams and futures cannot pass between guests: a \
                     caller that goes on running would break lending"
                        .into(),
                ]
            }
            _ => Vec::new(),
        }
    }

    /// Returns the causes, escaped so that each can be shown as it is. The `source` of this
    /// error has wasmtime's own text, which quotes names from components.
    ///
    /// A backtrace of wasm is one cause, of several lines.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        match self {
            StartError::Compile { source, .. }
            | StartError::Grant { source, .. }
            | StartError::Instantiate { source, .. } => text::causes(source),
            _ => {
                let mut causes = Vec::new();
                let mut next = self.source();
                while let Some(cause) = next {
                    causes.push(escape(&cause.to_string()).to_string());
                    next = cause.source();
                }
                causes
            }
        }
    }
}

/// Adds the errors that keep the commands from being run. If `whole`, all guests are known,
/// and it is an error that there is no command.
fn command_errors(
    engine: &Engine,
    parts: &[Part<'_>],
    entries: &[(Part<'_>, String)],
    whole: bool,
    errors: &mut Vec<StartError>,
) {
    if entries.is_empty() && whole {
        errors.push(StartError::NoCommand {
            near: link::near_entries(engine, parts),
        });
    }
    for (part, export) in entries {
        if let Some(found) = link::misfit(engine, part, export) {
            errors.push(StartError::Run {
                guest: part.name.to_owned(),
                export: export.clone(),
                found,
            });
        }
    }
}

/// Returns the text of the error that there is no command. It names exports that are
/// similar to one.
fn no_command(near: &[(String, String)]) -> String {
    if near.is_empty() {
        return "none of the guests exports `wasi:cli/run`, so that there is nothing to start"
            .to_owned();
    }
    let near: Vec<String> = near
        .iter()
        .map(|(guest, export)| format!("`{}` exports `{}`", escape(guest), escape(export)))
        .collect();
    format!(
        "none of the guests is a command: this host runs `wasi:cli/run` of version 0.2, and {}",
        near.join(", ")
    )
}

/// A line for each error.
fn listed(errors: &[StartError]) -> String {
    let mut text = String::new();
    for error in errors {
        // With its causes, which are not causes of the error that lists it.
        let error = match error {
            StartError::Compile { source, .. }
            | StartError::Grant { source, .. }
            | StartError::Instantiate { source, .. } => {
                format!("{error}: {}", text::line(source))
            }
            _ => {
                let causes = error.causes().into_iter().map(|cause| format!(": {cause}"));
                format!("{error}{}", causes.collect::<String>())
            }
        };
        let _ = write!(text, "\n- {}", error.replace('\n', "\n  "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::spec::{CallSpec, ScopeSpec};
    use super::*;
    use tombolo::Rights;

    /// An app of one guest that does not compile, which says so.
    fn app() -> AppBuilder {
        AppBuilder::default().guest(GuestSpec::new("a", *b"\0asm\x0d\0\x01\0\x63"))
    }

    fn channel(to: &str, capacity: u32) -> ChannelSpec {
        ChannelSpec {
            name: "c".into(),
            from: vec!["a".into()],
            to: to.into(),
            capacity,
            message_bytes: ChannelSpec::MESSAGE_BYTES,
            message_regions: ChannelSpec::MESSAGE_REGIONS,
        }
    }

    fn texts(errors: &[StartError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn channels_cannot_hold_more_than_there_is() {
        let with = |capacity, message_bytes| {
            let channel = ChannelSpec {
                message_bytes,
                ..channel("a", capacity)
            };
            let mut errors = app().channel(channel).check().errors;
            errors.pop().expect("the guest does not compile");
            texts(&errors)
        };
        assert_eq!(with(16, ChannelSpec::MESSAGE_BYTES), [""; 0]);
        let [error] = &with(u32::MAX, 0)[..] else {
            panic!("the messages themselves are something, too");
        };
        assert!(error.contains("could hold 2199023255040 bytes"), "{error}");
        let [error] = &with(1, ChannelSpec::MOST_BYTES + 1)[..] else {
            panic!("more than in a call");
        };
        assert!(error.contains("67108864 is the most"), "{error}");
        let errors = with(u32::MAX, u64::MAX);
        assert_eq!(errors.len(), 2, "{errors:?}");
    }

    #[test]
    fn all_errors_are_found_at_once() {
        let scope = ScopeSpec {
            name: "s".into(),
            members: vec![("a".into(), Rights::ALL), ("d".into(), Rights::READ)],
        };
        let call = CallSpec {
            from: "a".into(),
            to: "b".into(),
        };
        let app = app()
            .oom_score("x", 3)
            .oom_score("a", 1001)
            .oom_floor(1001)
            .may_call([call])
            .channel(channel("e", 1))
            .channel(channel("a", 0))
            .scope(scope);
        let errors = [
            "there is no guest `x`; the guests are `a`",
            "`oom-score` of guest `a` must be a number from 0 to 1000, not 1001",
            "`oom-floor` must be a number from 0 to 1000, not 1001",
            "the call from `a` to `b`: there is no guest `b`; the guests are `a`",
            "channel `c`: there is no guest `e`; the guests are `a`",
            "scope `s`: there is no guest `d`; the guests are `a`",
            "channel `c` has `capacity = 0`; set it to at least 1",
            "there are two channels `c`",
            "cannot compile guest `a`",
        ];
        let findings = app.check();
        assert_eq!(texts(&findings.errors), errors);
        assert!(findings.guests.is_empty());

        let error = app.prepare().err().expect("nothing is ready").to_string();
        assert!(
            error.starts_with("the app cannot start, for 9 reasons\n- there is no guest `x`"),
            "{error}"
        );
        assert!(error.contains("\n- cannot compile guest `a`: "), "{error}");
    }

    #[test]
    fn one_error_is_itself() {
        let error = app().prepare().err().expect("nothing is ready");
        assert!(matches!(error, StartError::Compile { .. }), "{error}");
        let error = AppBuilder::default()
            .prepare()
            .err()
            .expect("nothing is ready");
        assert!(matches!(error, StartError::NoCommand { .. }), "{error}");
    }
}
