//! Keeps one guest from flooding the log with lines of one kind.
//!
//! A kind is one place in the code and one guest. The first few warnings and errors of a kind in
//! a period are logged. The others are counted. The count is logged with the next event after
//! the period, or when the program ends.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The number of lines of a kind that are logged in a period.
const MAX_LINES: u64 = 8;

/// The length of a period.
const PERIOD: Duration = Duration::from_secs(10);

/// The target of the lines with counts, which are not limited themselves.
const TARGET: &str = "tombolo::rate_limit";

/// The lines of the current periods, by kind.
#[derive(Clone, Debug, Default)]
pub(super) struct RateLimit(Arc<Mutex<HashMap<LineKind, Lines>>>);

/// A place in the code, and a guest.
type LineKind = (Identifier, String);

#[derive(Debug)]
struct Lines {
    start: Instant,
    count: u64,
    /// The message of the last line, without its fields.
    message: String,
}

/// Lines that were not logged.
#[derive(Debug, PartialEq, Eq)]
struct Hidden {
    guest: String,
    message: String,
    count: u64,
}

impl RateLimit {
    fn lines(&self) -> MutexGuard<'_, HashMap<LineKind, Lines>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a line, and returns whether to log it.
    fn count(&self, kind: LineKind, message: String, now: Instant) -> bool {
        let mut lines = self.lines();
        let lines = lines.entry(kind).or_insert_with(|| Lines {
            start: now,
            count: 0,
            message: String::new(),
        });
        lines.count += 1;
        lines.message = message;
        lines.count <= MAX_LINES
    }

    /// Removes the periods that have ended at `now`, or all, and returns their hidden lines.
    fn take_ended(&self, now: Option<Instant>) -> Vec<Hidden> {
        let has_ended = |lines: &Lines| {
            now.is_none_or(|now| now.saturating_duration_since(lines.start) >= PERIOD)
        };
        let mut lines = self.lines();
        let ended = lines.extract_if(|_, lines| has_ended(lines));
        let mut hidden: Vec<Hidden> = ended
            .filter(|(_, lines)| lines.count > MAX_LINES)
            .map(|((_, guest), lines)| Hidden {
                guest,
                message: lines.message,
                count: lines.count - MAX_LINES,
            })
            .collect();
        hidden.sort_by(|a, b| (&a.guest, &a.message).cmp(&(&b.guest, &b.message)));
        hidden
    }

    /// Logs the remaining counts, at the end of the program.
    pub(super) fn finish(&self) {
        log(self.take_ended(None));
    }
}

fn log(all: Vec<Hidden>) {
    for Hidden {
        guest,
        message,
        count,
    } in all
    {
        if guest.is_empty() {
            tracing::warn!(target: TARGET, "… and {count} more: {message}");
        } else {
            tracing::warn!(target: TARGET, guest, "… and {count} more: {message}");
        }
    }
}

impl<S: Subscriber> Layer<S> for RateLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // Lower levels are logged only on demand, and then in full.
        if *metadata.level() > Level::WARN || metadata.target() == TARGET {
            return true;
        }
        let now = Instant::now();
        log(self.take_ended(Some(now)));
        let mut fields = Fields::default();
        event.record(&mut fields);
        let kind = (metadata.callsite(), fields.guest);
        self.count(kind, fields.message, now)
    }
}

/// The fields of an event that identify its kind.
#[derive(Default)]
struct Fields {
    guest: String,
    message: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "guest" {
            value.clone_into(&mut self.guest);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "guest" => self.guest = format!("{value:?}"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::prelude::*;

    use super::*;

    /// A layer that collects the logged messages.
    #[derive(Clone, Default)]
    struct LoggedLines(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for LoggedLines {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            let line = format!("{}: {}", fields.guest, fields.message);
            self.0.lock().unwrap().push(line);
        }
    }

    #[test]
    fn repetitions_are_counted_for_each_guest() {
        let (rate_limit, shown) = (RateLimit::default(), LoggedLines::default());
        let layers = tracing_subscriber::registry()
            .with(shown.clone())
            .with(rate_limit.clone());
        tracing::subscriber::with_default(layers, || {
            for number in 0..1000 {
                tracing::warn!(guest = "loud", "line {number}");
            }
            tracing::warn!(guest = "quiet", "only line");
            tracing::info!(guest = "loud", "asked for");
            assert_eq!(shown.0.lock().unwrap().len() as u64, MAX_LINES + 2);
            rate_limit.finish();
        });
        let last = shown.0.lock().unwrap().pop();
        assert_eq!(last.as_deref(), Some("loud: … and 992 more: line 999"));
    }

    #[test]
    fn next_period_logs_lines_again() {
        let rate_limit = RateLimit::default();
        let kind = || (tracing::metadata::Metadata::callsite(&META), "a".to_owned());
        let start = Instant::now();
        let count = |at: Instant| rate_limit.count(kind(), "m".into(), at);
        let shown = (0..20).filter(|_| count(start)).count();
        assert_eq!(shown as u64, MAX_LINES);
        assert_eq!(rate_limit.take_ended(Some(start + PERIOD / 2)), []);
        let hidden = rate_limit.take_ended(Some(start + PERIOD));
        let expected = Hidden {
            guest: "a".into(),
            message: "m".into(),
            count: 20 - MAX_LINES,
        };
        assert_eq!(hidden, [expected]);
        assert!(count(start + PERIOD));
    }

    struct Place;

    impl tracing::Callsite for Place {
        fn set_interest(&self, _: tracing::subscriber::Interest) {}
        fn metadata(&self) -> &tracing::Metadata<'_> {
            &META
        }
    }

    static META: tracing::Metadata<'static> = tracing::Metadata::new(
        "place",
        "test",
        Level::WARN,
        None,
        None,
        None,
        tracing::field::FieldSet::new(&[], Identifier(&Place)),
        tracing::metadata::Kind::EVENT,
    );
}
