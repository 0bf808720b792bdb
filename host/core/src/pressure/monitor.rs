use std::fmt;
use std::io;

use tokio::sync::watch;

use super::{Level, PressureSink, PressureSource};
use crate::RegionHost;
use crate::host::Levels;

impl RegionHost {
    /// Watches for memory pressure that `source` reports, until the [`PressureMonitor`] is
    /// dropped. On each report the host does what
    /// [`report_pressure`](RegionHost::report_pressure) does, and then calls `react`
    /// with the level, and the bytes that were purged: the place to end guests
    /// if that is not enough. `react` is called on the source's thread, which
    /// reports nothing else meanwhile.
    ///
    /// # Errors
    ///
    /// If the source does not start.
    pub fn watch_pressure(
        &self,
        source: impl PressureSource + 'static,
        react: impl Fn(Level, u64) + Send + Sync + 'static,
    ) -> io::Result<PressureMonitor> {
        let name = source.name();
        let host = self.clone();
        let sink = PressureSink::new(move |level| {
            let purged = host.report_pressure(level);
            react(level, purged);
        });
        let source = Box::new(source).start(sink)?;
        tracing::debug!("memory pressure is watched by {name}");
        Ok(PressureMonitor {
            source: Some(source),
            name,
            host: self.clone(),
        })
    }

    /// Does what is to be done about memory pressure, for programs that hear of
    /// it in a way of their own. First it purges: under moderate pressure the
    /// half that was unpinned longest ago of what nobody pins, under critical
    /// pressure all of it. Then it tells the guests. Returns how many bytes were
    /// purged.
    ///
    /// Report as long as there is pressure, and [`Level::Normal`] when there is
    /// none any more. A level below the one before is good news: the guests are
    /// told, and nothing is purged.
    pub fn report_pressure(&self, level: Level) -> u64 {
        let before = self.levels().reported;
        let purged = match part_to_purge(before, level, || self.purgeable()) {
            0 => 0,
            bytes => self.purge(bytes),
        };
        let changed = self.tell(|levels| levels.reported = level);
        if changed || purged > 0 {
            tracing::info!(%level, purged, "memory pressure");
        }
        purged
    }

    /// Changes the levels of memory pressure, and tells guests the higher one. Returns
    /// whether the higher one has changed.
    pub(super) fn tell(&self, note: impl FnOnce(&mut Levels)) -> bool {
        let mut levels = self.levels();
        note(&mut levels);
        let level = levels.reported.max(levels.margin);
        // Under the lock, so that no older level is told later.
        self.pressure_level().send_if_modified(|now| {
            let changed = *now != level;
            *now = level;
            changed
        })
    }

    /// The level of memory pressure: the last reported one, or that of the
    /// [margin](crate::HostLimits::margin) if it is higher. [`Level::Normal`] at first.
    #[must_use]
    pub fn pressure(&self) -> Level {
        *self.pressure_level().borrow()
    }

    /// Changes of that level, for whoever wants to wait for one.
    #[must_use]
    pub fn pressure_changes(&self) -> watch::Receiver<Level> {
        self.pressure_level().subscribe()
    }
}

/// How many of the bytes that could be purged are.
fn part_to_purge(before: Level, level: Level, purgeable: impl FnOnce() -> u64) -> u64 {
    match level {
        _ if level < before => 0,
        Level::Normal => 0,
        Level::Moderate => purgeable().div_ceil(2),
        Level::Critical => purgeable(),
    }
}

/// Watches for memory pressure until it is dropped; see [`RegionHost::watch_pressure`].
///
/// With it goes what it reported: the level is normal then, since nobody would
/// say so later.
#[must_use = "pressure is watched only while this lives"]
pub struct PressureMonitor {
    /// `None` only while it is dropped.
    source: Option<Box<dyn Send>>,
    name: String,
    host: RegionHost,
}

impl Drop for PressureMonitor {
    fn drop(&mut self) {
        drop(self.source.take());
        self.host.report_pressure(Level::Normal);
    }
}

impl fmt::Debug for PressureMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PressureMonitor")
            .field("source", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::Level::{Critical, Moderate, Normal};
    use super::*;

    /// A source that a test speaks for.
    #[derive(Clone, Default)]
    struct Spoken(Arc<Mutex<Option<PressureSink>>>);

    impl Spoken {
        fn report(&self, level: Level) {
            let sink = self.0.lock().unwrap().clone();
            sink.expect("it was started, and not stopped").report(level);
        }
    }

    /// Stops it.
    struct Started(Spoken);

    impl Drop for Started {
        fn drop(&mut self) {
            *self.0.0.lock().unwrap() = None;
        }
    }

    impl PressureSource for Spoken {
        fn name(&self) -> String {
            "a test".into()
        }

        fn start(self: Box<Self>, sink: PressureSink) -> io::Result<Box<dyn Send>> {
            *self.0.lock().unwrap() = Some(sink);
            Ok(Box::new(Started(*self)))
        }
    }

    #[test]
    fn half_goes_under_moderate_pressure_and_all_under_critical() {
        assert_eq!(part_to_purge(Normal, Moderate, || 101), 51);
        assert_eq!(part_to_purge(Moderate, Moderate, || 50), 25);
        assert_eq!(part_to_purge(Normal, Critical, || 101), 101);
        assert_eq!(part_to_purge(Critical, Critical, || 0), 0);
    }

    #[test]
    fn nothing_goes_when_pressure_ends() {
        let never = || -> u64 { panic!("nobody asks") };
        for (before, level) in [
            (Normal, Normal),
            (Critical, Moderate),
            (Critical, Normal),
            (Moderate, Normal),
        ] {
            assert_eq!(part_to_purge(before, level, never), 0);
        }
    }

    #[test]
    fn report_tells_guests_and_then_calls_back() {
        let host = RegionHost::new();
        assert_eq!(host.pressure(), Normal);
        let (source, seen) = (Spoken::default(), Arc::new(Mutex::new(Vec::new())));
        let react = {
            let (host, seen) = (host.clone(), seen.clone());
            move |level, _| seen.lock().unwrap().push((level, host.pressure()))
        };
        let monitor = host.watch_pressure(source.clone(), react).unwrap();
        let mut changes = host.pressure_changes();
        source.report(Moderate);
        assert!(changes.has_changed().unwrap());
        assert_eq!(*changes.borrow_and_update(), Moderate);
        source.report(Moderate);
        assert!(!changes.has_changed().unwrap(), "it is no change");
        source.report(Critical);
        let seen = seen.lock().unwrap().clone();
        let levels = [Moderate, Moderate, Critical];
        assert_eq!(seen, levels.map(|level| (level, level)));

        assert_eq!(host.pressure(), Critical);
        drop(monitor);
        assert_eq!(host.pressure(), Normal);
        assert!(source.0.lock().unwrap().is_none(), "it was stopped");
    }

    #[test]
    fn boxed_source_is_a_source() {
        let (host, source) = (RegionHost::new(), Spoken::default());
        let boxed: Box<dyn PressureSource> = Box::new(source.clone());
        let monitor = host.watch_pressure(boxed, |_, _| {}).unwrap();
        assert_eq!(
            format!("{monitor:?}"),
            r#"PressureMonitor { source: "a test", .. }"#
        );
        source.report(Moderate);
        assert_eq!(host.pressure(), Moderate);
    }
}
