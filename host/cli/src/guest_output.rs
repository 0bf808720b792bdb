//! Options for the output of guests: `--prefix` and `--log-dir`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use rustix::fs::{OFlags, fcntl_getfl, fstat};

use super::failure::CommandFailure;
use tombolo_app::{GuestSpec, Output};

/// The options for the output of guests.
#[derive(Debug, Default, Args)]
pub(super) struct GuestOutput {
    /// Put a guest's name before each line that it prints, as in `player |
    /// hello`, and escape everything that is not text.
    ///
    /// `auto` does so if there are several guests that print to a terminal, to
    /// the systemd journal, or to a file that is appended to.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    prefix: Prefix,

    /// Append the output of each guest to `GUEST.log` in this directory.
    ///
    /// The file takes both stdout and stderr. The directory is created if it
    /// does not exist.
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Prefix {
    #[default]
    Auto,
    Always,
    Never,
}

impl GuestOutput {
    /// Sets the destinations of the guests.
    ///
    /// # Errors
    ///
    /// A file cannot be opened.
    pub(super) fn apply(&self, guests: &mut [GuestSpec]) -> Result<(), CommandFailure> {
        if let Some(dir) = &self.log_dir {
            create(dir)?;
            for guest in guests {
                let file = self.prefixed(Output::new(open(dir, &guest.name)?), || false);
                guest.stdout = Some(file.clone());
                guest.stderr = Some(file);
            }
            return Ok(());
        }
        let several = guests.len() > 1;
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let out = self.prefixed(Output::stdout(), || several && is_log(stdout.as_fd()));
        let err = self.prefixed(Output::stderr(), || several && is_log(stderr.as_fd()));
        for guest in guests {
            guest.stdout = Some(out.clone());
            guest.stderr = Some(err.clone());
        }
        Ok(())
    }

    fn prefixed(&self, output: Output, by_default: impl FnOnce() -> bool) -> Output {
        let prefixed = match self.prefix {
            Prefix::Auto => by_default(),
            Prefix::Always => true,
            Prefix::Never => false,
        };
        match prefixed {
            true => output.named(),
            false => output,
        }
    }
}

/// Returns whether people read a stream: a terminal, the systemd journal, or a file that is
/// appended to. A pipe or another file may be the input of a program.
fn is_log(stream: BorrowedFd<'_>) -> bool {
    if stream.is_terminal() {
        return true;
    }
    let Ok(stat) = fstat(stream) else {
        return false;
    };
    let journal = std::env::var("JOURNAL_STREAM");
    if journal.is_ok_and(|it| it == format!("{}:{}", stat.st_dev, stat.st_ino)) {
        return true;
    }
    let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
    regular && fcntl_getfl(stream).is_ok_and(|flags| flags.contains(OFlags::APPEND))
}

fn create(dir: &Path) -> Result<(), CommandFailure> {
    match DirBuilder::new().create(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failure(
            Err(error),
            format!(
                "cannot create the directory `{}` of `--log-dir`",
                dir.display()
            ),
        )),
    }
}

/// Opens a guest's file. It does not follow links, and refuses a FIFO instead of waiting for it.
fn open(dir: &Path, guest: &str) -> Result<File, CommandFailure> {
    let path = dir.join(format!("{guest}.log"));
    let what = || format!("cannot write `{}` in `--log-dir`", path.display());
    if path.parent() != Some(dir) {
        return Err(CommandFailure::msg(format!(
            "the name of guest `{guest}` cannot be a file's name in `--log-dir`"
        )));
    }
    let nothing_else = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .append(true)
        .create(true)
        .custom_flags(nothing_else.bits().cast_signed())
        .open(&path)
        .and_then(|file| match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("it is not a regular file")),
        });
    opened.map_err(|error| failure(Err(error), what()))
}

fn failure(error: io::Result<()>, what: String) -> CommandFailure {
    let error = error.context(what).expect_err("it is an error");
    CommandFailure::new(error).hint("name a writable directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appended_file_is_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let written = File::create(&path).unwrap();
        assert!(!is_log(written.as_fd()));
        let appended = OpenOptions::new().append(true).open(&path).unwrap();
        assert!(is_log(appended.as_fd()));
        let (_, pipe) = io::pipe().unwrap();
        assert!(!is_log(pipe.as_fd()));
    }

    #[test]
    fn links_and_fifos_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        std::fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, dir.path().join("a.log")).unwrap();
        open(dir.path(), "a").unwrap_err();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let fifo = dir.path().join("b.log");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        open(dir.path(), "b").unwrap_err();
        open(dir.path(), "../c").unwrap_err();
        open(dir.path(), "d").unwrap();
    }
}
