//! Memory pressure: sources that report it, and a gauge of free memory.
//!
//! A budget keeps regions within what their host may commit. It cannot know what the rest of
//! the machine needs. The kernel knows, and reports it. [`detect()`] finds the best source of
//! reports for this process. [`RegionHost::watch_pressure`](crate::RegionHost::watch_pressure)
//! reacts to them: it purges unpinned bytes, tells guests (interface
//! `tombolo:memory/pressure`), and calls back.
//!
//! A source reports levels. At a report the host purges: the older half of the unpinned bytes
//! at [`Level::Moderate`], all of them at [`Level::Critical`]. If the level is critical for the
//! second time and there was nothing to purge, an app may terminate a guest.
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
//! which it measures with a [`MemoryGauge`].
//! [`RegionHost::keep_margin`](crate::RegionHost::keep_margin) watches that margin.
//!
//! A program that learns of pressure in a way of its own implements
//! [`PressureSource`], or calls
//! [`RegionHost::report_pressure`](crate::RegionHost::report_pressure).
//!
//! | file | content |
//! |---|---|
//! | `psi` | pressure-stall information |
//! | `events` | a cgroup's `memory.events` |
//! | `detect` | the best of these that works |
//! | `cgroup` | the cgroup of this process, and its limits |
//! | `gauge` | the memory that is left, by cgroups and machine |
//! | `threshold` | memory thresholds of cgroups v1 |
//! | `debounce` | the time for which a level lasts |
//! | `thread` | a thread that waits for the kernel |

mod cgroup;
mod debounce;
mod detect;
mod events;
mod gauge;
mod psi;
mod thread;
mod threshold;

use std::fmt;
use std::io;
use std::sync::Arc;

pub use self::cgroup::Cgroup;
pub(crate) use self::debounce::Debounce;
pub use self::detect::{Detected, detect};
pub use self::events::MemoryEvents;
pub use self::gauge::{Headroom, MemoryGauge, SystemGauge};
pub use self::psi::{Psi, Thresholds};
pub(crate) use self::thread::{Poller, Thread};

/// A level of memory pressure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// There is enough memory.
    #[default]
    Normal,
    /// Some programs wait for memory at times.
    Moderate,
    /// Hardly any program makes progress, for lack of memory.
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

/// A source of reports of memory pressure: the kernel, or one of an embedder.
pub trait PressureSource: Send {
    /// Returns a noun phrase that describes the source, for messages.
    fn name(&self) -> String;

    /// Begins to report to `sink`, each time that there is pressure, and when it is over. A
    /// report may block for long, because it purges.
    ///
    /// Dropping the returned value stops the source: nothing is reported afterwards, and no
    /// thread of it is left.
    ///
    /// # Errors
    ///
    /// If the source cannot start.
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

/// The receiver of the reports of a [`PressureSource`]. Cheap to clone.
#[derive(Clone)]
pub struct PressureSink(Arc<dyn Fn(Level) + Send + Sync>);

impl PressureSink {
    /// Creates a sink that calls `report`.
    /// [`RegionHost::watch_pressure`](crate::RegionHost::watch_pressure) creates its own.
    pub fn new(report: impl Fn(Level) + Send + Sync + 'static) -> PressureSink {
        PressureSink(Arc::new(report))
    }

    /// Reports the level. Each report means that there is that pressure *now*, so the same level
    /// may be reported again.
    pub fn report(&self, level: Level) {
        (self.0)(level);
    }
}

impl fmt::Debug for PressureSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PressureSink").finish_non_exhaustive()
    }
}

/// Adds the path of a file to an error about it.
fn about(path: &std::path::Path, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
