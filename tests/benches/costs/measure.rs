//! Repeats, their medians and their spreads.

use std::time::Instant;

const MIB: u64 = 1 << 20;

/// The sizes in bytes at which pins and purges are measured.
pub const SIZES: [u64; 3] = [64 << 10, MIB, 64 * MIB];

/// The number of repeats.
#[derive(Default)]
pub struct Plan {
    /// Whether to run only a few repeats, which execute every line.
    pub quick: bool,
}

impl Plan {
    /// Returns the number of repeats for an operation on `bytes` bytes.
    pub fn repeats(&self, bytes: u64) -> usize {
        match bytes {
            _ if self.quick => 3,
            0..MIB => 2000,
            MIB => 1000,
            _ => 100,
        }
    }

    /// Returns the number of rounds over all rows that are measured side by side.
    pub fn rounds(&self) -> usize {
        if self.quick { 1 } else { 5 }
    }
}

/// The unit of a figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// A time in nanoseconds.
    #[default]
    Nanoseconds,
    /// Bytes of memory.
    Bytes,
    /// A number of things.
    Count,
    /// A number of things in a second.
    Rate,
}

impl Unit {
    /// Formats a value with its significant digits.
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Nanoseconds => show(value),
            Unit::Bytes => format!("{:.0} KiB", value / 1024.0),
            Unit::Count => format!("{value:.1}"),
            Unit::Rate => format!("{value:.0}"),
        }
    }

    /// Returns the words for an axis.
    pub fn words(self) -> &'static str {
        match self {
            Unit::Nanoseconds => "nanoseconds",
            Unit::Bytes => "bytes",
            Unit::Count => "count",
            Unit::Rate => "per second",
        }
    }

    /// Returns the suffix of a figure's name in JSON.
    pub fn suffix(self) -> &'static str {
        match self {
            Unit::Nanoseconds => "-ns",
            Unit::Bytes => "-bytes",
            Unit::Count => "",
            Unit::Rate => "-per-second",
        }
    }
}

/// The time of each repeat in nanoseconds, or another figure of each repeat.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<f64>, Unit);

impl Times {
    /// Adds a figure that is not a time.
    pub fn note(&mut self, unit: Unit, value: f64) {
        self.1 = unit;
        self.0.push(value);
    }

    pub fn unit(&self) -> Unit {
        self.1
    }

    /// Runs `act` once, and adds the time it took.
    pub fn time<R>(&mut self, act: impl FnOnce() -> R) -> R {
        self.times(1, act)
    }

    /// Runs `act`, which does something `times` times, and adds the time of one of them.
    pub fn times<R>(&mut self, times: u32, act: impl FnOnce() -> R) -> R {
        let begun = Instant::now();
        let result = act();
        self.0
            .push(begun.elapsed().as_nanos() as f64 / f64::from(times));
        result
    }

    /// Adds times that were measured elsewhere.
    pub fn extend(&mut self, nanoseconds: impl IntoIterator<Item = f64>) {
        self.0.extend(nanoseconds);
    }

    /// Returns the time that this percentage of the repeats stayed within.
    pub fn at(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        Some(sorted[last * percent / 100])
    }

    /// Returns the median.
    pub fn median(&self) -> Option<f64> {
        self.at(50)
    }

    /// Returns the median of the ratios of repeats that were made side by side. Load that comes
    /// and goes affects it less than the ratio of the medians.
    pub fn ratio(&self, below: &Times) -> Option<f64> {
        let ratios = self.0.iter().zip(&below.0).map(|(one, other)| one / other);
        Times(ratios.collect(), Unit::Count).median()
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Formats the median and the 90th percentile.
    pub fn cell(&self) -> String {
        match (self.median(), self.at(90)) {
            (Some(median), Some(most)) => {
                format!("{} ({})", self.1.show(median), self.1.show(most))
            }
            _ => "-".into(),
        }
    }
}

/// Formats a time with two or three digits, which is more than runs agree on.
pub fn show(nanoseconds: f64) -> String {
    let (number, unit) = match nanoseconds {
        ..1e3 => (nanoseconds, "ns"),
        ..1e6 => (nanoseconds / 1e3, "us"),
        ..1e9 => (nanoseconds / 1e6, "ms"),
        _ => (nanoseconds / 1e9, "s"),
    };
    match number {
        ..10.0 => format!("{number:.1} {unit}"),
        _ => format!("{number:.0} {unit}"),
    }
}
