//! What to do when memory is short, as the command line says it.

use std::str::FromStr;

use clap::ValueEnum;

use tombolo_app::OnPressure;

/// What to do when memory is short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Pressure {
    /// Purge what nobody pins
    #[default]
    Purge,
    /// Purge, and count which guests would be ended
    Count,
    /// Purge, and where that is not enough, end guests
    Kill,
}

impl From<Pressure> for OnPressure {
    fn from(pressure: Pressure) -> OnPressure {
        match pressure {
            Pressure::Purge => OnPressure::Purge,
            Pressure::Count => OnPressure::DryRun,
            Pressure::Kill => OnPressure::Kill,
        }
    }
}

/// A guest's score, as in `player=900`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Score {
    pub(super) guest: String,
    pub(super) score: u16,
}

impl FromStr for Score {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A file's name may have that sign, and a number has not.
        let (guest, score) = text
            .rsplit_once('=')
            .filter(|(guest, _)| !guest.is_empty())
            .ok_or("a score is as in `player=900`")?;
        let score = number(score).ok_or("a score is a number from 0 to 1000")?;
        Ok(Self {
            guest: guest.to_owned(),
            score,
        })
    }
}

/// Reads a floor, as in `300`.
pub(super) fn floor(text: &str) -> Result<u16, String> {
    number(text).ok_or_else(|| "the floor is a number from 0 to 1000".to_owned())
}

fn number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|number| *number <= 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_parse() {
        let score = |guest: &str, score| Score {
            guest: guest.to_owned(),
            score,
        };
        assert_eq!("player=0".parse(), Ok(score("player", 0)));
        assert_eq!("a=b=1000".parse(), Ok(score("a=b", 1000)));
    }

    #[test]
    fn bad_scores_say_what_is_good() {
        for (text, hint) in [
            ("player", "as in `player=900`"),
            ("=5", "as in `player=900`"),
            ("player=", "from 0 to 1000"),
            ("player=-1", "from 0 to 1000"),
            ("player=1001", "from 0 to 1000"),
        ] {
            let error = text.parse::<Score>().unwrap_err();
            assert!(error.contains(hint), "{error}");
        }
        assert_eq!(floor("1000"), Ok(1000));
        assert!(floor("1001").unwrap_err().contains("from 0 to 1000"));
    }
}
