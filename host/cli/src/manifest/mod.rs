//! Manifests: an app, described in a file.

mod app;
mod conform;
mod place;
mod problem;
mod read;
mod refer;
mod schema;
mod shape;
mod syntax;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) use self::app::{Described, Grants, Instead};
pub(super) use self::problem::Problem;
use self::problem::Span;
pub(super) use self::schema::schema;
use super::failure::Failure;
use super::limit::Limit;
use super::pressure::Pressure;
use tombolo::Rights;
use tombolo_app::Restart;

/// The file that is looked for where none is named.
pub(super) const NAME: &str = "tombolo.toml";

/// Something, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spot<T> {
    value: T,
    span: Span,
}

impl<T> Spot<T> {
    fn map<U>(self, map: impl FnOnce(T) -> U) -> Spot<U> {
        Spot {
            value: map(self.value),
            span: self.span,
        }
    }
}

/// What a manifest says.
#[derive(Debug, Default)]
struct Manifest {
    budget: Option<u64>,
    margin: Option<u64>,
    on_pressure: Option<Pressure>,
    floor: Option<u16>,
    grace: Option<Duration>,
    limits: Vec<Limit>,
    guests: Vec<Guest>,
    channels: Vec<Channel>,
    scopes: Vec<Scope>,
}

#[derive(Debug)]
struct Guest {
    name: Spot<String>,
    component: Option<Spot<PathBuf>>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    pass_env: Vec<Spot<String>>,
    dirs: Vec<Dir>,
    limits: Vec<Limit>,
    score: Option<u16>,
    strand: Option<String>,
    calls: Vec<Spot<String>>,
    restart: Restart,
}

#[derive(Debug)]
struct Dir {
    host: Spot<PathBuf>,
    guest: Spot<String>,
    read_only: bool,
}

#[derive(Debug)]
struct Channel {
    name: Spot<String>,
    from: Vec<Spot<String>>,
    to: Option<Spot<String>>,
    capacity: u32,
    message_bytes: u64,
    message_regions: u32,
}

#[derive(Debug)]
struct Scope {
    name: Spot<String>,
    members: Vec<(Spot<String>, Rights)>,
}

/// Reads the text of a manifest, as far as it can be read, and says all that is
/// wrong with it.
fn parse(text: &str) -> (Manifest, Vec<Problem>) {
    let value = match toml_span::parse(text) {
        Ok(value) => value,
        Err(error) => return (Manifest::default(), vec![syntax::problem(&error)]),
    };
    let mut problems = conform::manifest(&value);
    let manifest = read::manifest(&value, &mut problems);
    refer::check(&manifest, &mut problems);
    (manifest, problems)
}

/// The manifest that a command of this program reads: the one that is named, or
/// `tombolo.toml` where we are.
pub(super) fn find(named: Option<PathBuf>, command: &str) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return Ok(path);
    }
    let path = PathBuf::from(NAME);
    if path.exists() {
        return Ok(path);
    }
    let failure = match command {
        "check" => Failure::says(format!("there is no `{NAME}` here")),
        _ => Failure::says(format!("no guest is named, and there is no `{NAME}` here")).hint(
            format!("name the guests, as in `tombolo {command} a.wasm b.wasm`"),
        ),
    };
    let example = format!("as in `tombolo {command} -f app/{NAME}`");
    Err(failure.hint(format!("name a manifest, {example}")))
}

/// Reads a manifest, and opens what it names. Components have so many bytes at most.
pub(super) fn open(path: &Path, most_bytes: u64) -> Result<Described, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(anyhow::Error::new(error).context(format!("cannot read `{}`", path.display())))
    })?;
    let (manifest, problems) = parse(&text);
    Ok(Described::new(path, text, manifest, problems, most_bytes))
}
