//! The events of a cgroup that meets its limits.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::debounce::Debounce;
use super::thread::{Poller, Thread};
use super::{Level, PressureSink, PressureSource, about};

/// The time for which a level lasts after the last event.
const LASTS: Duration = Duration::from_secs(2);

/// A cgroup's `memory.events`: the kernel counts how often the cgroup met its limits. This takes
/// no permission except to read the file.
///
/// A cgroup that reached `memory.high` or `memory.max` is under moderate pressure. One in which
/// nothing more could be reclaimed is under critical pressure. Reports come later than those of
/// [`Psi`](super::Psi), and none come if neither limit is set. Meeting a limit again and again
/// stays moderate, because a cgroup that reads files does so all the time. So a guest is
/// terminated only after the kernel has found nothing more to reclaim. By then it may have
/// killed a process, perhaps the host itself. The kernel notifies of changes; nothing is polled.
#[derive(Debug)]
pub struct MemoryEvents {
    path: PathBuf,
    changes: OwnedFd,
    counts: EventCounts,
}

/// The counts that mean pressure. They only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct EventCounts {
    /// `high` and `max`.
    moderate: [u64; 2],
    /// `oom` and `oom_kill`.
    critical: [u64; 2],
}

impl EventCounts {
    /// Takes over the counts in a text.
    fn update(&mut self, text: &str) {
        for line in text.lines() {
            let Some((name, Ok(count))) = line
                .split_once(' ')
                .map(|(name, count)| (name, count.trim().parse()))
            else {
                continue;
            };
            match name {
                "high" => self.moderate[0] = count,
                "max" => self.moderate[1] = count,
                "oom" => self.critical[0] = count,
                "oom_kill" => self.critical[1] = count,
                _ => {}
            }
        }
    }

    /// Returns the levels of the counts that grew since then.
    fn since(&self, before: &EventCounts) -> Vec<Level> {
        let grew = |now: [u64; 2], then: [u64; 2]| now.iter().zip(then).any(|(a, b)| *a > b);
        [
            (Level::Moderate, self.moderate, before.moderate),
            (Level::Critical, self.critical, before.critical),
        ]
        .into_iter()
        .filter(|(_, now, then)| grew(*now, *then))
        .map(|(level, ..)| level)
        .collect()
    }
}

impl MemoryEvents {
    /// Begins to watch the cgroup of this directory.
    ///
    /// # Errors
    ///
    /// If there is no `memory.events`, because the cgroup is the root or does not have the
    /// controller `memory`; or the error of the kernel.
    pub fn open(cgroup: impl AsRef<Path>) -> io::Result<MemoryEvents> {
        let path = cgroup.as_ref().join("memory.events");
        let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // First the watch, then the counts, so that no event in between is missed.
        inotify::add_watch(&changes, &path, WatchFlags::MODIFY)
            .map_err(|error| about(&path, error))?;
        let mut counts = EventCounts::default();
        counts.update(&fs::read_to_string(&path).map_err(|error| about(&path, error))?);
        Ok(MemoryEvents {
            path,
            changes,
            counts,
        })
    }

    /// The thread's work.
    fn watch(mut self, poller: &Poller, sink: &PressureSink) {
        let mut holds = Debounce::new(LASTS);
        let over = loop {
            match poller.wait(&[self.changes.as_fd()], PollFlags::IN, holds.until()) {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => break error,
            }
            let spoken = match self.spoken() {
                Ok(spoken) => spoken,
                Err(error) => break error,
            };
            if let Some(level) = holds.note(Instant::now(), &spoken) {
                sink.report(level);
            }
        };
        tracing::warn!("memory pressure is not watched any more: {over}");
        if holds.level() > Level::Normal {
            sink.report(Level::Normal);
        }
    }

    /// Returns the levels of what happened since the last call.
    fn spoken(&mut self) -> io::Result<Vec<Level>> {
        let mut changed = false;
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut reader = inotify::Reader::new(&self.changes, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {
                    return Err(about(&self.path, io::Error::other("the cgroup is gone")));
                }
                Ok(_) => changed = true,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(about(&self.path, error)),
            }
        }
        if !changed {
            return Ok(Vec::new());
        }
        let before = self.counts;
        let text = fs::read_to_string(&self.path).map_err(|error| about(&self.path, error))?;
        self.counts.update(&text);
        Ok(self.counts.since(&before))
    }
}

