//! The time for which a level of pressure lasts.

use std::time::{Duration, Instant};

use super::Level;

/// Keeps a level for a time after it was noted last. The highest one holds.
///
/// The kernel reports that there is pressure, and never that it is over.
#[derive(Debug)]
pub(crate) struct Debounce {
    lasts: Duration,
    moderate: Option<Instant>,
    critical: Option<Instant>,
}

impl Debounce {
    pub(crate) fn new(lasts: Duration) -> Debounce {
        Debounce {
            lasts,
            moderate: None,
            critical: None,
        }
    }

    pub(crate) fn level(&self) -> Level {
        match (self.moderate, self.critical) {
            (_, Some(_)) => Level::Critical,
            (Some(_), None) => Level::Moderate,
            (None, None) => Level::Normal,
        }
    }

    /// Returns the time at which a level ends next. `None` if the level is normal.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.moderate.into_iter().chain(self.critical).min()
    }

    /// Notes the levels that the kernel reports `now`, and returns the level to report. A level
    /// below the one that holds is no news.
    pub(crate) fn note(&mut self, now: Instant, spoken: &[Level]) -> Option<Level> {
        let before = self.level();
        let until = now + self.lasts;
        for level in spoken {
            match level {
                Level::Normal => {}
                Level::Moderate => self.moderate = Some(until),
                Level::Critical => self.critical = Some(until),
            }
        }
        let highest = spoken.iter().copied().max().unwrap_or_default();
        if highest > Level::Normal && highest >= before {
            return Some(highest);
        }
        for held in [&mut self.moderate, &mut self.critical] {
            held.take_if(|until| *until <= now);
        }
        let level = self.level();
        (level < before).then_some(level)
    }
}

#[cfg(test)]
mod tests {
    use super::Level::{Critical, Moderate, Normal};
    use super::*;

    const LASTS: Duration = Duration::from_secs(2);

    /// Debounce, and a clock of seconds.
    fn holds() -> (Debounce, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (Debounce::new(LASTS), move |seconds| {
            start + Duration::from_secs(seconds)
        })
    }

    #[test]
    fn normal_level_waits_for_nothing() {
        let (mut holds, at) = holds();
        assert_eq!(holds.until(), None);
        assert_eq!(holds.note(at(0), &[]), None);
        assert_eq!(holds.level(), Normal);
    }

    #[test]
    fn level_lasts_from_its_last_note() {
        let (mut holds, at) = holds();
        assert_eq!(holds.note(at(0), &[Moderate]), Some(Moderate));
        assert_eq!(holds.until(), Some(at(2)));
        assert_eq!(holds.note(at(1), &[Moderate]), Some(Moderate));
        assert_eq!(holds.note(at(2), &[]), None);
        assert_eq!(holds.until(), Some(at(3)));
        assert_eq!(holds.note(at(3), &[]), Some(Normal));
        assert_eq!(holds.until(), None);
    }

    #[test]
    fn lower_level_is_no_news_while_a_higher_one_holds() {
        let (mut holds, at) = holds();
        assert_eq!(holds.note(at(0), &[Moderate, Critical]), Some(Critical));
        assert_eq!(holds.note(at(1), &[Moderate]), None);
        assert_eq!(holds.note(at(2), &[]), Some(Moderate));
        assert_eq!(holds.note(at(3), &[]), Some(Normal));
    }

    #[test]
    fn lower_level_follows_when_a_higher_one_ends() {
        let (mut holds, at) = holds();
        assert_eq!(holds.note(at(0), &[Critical]), Some(Critical));
        assert_eq!(holds.note(at(2), &[Moderate]), Some(Moderate));
    }
}
