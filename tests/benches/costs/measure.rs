//! Repeats, and what is typical of them.

use std::time::Instant;

const MIB: u64 = 1 << 20;

/// The sizes that pins and purges are measured at.
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

    /// How often to go over all that is measured side by side.
    pub fn rounds(&self) -> usize {
        if self.quick { 1 } else { 5 }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Time, in nanoseconds.
    #[default]
    Nanoseconds,
    /// Memory.
    Bytes,
    /// How many.
    Count,
}

impl Unit {
    /// With as many digits as say something.
    fn show(self, value: f64) -> String {
        match self {
            Unit::Nanoseconds => show(value),
            Unit::Bytes => format!("{:.0} KiB", value / 1024.0),
            Unit::Count => format!("{value:.1}"),
        }
    }

    /// What stands behind the names of figures in JSON.
    pub fn suffix(self) -> &'static str {
        match self {
            Unit::Nanoseconds => "-ns",
            Unit::Bytes => "-bytes",
            Unit::Count => "",
        }
    }
}

/// How long each repeat took, in nanoseconds; or what else was found each time.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<f64>, Unit);

impl Times {
    /// Notes what was found once more, which is not a time.
    pub fn note(&mut self, unit: Unit, value: f64) {
        self.1 = unit;
        self.0.push(value);
    }

    pub fn unit(&self) -> Unit {
        self.1
    }

    /// Does something once more, and notes how long it took.
    pub fn time<R>(&mut self, act: impl FnOnce() -> R) -> R {
        self.times(1, act)
    }

    /// The same for something that does a thing so many times.
    pub fn times<R>(&mut self, times: u32, act: impl FnOnce() -> R) -> R {
        let begun = Instant::now();
        let result = act();
        self.0
            .push(begun.elapsed().as_nanos() as f64 / f64::from(times));
        result
    }

    /// Notes what somebody else measured.
    pub fn extend(&mut self, nanoseconds: impl IntoIterator<Item = f64>) {
        self.0.extend(nanoseconds);
    }

    /// What so many percent of the repeats kept to.
    pub fn at(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        Some(sorted[last * percent / 100])
    }

    /// The median.
    pub fn median(&self) -> Option<f64> {
        self.at(50)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The median, and what nine of ten kept to.
    pub fn cell(&self) -> String {
        match (self.median(), self.at(90)) {
            (Some(median), Some(most)) => {
                format!("{} ({})", self.1.show(median), self.1.show(most))
            }
            _ => "-".into(),
        }
    }
}

/// With two or three digits, which is more than the next run will agree on.
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
