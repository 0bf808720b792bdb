//! The parts that the examples have in common: building, manifests, and commands to show.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use toml_edit::{DocumentMut, TableLike};

use xtask_guests as guests;

use crate::run;

/// The name of the file that describes an app.
pub(crate) const MANIFEST: &str = "tombolo.toml";

/// Builds the program and the guests. Cargo shows its progress.
pub(crate) fn build(target: &Path, packages: &[&str]) -> Result<()> {
    eprintln!("Building the program `tombolo` (some minutes, the first time)");
    // Without `--package`: so that cargo chooses features as for `cargo test`, and does not
    // build wasmtime again for that.
    let mut host = run::cargo("build");
    run::run(host.args(["--bin", "tombolo"]), "building `tombolo`")?;

    eprintln!("Building the guests, for {}", guests::TARGET);
    let mut guests = guests::build(target, packages);
    run::run(&mut guests, "building the guests")
}

/// Copies an app into a directory: its manifest, and the components beside it.
pub(crate) fn put_app(
    target: &Path,
    directory: &Path,
    example: &str,
    guests: &[&str],
) -> Result<()> {
    let manifest = run::root().join(example).join(MANIFEST);
    let mut files = vec![(manifest, directory.join(MANIFEST))];
    for guest in guests {
        let beside = directory.join(format!("{guest}.wasm"));
        files.push((guests::artifact(target, guest), beside));
    }
    for (from, to) in files {
        fs::copy(&from, &to)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}

/// Reads a manifest, to change it.
pub(crate) fn read_manifest(path: &Path) -> Result<DocumentMut> {
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let document = text.parse();
    document.with_context(|| format!("{} is not TOML", path.display()))
}

/// Returns the guests of a manifest.
pub(crate) fn guests_of(manifest: &mut DocumentMut) -> Vec<&mut dyn TableLike> {
    let guests = manifest
        .get_mut("guests")
        .and_then(|it| it.as_table_like_mut());
    let guests = guests.into_iter().flat_map(|guests| guests.iter_mut());
    guests
        .filter_map(|(_, guest)| guest.as_table_like_mut())
        .collect()
}

/// Returns the argument of `--dir` that grants a directory to a guest.
pub(crate) fn grant(directory: &Path, guest: &str, rights: &str) -> Result<OsString> {
    if directory.to_string_lossy().contains("::") {
        bail!(
            "{}: `--dir` cannot name a directory with `::` in its name",
            directory.display()
        );
    }
    let mut argument = directory.as_os_str().to_owned();
    argument.push(format!("::{guest}{rights}"));
    Ok(argument)
}

/// Returns a path relative to the working directory, if it is below.
pub(crate) fn shorten(path: PathBuf) -> PathBuf {
    let Ok(here) = std::env::current_dir() else {
        return path;
    };
    match path.strip_prefix(here) {
        Ok(below) => Path::new(".").join(below),
        Err(_) => path,
    }
}

/// Returns a command as a shell reads it.
pub(crate) fn shell(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).map(quote).collect();
    words.join(" ")
}

/// Returns a word as a shell reads it.
pub(crate) fn quote(word: Cow<'_, str>) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word
    } else {
        format!("'{}'", word.replace('\'', r"'\''")).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_quotes_special_words() {
        let mut command = Command::new("./tombolo");
        command.args(["run", "a b.wav", "it's", "", "--dir", "x::/y:ro"]);
        assert_eq!(
            shell(&command),
            r"./tombolo run 'a b.wav' 'it'\''s' '' --dir x::/y:ro"
        );
    }

    #[test]
    fn directory_with_colons_is_refused() {
        assert!(grant(Path::new("a::b"), "/input", "").is_err());
    }
}
