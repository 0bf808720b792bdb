//! Options that grant directories and variables to the first command.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context as _;
use cap_std::ambient_authority;

use super::failure::CommandFailure;
use tombolo_app::Grant;

/// A directory to grant, as in `HOST::GUEST:ro`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directory {
    host: PathBuf,
    guest: String,
    read_only: bool,
}

impl FromStr for Directory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // `:ro` belongs to the guest's path, if there is one.
        let (host, guest) = match text.split_once("::") {
            Some((host, guest)) => (host, Some(guest)),
            None => (text, None),
        };
        let last = guest.unwrap_or(host);
        let (last, read_only) = match last.strip_suffix(":ro") {
            Some(path) => (path, true),
            None => (last, false),
        };
        let host = if guest.is_some() { host } else { last };
        if host.is_empty() {
            return Err("the directory before `::` is missing".to_owned());
        }
        if last.is_empty() {
            return Err("the guest's path after `::` is missing".to_owned());
        }
        Ok(Self {
            host: host.into(),
            guest: last.to_owned(),
            read_only,
        })
    }
}

impl Directory {
    /// Opens the directory.
    pub(super) fn open(self) -> Result<Grant, CommandFailure> {
        let dir = cap_std::fs::Dir::open_ambient_dir(&self.host, ambient_authority())
            .with_context(|| format!("cannot open the directory `{}`", self.host.display()))
            .map_err(|error| {
                CommandFailure::new(error).hint("write a grant as `--dir HOST::GUEST:ro`")
            })?;
        Ok(Grant {
            dir,
            host_path: self.host,
            guest_path: self.guest,
            read_only: self.read_only,
        })
    }
}

/// A variable to set, as in `KEY=VALUE`, or to pass on, as in `KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    Set(String, String),
    Inherit(String),
}

impl FromStr for Variable {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.split_once('=') {
            Some((key, value)) => Self::Set(key.to_owned(), value.to_owned()),
            None => Self::Inherit(text.to_owned()),
        })
    }
}

impl Variable {
    /// Returns the key and the value.
    pub(super) fn resolve(self) -> Result<(String, String), CommandFailure> {
        match self {
            Self::Set(key, value) => Ok((key, value)),
            Self::Inherit(key) => match std::env::var(&key) {
                Ok(value) => Ok((key, value)),
                Err(error) => Err(CommandFailure::new(
                    anyhow::Error::new(error)
                        .context(format!("cannot pass on the variable `{key}`")),
                )
                .hint(format!(
                    "to set it for the guest, write `--env {key}=VALUE`"
                ))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (String, String, bool) {
        let directory: Directory = text.parse().unwrap();
        let host = directory.host.to_str().unwrap().to_owned();
        (host, directory.guest, directory.read_only)
    }

    #[test]
    fn directories_parse() {
        let own =
            |host: &str, guest: &str, read_only| (host.to_owned(), guest.to_owned(), read_only);
        assert_eq!(parse("music"), own("music", "music", false));
        assert_eq!(parse("music:ro"), own("music", "music", true));
        assert_eq!(parse("a/b::/m"), own("a/b", "/m", false));
        assert_eq!(parse("a/b::/m:ro"), own("a/b", "/m", true));
        assert_eq!(parse("music::ro"), own("music", "ro", false));
        assert_eq!(parse("a:b::c:d"), own("a:b", "c:d", false));
    }

    #[test]
    fn directories_without_a_path_are_refused() {
        for text in ["", "::m", "m::", ":ro", "m:::ro"] {
            assert!(text.parse::<Directory>().is_err(), "{text}");
        }
    }

    #[test]
    fn file_is_no_directory() {
        let directory: Directory = "Cargo.toml::/x".parse().unwrap();
        let Err(failure) = directory.open() else {
            panic!("opened a file as a directory");
        };
        let text = failure.text();
        assert!(
            text.starts_with("error: cannot open the directory `Cargo.toml`\n  cause: "),
            "{text}"
        );
    }

    #[test]
    fn variables_are_set_or_passed_on() {
        let resolve = |text: &str| text.parse::<Variable>().unwrap().resolve();
        let set = |value: &str| ("KEY".to_owned(), value.to_owned());
        assert_eq!(resolve("KEY=a=b").unwrap(), set("a=b"));
        assert_eq!(resolve("KEY=").unwrap(), set(""));
        assert_eq!(resolve("PATH").unwrap().1, std::env::var("PATH").unwrap());
        assert!(resolve("SURELY_NOT_SET_ANYWHERE").is_err());
    }
}
