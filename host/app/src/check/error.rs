//! Why an app does not start.

use std::error::Error as _;
use std::fmt::{self, Write as _};

use crate::compile::TooLarge;
use crate::handle::NoSuchGuest;
use crate::link::{self, LinkErrors};
use crate::oom_policy::MAX_SCORE;
use crate::spec::ChannelSpec;
use crate::text;
use tombolo::PrepareError;
use tombolo_region::escape;

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
    /// No guest exports `wasi:cli/run` of WASI 0.2 or 0.3.
    #[error("{}", no_command(near))]
    NoCommand {
        /// The guests that export it in another version, with the names of the exports.
        near: Vec<(String, String)>,
    },
    /// A guest exports `wasi:cli/run` of WASI 0.2 or 0.3, but with other contents.
    #[error(
        "`{}` exports `{}`, which {}; a command has it as `{}`",
        escape(guest),
        escape(export),
        escape(found),
        run_type(export)
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
                    "this host runs async functions with a callback, as wit-bindgen and \
                     componentize-py make them, and no stackful ones or component threads"
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
        "none of the guests is a command: this host runs `wasi:cli/run` of versions 0.2 and \
         0.3, and {}",
        near.join(", ")
    )
}

/// Returns the type of `run` in this interface.
fn run_type(export: &str) -> &'static str {
    match link::runs_async(export) {
        true => "async func() -> result",
        false => "func() -> result",
    }
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
