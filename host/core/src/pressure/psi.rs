//! Pressure-stall information.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::debounce::Debounce;
use super::thread::{Poller, Thread};
use super::{Level, PressureSink, PressureSource, about};

/// The unit of windows for processes without `CAP_SYS_RESOURCE` (`PSI_FREQ` of the kernel, since
/// 6.5).
const UNPRIVILEGED: Duration = Duration::from_secs(2);

/// The time for which programs must have waited for memory, within a window, to count as
/// pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Thresholds {
    /// The time in which some program waited, for moderate pressure. Default 70 ms, as in
    /// Android's low-memory killer.
    pub some: Duration,
    /// The time in which no program could run, for critical pressure. Default 700 ms, as in
    /// Android's low-memory killer.
    pub full: Duration,
    /// The length of the window. The kernel accepts 500 ms to 10 s. Default 1 s.
    pub window: Duration,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            some: Duration::from_millis(70),
            full: Duration::from_millis(700),
            window: Duration::from_secs(1),
        }
    }
}

impl Thresholds {
    /// Returns the same shares of a window that unprivileged processes may ask for: twice as
    /// long, by default. `None` if this window is one already.
    fn for_the_unprivileged(&self) -> Option<Thresholds> {
        let (window, unit) = (self.window.as_micros(), UNPRIVILEGED.as_micros());
        if window == 0 || window.is_multiple_of(unit) {
            return None;
        }
        let longer = u32::try_from(window.div_ceil(unit)).ok()?;
        let longer = UNPRIVILEGED.checked_mul(longer)?;
        let scale = |part: Duration| part.mul_f64(longer.as_secs_f64() / self.window.as_secs_f64());
        Some(Thresholds {
            some: scale(self.some),
            full: scale(self.full),
            window: longer,
        })
    }
}

/// Pressure-stall information: the kernel reports when programs wait for memory.
///
/// Thresholds are registered once, and a thread sleeps until the kernel reports one. Nothing is
/// polled. A level lasts for two windows after its last report.
#[derive(Debug)]
pub struct Psi {
    path: PathBuf,
    thresholds: Thresholds,
    /// Whether the windows are longer than requested.
    longer: bool,
    triggers: Vec<Trigger>,
}

/// One registered threshold, until this is dropped.
#[derive(Debug)]
struct Trigger {
    level: Level,
    descriptor: OwnedFd,
}

impl Psi {
    /// Registers thresholds at `path`, which is a cgroup's `memory.pressure` or
    /// `/proc/pressure/memory`.
    ///
    /// If the kernel refuses such windows to an unprivileged process, windows and thresholds are
    /// lengthened to what it allows: twice as long, by default.
    ///
    /// # Errors
    ///
    /// The error of the kernel. Kernels before 6.5 require `CAP_SYS_RESOURCE`. Thresholds must be
    /// shorter than windows.
    pub fn open(path: impl Into<PathBuf>, thresholds: Thresholds) -> io::Result<Psi> {
        let path = path.into();
        let (thresholds, longer, triggers) = match triggers(&path, &thresholds) {
            Ok(triggers) => (thresholds, false, triggers),
            Err(Errno::INVAL | Errno::PERM) if thresholds.for_the_unprivileged().is_some() => {
                let longer = thresholds.for_the_unprivileged().expect("just seen");
                let triggers = triggers(&path, &longer).map_err(|error| about(&path, error))?;
                (longer, true, triggers)
            }
            Err(error) => return Err(about(&path, error)),
        };
        Ok(Psi {
            path,
            thresholds,
            longer,
            triggers,
        })
    }

    /// Returns the registered thresholds: the requested ones, or with longer windows.
    #[must_use]
    pub fn thresholds(&self) -> &Thresholds {
        &self.thresholds
    }

    /// The thread's work.
    fn watch(&self, poller: &Poller, sink: &PressureSink) {
        let descriptors: Vec<BorrowedFd<'_>> = self
            .triggers
            .iter()
            .map(|trigger| trigger.descriptor.as_fd())
            .collect();
        let mut holds = Debounce::new(self.thresholds.window * 2);
        let over = loop {
            let flags = match poller.wait(&descriptors, PollFlags::PRI, holds.until()) {
                Ok(Some(flags)) => flags,
                Ok(None) => return,
                Err(error) => break error.to_string(),
            };
            let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
            if flags.iter().any(|it| it.intersects(gone)) {
                break "the cgroup is gone".into();
            }
            let spoken: Vec<Level> = self
                .triggers
                .iter()
                .zip(flags)
                .filter(|(_, flags)| flags.contains(PollFlags::PRI))
                .map(|(trigger, _)| trigger.level)
                .collect();
            if let Some(level) = holds.note(Instant::now(), &spoken) {
                sink.report(level);
            }
        };
        tracing::warn!(
            "memory pressure is not watched any more: {}: {over}",
            self.path.display()
        );
        if holds.level() > Level::Normal {
            sink.report(Level::Normal);
        }
    }
}

fn triggers(path: &Path, thresholds: &Thresholds) -> Result<Vec<Trigger>, Errno> {
    let trigger = |level, what: &str, threshold: Duration| {
        let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .map_err(errno)?;
        let window = thresholds.window.as_micros();
        // In one write, with the NUL at its end that the kernel wants to replace.
        let text = format!("{what} {} {window}\0", threshold.as_micros());
        file.write_all(text.as_bytes()).map_err(errno)?;
        Ok(Trigger {
            level,
            descriptor: file.into(),
        })
    };
    Ok(vec![
        trigger(Level::Moderate, "some", thresholds.some)?,
        trigger(Level::Critical, "full", thresholds.full)?,
    ])
}

