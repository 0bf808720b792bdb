//! Ratios of medians, which hold from machine to machine, and a few times with a goal.

use std::fmt;

use crate::measure::show;
use crate::table::markdown;

/// A ratio of two medians of one run, or a time, with its goal.
pub struct Ratio {
    pub what: &'static str,
    /// The ratio, or the time in nanoseconds.
    pub value: f64,
    pub goal: Goal,
}

/// A goal.
#[derive(Clone, Copy)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// A time of at most this number of nanoseconds.
    Time(f64),
    /// No goal: the figure is for information.
    None,
}

impl Ratio {
    /// Divides one median by another, if both were measured.
    pub fn of(
        what: &'static str,
        above: Option<f64>,
        below: Option<f64>,
        goal: Goal,
    ) -> Option<Ratio> {
        let value = above? / below?;
        Some(Ratio { what, value, goal })
    }

    /// Returns a time in nanoseconds, if it was measured.
    pub fn time(what: &'static str, value: Option<f64>, most: f64) -> Option<Ratio> {
        let (value, goal) = (value?, Goal::Time(most));
        Some(Ratio { what, value, goal })
    }

    pub fn is_reached(&self) -> Option<bool> {
        match self.goal {
            Goal::AtLeast(least) => Some(self.value >= least),
            Goal::AtMost(most) | Goal::Time(most) => Some(self.value <= most),
            Goal::None => None,
        }
    }
}

/// Formats a number with its significant digits.
fn number(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A table of ratios, with the values in bold.
pub struct Ratios<'a>(pub &'a [Ratio]);

impl fmt::Display for Ratios<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["ratio or time (medians)", "is", "goal", ""].map(str::to_owned);
        let rows = self.0.iter().map(|ratio| {
            vec![
                ratio.what.to_owned(),
                match ratio.goal {
                    Goal::Time(_) => format!("**{}**", show(ratio.value)),
                    _ => format!("**{}**", number(ratio.value)),
                },
                match ratio.goal {
                    Goal::AtLeast(least) => format!("at least {least}"),
                    Goal::AtMost(most) => format!("at most {most}"),
                    Goal::Time(most) => format!("at most {}", show(most)),
                    Goal::None => "-".to_owned(),
                },
                match ratio.is_reached() {
                    None => String::new(),
                    Some(true) => "reached".to_owned(),
                    Some(false) => "missed".to_owned(),
                },
            ]
        });
        write!(f, "{}", markdown(header, rows))
    }
}
