//! What was measured, divided: the figures that hold from machine to machine.

use std::fmt;

use crate::table::markdown;

/// A ratio of two medians of one run, and what it should be.
pub struct Ratio {
    pub what: &'static str,
    pub value: f64,
    pub goal: Goal,
}

/// What to reach.
#[derive(Clone, Copy)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Ratio {
    /// One median by another, if both were measured.
    pub fn of(
        what: &'static str,
        above: Option<f64>,
        below: Option<f64>,
        goal: Goal,
    ) -> Option<Ratio> {
        let value = above? / below?;
        Some(Ratio { what, value, goal })
    }

    pub fn is_reached(&self) -> bool {
        match self.goal {
            Goal::AtLeast(least) => self.value >= least,
            Goal::AtMost(most) => self.value <= most,
        }
    }
}

/// With as many digits as say something.
fn number(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// The ratios as a table, which has them in bold.
pub struct Ratios<'a>(pub &'a [Ratio]);

impl fmt::Display for Ratios<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["ratio of medians", "is", "goal", ""].map(str::to_owned);
        let rows = self.0.iter().map(|ratio| {
            vec![
                ratio.what.to_owned(),
                format!("**{}**", number(ratio.value)),
                match ratio.goal {
                    Goal::AtLeast(least) => format!("at least {least}"),
                    Goal::AtMost(most) => format!("at most {most}"),
                },
                match ratio.is_reached() {
                    true => "reached".to_owned(),
                    false => "missed".to_owned(),
                },
            ]
        });
        write!(f, "{}", markdown(header, rows))
    }
}
