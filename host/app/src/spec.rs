//! What an app is made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::output::Output;
use tombolo::{Limits, Rights};

/// A directory that a guest is granted, opened by whoever grants it.
#[derive(Debug)]
pub struct Grant {
    /// The directory.
    pub dir: cap_std::fs::Dir,
    /// Where it is, for messages.
    pub host_path: PathBuf,
    /// The path under which the guest sees it.
    pub guest_path: String,
    /// Whether the guest can only read in it.
    pub read_only: bool,
}

/// What the first command gets besides what its [`GuestSpec`] says: the first
/// guest that exports `wasi:cli/run`. For programs that do not know which one it
/// is.
#[derive(Debug, Default)]
pub struct CommandSpec {
    /// Its arguments; its name is put in front.
    pub args: Vec<String>,
    /// Its variables.
    pub env: Vec<(String, String)>,
    /// Its directories.
    pub dirs: Vec<Grant>,
}

/// One guest of an app.
#[derive(Debug, Default)]
pub struct GuestSpec {
    /// Its name, told apart from the others'.
    pub name: String,
    /// The component, in binary form. Guests that are the same program may share it.
    pub wasm: Arc<[u8]>,
    /// Whether it uses the standard streams of this process. It prints as to
    /// [`Output::stdout`] and [`Output::stderr`]. Only the first command gets the
    /// standard input. Otherwise its output is discarded, and its standard input is empty.
    ///
    /// No read or write of a standard stream blocks a strand or the end of the app.
    pub inherit_stdio: bool,
    /// The destination of its standard output, whatever
    /// [`inherit_stdio`](GuestSpec::inherit_stdio) is.
    pub stdout: Option<Output>,
    /// The destination of its standard error, whatever
    /// [`inherit_stdio`](GuestSpec::inherit_stdio) is.
    pub stderr: Option<Output>,
    /// Its arguments; its name is put in front.
    pub args: Vec<String>,
    /// Its variables.
    pub env: Vec<(String, String)>,
    /// Its directories.
    pub dirs: Vec<Grant>,
    /// What it may hold and take; otherwise what is set for
    /// [all of them](super::AppBuilder::limits).
    pub limits: Option<Limits>,
    /// The strand that it belongs to. Guests of one strand take turns, those of
    /// different ones run in parallel. Only those of one may share live windows.
    /// Otherwise it is a strand of its own.
    pub strand: Option<String>,
    /// Whether it is started again when it fails.
    pub restart: Restart,
}

impl GuestSpec {
    /// A guest that gets nothing.
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

/// Whether a guest is started again when it fails: when it traps, is ended by
/// the host or the operator, or exits with a code other than 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Its end is its end.
    #[default]
    Never,
    /// It is started anew, with fresh memory, after a while.
    OnFailure(Backoff),
}

/// How long a guest waits before it is started again, and how often it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure. It doubles with each one.
    pub delay: Duration,
    /// The longest wait.
    pub max_delay: Duration,
    /// How many restarts in a row there are at most: then the guest has ended.
    pub max_restarts: u32,
    /// How long a guest must live for its failures before that to be forgotten.
    pub healthy_after: Duration,
}

impl Default for Backoff {
    /// 100 ms, up to 10 s; 5 restarts; forgotten after 10 s.
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
    /// The wait after so many failures in a row, the first of which is 1.
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
    /// How many messages may wait in it; at least 1.
    pub capacity: u32,
    /// How many bytes a message may have, besides its regions; what is bigger
    /// belongs in a region. At most [`ChannelSpec::MOST_BYTES`].
    pub message_bytes: u64,
    /// How many regions a message may have.
    pub message_regions: u32,
}

impl ChannelSpec {
    /// How many messages may wait if nothing else is said.
    pub const CAPACITY: u32 = 16;
    /// How many bytes a message may have if nothing else is said: 1 MiB.
    pub const MESSAGE_BYTES: u64 = 1 << 20;
    /// How many bytes a message can be allowed at most: 64 MiB. Wasmtime hands a host
    /// function no more than 128 MiB in a call, and no more than the sender's limit
    /// `host-memory` leaves.
    pub const MOST_BYTES: u64 = 64 << 20;
    /// How many regions a message may have if nothing else is said.
    pub const MESSAGE_REGIONS: u32 = 16;
}

/// A scope: names of regions that its members share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeSpec {
    /// Its name.
    pub name: String,
    /// Its members, and the rights that each gets to what it opens. Who may
    /// publish in it has [`Rights::SHARE`].
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
