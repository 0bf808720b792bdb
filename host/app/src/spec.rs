//! The parts of an app, as its builder takes them.
//!
//! Embedders write the structs as literals, so they are not `#[non_exhaustive]`. A new
//! field is a breaking change. Code that ends a literal with `..GuestSpec::new(name, wasm)`, or
//! with `..Default::default()` where that exists, needs no change then.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::output::Output;
use tombolo::{Limits, Rights};

/// A directory that a guest is granted.
///
/// It is open already, as a capability of `cap_std`, which wasmtime-wasi takes as well. So what
/// was checked is what the guest gets, even if the path is replaced meanwhile.
#[derive(Debug)]
pub struct Grant {
    /// The directory.
    pub dir: cap_std::fs::Dir,
    /// Its path in the host, for messages.
    pub host_path: PathBuf,
    /// The path under which the guest sees it.
    pub guest_path: String,
    /// Whether the guest can only read in it.
    pub read_only: bool,
}

/// Arguments, variables and directories of the first command, in addition to its
/// [`GuestSpec`]. The first command is the first guest that exports `wasi:cli/run`. This is for
/// programs that do not know which one it is.
#[derive(Debug, Default)]
pub struct CommandSpec {
    /// Its arguments. Its name is put in front.
    pub args: Vec<String>,
    /// Its environment variables.
    pub env: Vec<(String, String)>,
    /// Its directories.
    pub dirs: Vec<Grant>,
}

/// One guest of an app.
#[derive(Debug, Default)]
pub struct GuestSpec {
    /// Its name. It should differ from the names of the other guests, because calls, channels,
    /// scopes and handles refer to guests by name.
    pub name: String,
    /// The component, in binary form. Guests that are the same program may share it.
    pub wasm: Arc<[u8]>,
    /// Whether it uses the standard streams of this process. Then it prints as to
    /// [`Output::stdout`] and [`Output::stderr`], and the first command gets the standard input.
    /// Otherwise its output is discarded, and its standard input is empty.
    ///
    /// No read or write of a standard stream blocks a strand or the end of the app.
    pub inherit_stdio: bool,
    /// The destination of its standard output, whatever
    /// [`inherit_stdio`](GuestSpec::inherit_stdio) is.
    pub stdout: Option<Output>,
    /// The destination of its standard error, whatever
    /// [`inherit_stdio`](GuestSpec::inherit_stdio) is.
    pub stderr: Option<Output>,
    /// Its arguments. Its name is put in front.
    pub args: Vec<String>,
    /// Its environment variables.
    pub env: Vec<(String, String)>,
    /// Its directories.
    pub dirs: Vec<Grant>,
    /// Its limits. By default it has those of [all guests](super::AppBuilder::limits).
    pub limits: Option<Limits>,
    /// The name of its strand. Guests of one strand take turns, and only they may share live
    /// windows. Guests of different strands run in parallel. By default it has a strand of its
    /// own.
    pub strand: Option<String>,
    /// Whether it is restarted when it fails.
    pub restart: Restart,
}

impl GuestSpec {
    /// Makes a guest without any grants.
    pub fn new(name: impl Into<String>, wasm: impl Into<Arc<[u8]>>) -> GuestSpec {
        GuestSpec {
            name: name.into(),
            wasm: wasm.into(),
            ..GuestSpec::default()
        }
    }

    /// Returns the destinations of its standard output and standard error.
    pub(super) fn outputs(&self) -> (Option<Output>, Option<Output>) {
        let inherited = |output: fn() -> Output| self.inherit_stdio.then(output);
        (
            self.stdout.clone().or_else(|| inherited(Output::stdout)),
            self.stderr.clone().or_else(|| inherited(Output::stderr)),
        )
    }
}

/// Whether a guest is restarted when it fails: when it traps, is ended by the host or the
/// operator, or exits with a code other than 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Restart {
    /// It is not restarted.
    #[default]
    Never,
    /// It is restarted after a while, with fresh memory.
    OnFailure(Backoff),
}

/// How long a guest waits before it is restarted, and how often it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure. It doubles with each one.
    pub delay: Duration,
    /// The longest wait.
    pub max_delay: Duration,
    /// The most restarts in a row. After those the guest has ended.
    pub max_restarts: u32,
    /// How long a guest must live for its failures before that to be forgotten.
    pub healthy_after: Duration,
}

impl Default for Backoff {
    /// Returns a back-off from 100 ms to 10 s, with 5 restarts, forgotten after 10 s.
    fn default() -> Backoff {
        Backoff {
            delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(10),
            max_restarts: 5,
            healthy_after: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    /// Returns the wait after this many failures in a row. The first failure is 1.
    #[must_use]
    pub fn wait(&self, failures: u32) -> Duration {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        self.delay.saturating_mul(doubled).min(self.max_delay)
    }
}

/// A channel: messages from some guests to one, first in, first out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSpec {
    /// Its name, by which guests open it.
    pub name: String,
    /// The guests that may send.
    pub from: Vec<String>,
    /// The guest that receives.
    pub to: String,
    /// The number of messages that may wait in it: at least 1.
    pub capacity: u32,
    /// The most bytes of a message, besides its regions. It is at most
    /// [`ChannelSpec::MOST_BYTES`]. Larger data belongs in a region.
    pub message_bytes: u64,
    /// The most regions of a message.
    pub message_regions: u32,
}

impl ChannelSpec {
    /// The default number of messages that may wait.
    pub const CAPACITY: u32 = 16;
    /// The default for the most bytes of a message: 1 MiB.
    pub const MESSAGE_BYTES: u64 = 1 << 20;
    /// The highest value for the most bytes of a message: 64 MiB. Wasmtime passes a host
    /// function at most 128 MiB in a call, and no more than the sender's limit `host-memory`
    /// leaves.
    pub const MOST_BYTES: u64 = 64 << 20;
    /// The default for the most regions of a message.
    pub const MESSAGE_REGIONS: u32 = 16;
}

/// A scope: names of regions that its members share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeSpec {
    /// Its name.
    pub name: String,
    /// Its members, and the rights that each gets to the regions that it opens. A member with
    /// [`Rights::SHARE`] may publish.
    pub members: Vec<(String, Rights)>,
}

/// Permission for one guest to call another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSpec {
    /// The guest that calls.
    pub from: String,
    /// The guest that is called.
    pub to: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_doubles_up_to_its_limit() {
        let backoff = Backoff {
            delay: Duration::from_millis(100),
            max_delay: Duration::from_millis(350),
            ..Backoff::default()
        };
        let waits: Vec<_> = (1..=4).map(|n| backoff.wait(n).as_millis()).collect();
        assert_eq!(waits, [100, 200, 350, 350]);
        assert_eq!(backoff.wait(u32::MAX), backoff.max_delay);
    }
}
