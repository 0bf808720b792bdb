//! Repeats, and what is typical of them.

use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// The sizes that most things are measured at.
pub const SIZES: [u64; 3] = [64 << 10, MIB, 64 * MIB];

/// How much to do.
#[derive(Default)]
pub struct Plan {
    /// Only so much that every line of it runs.
    pub quick: bool,
}

impl Plan {
    /// How often to do something with so many bytes.
    pub fn repeats(&self, bytes: u64) -> usize {
        match bytes {
            _ if self.quick => 3,
            0..MIB => 2000,
            MIB => 1000,
            _ => 100,
        }
    }
}

/// How long each repeat took.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Does something once more, and notes how long it took.
    pub fn time<R>(&mut self, act: impl FnOnce() -> R) -> R {
        let begun = Instant::now();
        let result = act();
        self.0.push(begun.elapsed());
        result
    }

    /// The time that so many percent of the repeats kept to.
    fn at(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted[(sorted.len() - 1) * percent / 100]
    }

    /// The median, and what nine of ten kept to.
    pub fn cell(&self) -> String {
        if self.0.is_empty() {
            return "-".into();
        }
        format!("{} ({})", show(self.at(50)), show(self.at(90)))
    }
}

/// With two or three digits, which is more than the next run will agree on.
fn show(time: Duration) -> String {
    let nanoseconds = time.as_nanos() as f64;
    let (number, unit) = match nanoseconds {
        ..1e3 => (nanoseconds, "ns"),
        ..1e6 => (nanoseconds / 1e3, "us"),
        _ => (nanoseconds / 1e6, "ms"),
    };
    match number {
        ..10.0 => format!("{number:.1} {unit}"),
        _ => format!("{number:.0} {unit}"),
    }
}
