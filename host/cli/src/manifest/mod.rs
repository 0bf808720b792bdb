//! Manifests: files that describe apps.
//!
//! [`shape`] is the one description of the keys. [`validate`] checks values against it, and the
//! JSON schema and the tables of `docs/manifest.md` are printed from it. [`read`] takes what is
//! valid, so one mistake does not hide another, except in a file that is not TOML. Values keep
//! their places in the text, so [`locate`] can show problems of components at a line as well.

mod app;
mod locate;
mod problem;
mod read;
mod references;
mod schema;
mod shape;
mod syntax;
mod validate;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) use self::app::{DescribedApp, DescribedGrants, Overrides};
pub(super) use self::problem::Problem;
use self::problem::TextSpan;
pub(super) use self::schema::schema;
use super::failure::CommandFailure;
use super::limit::Limit;
use super::pressure::Pressure;
use tombolo::Rights;
use tombolo_app::Restart;

/// The manifest that is read if none is named.
pub(super) const NAME: &str = "tombolo.toml";

/// A value and its place in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spanned<T> {
    value: T,
    span: TextSpan,
}

impl<T> Spanned<T> {
    fn map<U>(self, map: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned {
            value: map(self.value),
            span: self.span,
        }
    }
}

/// The contents of a manifest.
#[derive(Debug, Default)]
struct Manifest {
    budget: Option<u64>,
    margin: Option<u64>,
    on_pressure: Option<Pressure>,
    oom_floor: Option<u16>,
    stop_timeout: Option<Duration>,
    limits: Vec<Limit>,
    guests: Vec<GuestSection>,
    channels: Vec<ChannelSection>,
    scopes: Vec<ScopeSection>,
}

/// The table of a guest.
#[derive(Debug)]
struct GuestSection {
    name: Spanned<String>,
    component: Option<Spanned<PathBuf>>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    pass_env: Vec<Spanned<String>>,
    dirs: Vec<DirSection>,
    limits: Vec<Limit>,
    oom_score: Option<u16>,
    strand: Option<String>,
    calls: Vec<Spanned<String>>,
    restart: Restart,
}

/// The table of a directory that a guest may open.
#[derive(Debug)]
struct DirSection {
    host: Spanned<PathBuf>,
    guest: Spanned<String>,
    read_only: bool,
}

/// The table of a channel.
#[derive(Debug)]
struct ChannelSection {
    name: Spanned<String>,
    from: Vec<Spanned<String>>,
    to: Option<Spanned<String>>,
    capacity: u32,
    message_bytes: u64,
    message_regions: u32,
}

/// The table of a scope.
#[derive(Debug)]
struct ScopeSection {
    name: Spanned<String>,
    members: Vec<(Spanned<String>, Rights)>,
}

/// Parses a manifest. Returns its valid parts, and all problems.
fn parse(text: &str) -> (Manifest, Vec<Problem>) {
    let value = match toml_span::parse(text) {
        Ok(value) => value,
        Err(error) => return (Manifest::default(), vec![syntax::problem(&error)]),
    };
    let mut problems = validate::manifest(&value);
    let manifest = read::manifest(&value, &mut problems);
    references::check(&manifest, &mut problems);
    (manifest, problems)
}

/// Returns the path of the manifest for a command: the one that is named, or `tombolo.toml` in
/// the current directory.
pub(super) fn find(named: Option<PathBuf>, command: &str) -> Result<PathBuf, CommandFailure> {
    if let Some(path) = named {
        return Ok(path);
    }
    let path = PathBuf::from(NAME);
    if path.exists() {
        return Ok(path);
    }
    let failure = match command {
        "check" => CommandFailure::msg(format!("there is no `{NAME}` in this directory")),
        _ => CommandFailure::msg(format!(
            "no guest is named, and there is no `{NAME}` in this directory"
        ))
        .hint(format!(
            "name the guests, for example `tombolo {command} a.wasm b.wasm`"
        )),
    };
    let example = format!("for example `tombolo {command} -f app/{NAME}`");
    Err(failure.hint(format!("name a manifest, {example}")))
}

/// Reads a manifest, and opens the files that it names. A component of more than
/// `max_component_bytes` is not read.
pub(super) fn open(path: &Path, max_component_bytes: u64) -> Result<DescribedApp, CommandFailure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        CommandFailure::new(
            anyhow::Error::new(error).context(format!("cannot read `{}`", path.display())),
        )
    })?;
    let (manifest, problems) = parse(&text);
    Ok(DescribedApp::new(
        path,
        text,
        manifest,
        problems,
        max_component_bytes,
    ))
}