impl PressureSource for MemoryEvents {
    fn name(&self) -> String {
        format!(
            "{} (high and max are moderate, oom and oom_kill critical)",
            self.path.display()
        )
    }

    fn start(self: Box<Self>, sink: PressureSink) -> io::Result<Box<dyn Send>> {
        let thread = Thread::start("tombolo-events", move |poller| self.watch(&poller, &sink))?;
        Ok(Box::new(thread))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use tombolo_test_util::proc_tree::ProcTree;

    const EVENTS: &str = "sys/fs/cgroup/app/memory.events";

    fn events(high: u64, max: u64, oom: u64, oom_kill: u64) -> String {
        format!("low 9\nhigh {high}\nmax {max}\noom {oom}\noom_kill {oom_kill}\noom_group_kill 9\n")
    }

    /// Watches the cgroup of `tree`.
    fn watch(tree: &ProcTree) -> (Box<dyn Send>, mpsc::Receiver<Level>) {
        let source = MemoryEvents::open(tree.path("sys/fs/cgroup/app")).unwrap();
        let (report, reports) = mpsc::channel();
        let sink = PressureSink::new(move |level| report.send(level).unwrap());
        (Box::new(source).start(sink).unwrap(), reports)
    }

    // rule 8
    #[test]
    fn counts_that_grow_are_pressure_for_two_seconds() {
        let tree = ProcTree::unified();
        tree.write(EVENTS, &events(5, 5, 5, 5));
        let (source, reports) = watch(&tree);
        tree.write(EVENTS, &events(6, 5, 5, 5));
        assert_eq!(reports.recv(), Ok(Level::Moderate));
        tree.write(EVENTS, &events(6, 5, 5, 6));
        let since = Instant::now();
        assert_eq!(reports.recv(), Ok(Level::Critical));
        assert_eq!(reports.recv(), Ok(Level::Normal));
        assert!(since.elapsed() >= LASTS);
        drop(source);
        assert!(reports.recv().is_err(), "its thread has ended");
    }

    #[test]
    fn each_count_has_its_level() {
        let none = EventCounts::default();
        for (text, level) in [
            (events(1, 0, 0, 0), &[Level::Moderate][..]),
            (events(0, 1, 0, 0), &[Level::Moderate]),
            (events(0, 0, 1, 0), &[Level::Critical]),
            (events(0, 0, 0, 1), &[Level::Critical]),
            (events(0, 1, 1, 0), &[Level::Moderate, Level::Critical]),
            (events(0, 0, 0, 0), &[]),
        ] {
            let mut counts = none;
            counts.update(&text);
            assert_eq!(counts.since(&none), level, "{text}");
        }
    }

    #[test]
    fn missing_counts_stay_as_before() {
        let mut counts = EventCounts::default();
        counts.update(&events(1, 2, 3, 4));
        let before = counts;
        counts.update("");
        counts.update("high\nmax x\n");
        assert_eq!(counts, before);
    }

    // rule 8
    #[test]
    fn pressure_ends_with_its_cgroup() {
        let tree = ProcTree::unified();
        tree.write(EVENTS, &events(0, 0, 0, 0));
        let (_source, reports) = watch(&tree);
        tree.write(EVENTS, &events(0, 0, 1, 0));
        assert_eq!(reports.recv(), Ok(Level::Critical));
        fs::remove_file(tree.path(EVENTS)).unwrap();
        assert_eq!(reports.recv(), Ok(Level::Normal));
        assert!(reports.recv().is_err(), "its thread has ended");
    }

    #[test]
    fn cgroup_without_events_is_refused() {
        let tree = ProcTree::unified();
        let error = MemoryEvents::open(tree.path("sys/fs/cgroup/app")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("app/memory.events: "), "{error}");
    }
}
