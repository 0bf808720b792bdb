//! The options for memory pressure: the reaction, scores and the floor.

use std::str::FromStr;

use clap::ValueEnum;

use tombolo_app::OnPressure;

/// The reaction to memory pressure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Pressure {
    /// Purge unpinned bytes
    #[default]
    Purge,
    /// Purge, and report which guests would be terminated
    DryRun,
    /// Purge, and terminate guests if that is not enough
    Kill,
}

impl From<Pressure> for OnPressure {
    fn from(pressure: Pressure) -> OnPressure {
        match pressure {
            Pressure::Purge => OnPressure::Purge,
            Pressure::DryRun => OnPressure::DryRun,
            Pressure::Kill => OnPressure::Kill,
        }
    }
}

/// A guest's score for `--oom-score`, as in `player=900`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Score {
    pub(super) guest: String,
    pub(super) score: u16,
}

impl FromStr for Score {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A guest is named after its file, so its name may contain `=`.
        let (guest, score) = text
            .rsplit_once('=')
            .filter(|(guest, _)| !guest.is_empty())
            .ok_or("write a guest and its score, for example `player=900`")?;
        let score = number(score).ok_or("the score must be a number from 0 to 1000")?;
        Ok(Self {
            guest: guest.to_owned(),
            score,
        })
    }
}

/// Parses a floor, as in `300`.
pub(super) fn oom_floor(text: &str) -> Result<u16, String> {
    number(text).ok_or_else(|| "the floor must be a number from 0 to 1000".to_owned())
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
    fn bad_scores_name_the_valid_form() {
        for (text, hint) in [
            ("player", "for example `player=900`"),
            ("=5", "for example `player=900`"),
            ("player=", "from 0 to 1000"),
            ("player=-1", "from 0 to 1000"),
            ("player=1001", "from 0 to 1000"),
        ] {
            let error = text.parse::<Score>().unwrap_err();
            assert!(error.contains(hint), "{error}");
        }
        assert_eq!(oom_floor("1000"), Ok(1000));
        assert!(oom_floor("1001").unwrap_err().contains("from 0 to 1000"));
    }
}
