//! Memory pressure: reports of the kernel, and the reaction to them.
//!
//! A budget keeps regions within what their host may commit. It cannot know
//! what the rest of the machine needs at the moment; the kernel does, and says
//! so. [`detect()`] finds out how in this process, and
//! [`RegionHost::watch_pressure`](crate::RegionHost::watch_pressure) does what is to be done: it purges what
//! nobody pins, tells guests (interface `tombolo:memory/pressure`), and calls
//! back.
//!
//! ```no_run
//! use tombolo::RegionHost;
//! use tombolo::pressure::{self, Thresholds};
//!
//! # fn main() -> std::io::Result<()> {
//! let host = RegionHost::new();
//! let detected = pressure::detect(Thresholds::default());
//! eprintln!("{}", detected.note());
//! let _monitor = match detected.into_source() {
//!     Some(source) => Some(host.watch_pressure(source, |level, purged| {
//!         eprintln!("{level} memory pressure: {purged} bytes purged");
//!     })?),
//!     None => None,
//! };
//! // ... until `_monitor` is dropped ...
//! # Ok(())
//! # }
//! ```
//!
//! Without swap space the kernel reports pressure too late: it kills a process as soon as a
//! limit is met. So a host also keeps a [margin](crate::HostLimits::margin) of memory free,
//! which it measures with a [`MemoryGauge`]. [`RegionHost::watch_pressure`](crate::RegionHost::watch_pressure) listens to
//! reports; [`RegionHost::keep_margin`](crate::RegionHost::keep_margin) watches the margin.
//!
//! A program that hears of pressure in a way of its own implements
//! [`PressureSource`], or calls
//! [`RegionHost::report_pressure`](crate::RegionHost::report_pressure).
//!
//! | file | what |
//! |---|---|
//! | `psi` | pressure-stall information |
//! | `events` | a cgroup's `memory.events` |
//! | `detect` | the best of these that works |
//! | `cgroup` | where this process's cgroup is, and what it may use |
//! | `gauge` | how much memory is left, by cgroups and machine |
//! | `threshold` | memory thresholds of cgroups v1 |
//! | `margin` | memory that a host keeps free: what it promises, purges and refuses |
//! | `keeper` | the thread that looks after that |
//! | `monitor` | what a host does about pressure |
//! | `debounce` | how long a level lasts |
//! | `thread` | a thread that waits for the kernel |
//! | `tree` | made-up systems, for tests |

mod cgroup;
mod debounce;
mod detect;
mod events;
mod gauge;
mod psi;
mod thread;
mod threshold;
#[cfg(test)]
pub(crate) mod tree;

use std::fmt;
use std::io;
use std::sync::Arc;

pub use self::cgroup::Cgroup;
pub(crate) use self::debounce::Debounce;
pub use self::detect::{Detected, detect};
pub use self::events::MemoryEvents;
pub use self::gauge::{Headroom, MemoryGauge, SystemGauge};
pub use self::psi::{Psi, Thresholds};
pub(crate) use self::thread::{Thread, Waiter};

/// How short of memory the host is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// There is enough.
    #[default]
    Normal,
    /// Some programs wait for memory at times.
    Moderate,
    /// Hardly anything goes on for lack of memory.
    Critical,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Normal => "normal",
            Level::Moderate => "moderate",
            Level::Critical => "critical",
        })
    }
}

/// Whoever knows of memory pressure: the kernel, or what an embedder has.
pub trait PressureSource: Send {
    /// What it is, for messages: a noun.
    fn name(&self) -> String;

    /// Begins to report to `sink`, each time that there is pressure, and when
    /// there is none any more. A report may take its time: it purges.
    ///
    /// Dropping what this returns stops the source: nothing is reported
    /// afterwards, and no thread of its is left.
    ///
    /// # Errors
    ///
    /// What keeps it from starting.
    fn start(self: Box<Self>, sink: PressureSink) -> io::Result<Box<dyn Send>>;
}

impl PressureSource for Box<dyn PressureSource> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn start(self: Box<Self>, sink: PressureSink) -> io::Result<Box<dyn Send>> {
        (*self).start(sink)
    }
}

/// Where a [`PressureSource`] reports to. Cheap to clone.
#[derive(Clone)]
pub struct PressureSink(Arc<dyn Fn(Level) + Send + Sync>);

impl PressureSink {
    /// A sink that calls `report`. [`RegionHost::watch_pressure`](crate::RegionHost::watch_pressure) makes its
    /// own.
    pub fn new(report: impl Fn(Level) + Send + Sync + 'static) -> PressureSink {
        PressureSink(Arc::new(report))
    }

    /// Reports the level, also where it is what was reported last: each report
    /// says that there is that pressure *now*.
    pub fn report(&self, level: Level) {
        (self.0)(level);
    }
}

impl fmt::Debug for PressureSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PressureSink").finish_non_exhaustive()
    }
}

/// Says which file an error is about.
fn about(path: &std::path::Path, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
