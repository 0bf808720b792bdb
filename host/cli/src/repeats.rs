//! Keeps one guest from filling the log with lines of one kind.
//!
//! Of the warnings and errors of one place in the code about one guest, the first
//! few of a period are shown. The others are counted, and the count is shown when
//! the period is over and something else is logged, or when the program ends.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The number of lines of a kind that are shown in a period.
const SHOWN: u64 = 8;

/// The length of a period.
const PERIOD: Duration = Duration::from_secs(10);

/// The target of the lines with counts, which are not counted themselves.
const TARGET: &str = "tombolo::repeats";

/// The lines that were logged lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Repeats(Arc<Mutex<HashMap<Kind, Lines>>>);

/// Lines of one kind: from one place in the code, about one guest.
type Kind = (Identifier, String);

#[derive(Debug)]
struct Lines {
    begun: Instant,
    count: u64,
    /// The message of the last one, without its fields.
    message: String,
}

/// Lines that were not shown.
#[derive(Debug, PartialEq, Eq)]
struct Hidden {
    guest: String,
    message: String,
    count: u64,
}

impl Repeats {
    fn lines(&self) -> MutexGuard<'_, HashMap<Kind, Lines>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a line, and returns whether it is to be shown.
    fn note(&self, kind: Kind, message: String, now: Instant) -> bool {
        let mut lines = self.lines();
        let lines = lines.entry(kind).or_insert_with(|| Lines {
            begun: now,
            count: 0,
            message: String::new(),
        });
        lines.count += 1;
        lines.message = message;
        lines.count <= SHOWN
    }

    /// Forgets periods that were over at `now`, and returns what was hidden in them.
    fn over(&self, now: Option<Instant>) -> Vec<Hidden> {
        let is_over = |lines: &Lines| {
            now.is_none_or(|now| now.saturating_duration_since(lines.begun) >= PERIOD)
        };
        let mut lines = self.lines();
        let over = lines.extract_if(|_, lines| is_over(lines));
        let mut hidden: Vec<Hidden> = over
            .filter(|(_, lines)| lines.count > SHOWN)
            .map(|((_, guest), lines)| Hidden {
                guest,
                message: lines.message,
                count: lines.count - SHOWN,
            })
            .collect();
        hidden.sort_by(|a, b| (&a.guest, &a.message).cmp(&(&b.guest, &b.message)));
        hidden
    }

    /// Shows the remaining counts, at the end of the program.
    pub(super) fn finish(&self) {
        show(self.over(None));
    }
}

fn show(all: Vec<Hidden>) {
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

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // Lines below are for those who ask for all of them.
        if *metadata.level() > Level::WARN || metadata.target() == TARGET {
            return true;
        }
        let now = Instant::now();
        show(self.over(Some(now)));
        let mut fields = Fields::default();
        event.record(&mut fields);
        let kind = (metadata.callsite(), fields.guest);
        self.note(kind, fields.message, now)
    }
}

/// The key of a kind of lines.
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

    /// Collects the messages that are shown.
    #[derive(Clone, Default)]
    struct Shown(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Shown {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            let line = format!("{}: {}", fields.guest, fields.message);
            self.0.lock().unwrap().push(line);
        }
    }

    #[test]
    fn repeated_lines_are_counted_for_each_guest() {
        let (repeats, shown) = (Repeats::default(), Shown::default());
        let layers = tracing_subscriber::registry()
            .with(shown.clone())
            .with(repeats.clone());
        tracing::subscriber::with_default(layers, || {
            for number in 0..1000 {
                tracing::warn!(guest = "loud", "line {number}");
            }
            tracing::warn!(guest = "quiet", "only line");
            tracing::info!(guest = "loud", "asked for");
            assert_eq!(shown.0.lock().unwrap().len() as u64, SHOWN + 2);
            repeats.finish();
        });
        let last = shown.0.lock().unwrap().pop();
        assert_eq!(last.as_deref(), Some("loud: … and 992 more: line 999"));
    }

    #[test]
    fn next_period_shows_lines_again() {
        let repeats = Repeats::default();
        let kind = || (tracing::metadata::Metadata::callsite(&META), "a".to_owned());
        let begun = Instant::now();
        let note = |at: Instant| repeats.note(kind(), "m".into(), at);
        let shown = (0..20).filter(|_| note(begun)).count();
        assert_eq!(shown as u64, SHOWN);
        assert_eq!(repeats.over(Some(begun + PERIOD / 2)), []);
        let hidden = repeats.over(Some(begun + PERIOD));
        let expected = Hidden {
            guest: "a".into(),
            message: "m".into(),
            count: 20 - SHOWN,
        };
        assert_eq!(hidden, [expected]);
        assert!(note(begun + PERIOD));
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