impl PressureSource for Psi {
    fn name(&self) -> String {
        let Thresholds { some, full, window } = self.thresholds;
        let longer = match self.longer {
            true => ", windows longer than asked for, as an unprivileged process must have them",
            false => "",
        };
        format!(
            "{} (some {some:?}, full {full:?} in {window:?}{longer})",
            self.path.display()
        )
    }

    fn start(self: Box<Self>, sink: PressureSink) -> io::Result<Box<dyn Send>> {
        let thread = Thread::start("tombolo-psi", move |poller| self.watch(&poller, &sink))?;
        Ok(Box::new(thread))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, mpsc};

    use rustix::net::sockopt::set_socket_linger;
    use rustix::net::{RecvFlags, SendFlags, recv, send};

    use super::*;

    /// Returns two connected sockets. The second has `PRI`, as a trigger that fires, once the first
    /// sends urgent data.
    fn socket() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (far, listener.accept().unwrap().0)
    }

    fn fire(far: &TcpStream) {
        assert_eq!(send(far, b"!", SendFlags::OOB), Ok(1));
    }

    /// Triggers that tests can fire, and the reports.
    struct Rig {
        some: TcpStream,
        full: TcpStream,
        source: Box<dyn Send>,
        reports: mpsc::Receiver<Level>,
    }

    fn rig() -> Rig {
        let (some, some_near) = socket();
        let (full, full_near) = socket();
        let near = [&some_near, &full_near].map(|it| it.try_clone().unwrap());
        let (report, reports) = mpsc::channel();
        let sink = PressureSink::new(move |level| {
            // The kernel resets its own triggers when they are polled.
            for socket in &near {
                let _ = recv(socket, &mut [0_u8; 1], RecvFlags::OOB);
            }
            report.send(level).unwrap();
        });
        let psi = Psi {
            path: "made up".into(),
            thresholds: Thresholds {
                window: Duration::from_millis(500),
                ..Thresholds::default()
            },
            longer: false,
            triggers: vec![
                Trigger {
                    level: Level::Moderate,
                    descriptor: some_near.into(),
                },
                Trigger {
                    level: Level::Critical,
                    descriptor: full_near.into(),
                },
            ],
        };
        Rig {
            some,
            full,
            source: Box::new(psi).start(sink).unwrap(),
            reports,
        }
    }

    // rule 8
    #[test]
    fn some_is_moderate_and_full_critical() {
        let rig = rig();
        fire(&rig.some);
        assert_eq!(rig.reports.recv(), Ok(Level::Moderate));
        fire(&rig.full);
        let since = Instant::now();
        assert_eq!(rig.reports.recv(), Ok(Level::Critical));
        assert_eq!(rig.reports.recv(), Ok(Level::Normal));
        assert!(since.elapsed() >= Duration::from_secs(1));
        drop(rig.source);
        assert!(rig.reports.recv().is_err(), "its thread has ended");
    }

    #[test]
    fn trigger_that_fires_again_is_reported_again() {
        let rig = rig();
        for _ in 0..3 {
            fire(&rig.full);
            assert_eq!(rig.reports.recv(), Ok(Level::Critical));
        }
    }

    // rule 8
    #[test]
    fn pressure_ends_with_its_cgroup() {
        let rig = rig();
        fire(&rig.some);
        assert_eq!(rig.reports.recv(), Ok(Level::Moderate));
        // The near end then has an error, as a trigger has.
        set_socket_linger(&rig.some, Some(Duration::ZERO)).unwrap();
        drop(rig.some);
        assert_eq!(rig.reports.recv(), Ok(Level::Normal));
        assert!(rig.reports.recv().is_err(), "its thread has ended");
    }

    #[test]
    fn unprivileged_windows_are_twice_as_long_by_default() {
        let longer = Thresholds::default().for_the_unprivileged().unwrap();
        assert_eq!(
            longer,
            Thresholds {
                some: Duration::from_millis(140),
                full: Duration::from_millis(1400),
                window: Duration::from_secs(2),
            }
        );
        // There is nothing more to try.
        assert_eq!(longer.for_the_unprivileged(), None);
    }

    // rule 8
    #[test]
    #[ignore = "needs a kernel with PSI"]
    fn kernel_accepts_triggers_and_drop_ends_thread() {
        let psi = Psi::open("/proc/pressure/memory", Thresholds::default());
        let psi = psi.expect(
            "this test needs a kernel that offers pressure-stall information to this user: \
             Linux 6.5, or an older one and root; booted with `psi=1` where that is not the \
             default",
        );
        let window = psi.thresholds().window;
        assert_eq!(psi.longer, window == UNPRIVILEGED);
        assert!(psi.longer || window == Thresholds::default().window);
        let alive = Arc::new(());
        let held = alive.clone();
        let sink = PressureSink::new(move |_| drop(held.clone()));
        let source = Box::new(psi).start(sink).unwrap();
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(source);
        assert_eq!(Arc::strong_count(&alive), 1, "the thread has dropped it");
    }

    #[test]
    fn error_names_the_file() {
        let error = Psi::open("/not/there", Thresholds::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("/not/there: "), "{error}");
    }
}
