//! `tombolo inspect`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use miniserde::json::Value;

use super::compile::Compile;
use super::component;
use super::failure::Failure;
use super::json::{array, object, string, to_text};
use super::manifest::{self, Described, Grants, Instead};
use super::report::{self, Table};
use super::say::say;
use tombolo::Rights;
use tombolo_app::{
    App, Export, Findings, GuestSpec, Import, Interfaces, LinkError, Provider, StartError,
};
use tombolo_region::escape;

/// Show what components import and export, who serves what, and what each would
/// be granted.
///
/// With components alone, they are looked at as the guests of one app, as
/// `tombolo run` takes them. With a manifest, they are looked at as the guests
/// that it describes, or all of its guests if none is named.
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The components.
    #[arg(value_name = "GUEST.wasm")]
    guests: Vec<PathBuf>,

    /// The manifest. Without it and without components, `tombolo.toml` of this
    /// directory.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Print one line of JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    compile: Compile,
}

/// A guest, and what is to be said of it.
struct Shown<'a> {
    file: PathBuf,
    interfaces: &'a Interfaces,
    grants: Option<Grants>,
}

impl Inspect {
    /// Shows it.
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let with_manifest = self.file.is_some() || self.guests.is_empty();
        let (findings, described, files) = match with_manifest {
            true => {
                let (findings, described) = described(self.file, &self.compile)?;
                let files = chosen(&described, &self.guests)?;
                (findings, Some(described), files)
            }
            false => {
                let guests = component::read(&self.guests, self.compile.most_bytes())?;
                let names: Vec<String> = guests.iter().map(|(name, _)| name.clone()).collect();
                let files = names.into_iter().zip(self.guests).collect();
                (named(guests, &self.compile), None, files)
            }
        };
        let shown: Vec<Shown<'_>> = findings
            .guests
            .iter()
            .filter_map(|interfaces| {
                let mut files = files.iter();
                let (_, file) = files.find(|(name, _)| *name == interfaces.guest)?;
                Some(Shown {
                    file: file.clone(),
                    interfaces,
                    grants: described
                        .as_ref()
                        .map(|described| described.grants(&interfaces.guest)),
                })
            })
            .collect();
        let done = super::print(&match self.json {
            true => json(&shown),
            false => tables(&shown),
        })?;
        for error in unfit(&findings) {
            say(&format!("note: {}\n", escape(&error)));
        }
        // What is linked is shown; what cannot even be looked at is a failure.
        let unreadable =
            |error: &&StartError| matches!(error, StartError::Compile { .. } | StartError::Host(_));
        let broken: Vec<&StartError> = findings.errors.iter().filter(unreadable).collect();
        match (described, broken.is_empty()) {
            (Some(described), _) if !described.is_good() => Err(described.failure()),
            (_, true) => Ok(done),
            (_, false) => {
                let texts: Vec<String> = broken.iter().map(|error| whole(error)).collect();
                let mut hints: Vec<String> = Vec::new();
                for hint in broken.iter().flat_map(|error| error.hints()) {
                    if !hints.contains(&hint) {
                        hints.push(hint);
                    }
                }
                let failure = Failure::shown(format!("error: {}\n", texts.join("\n")));
                Err(hints.into_iter().fold(failure, Failure::hint))
            }
        }
    }
}

/// Returns the mismatches with the host: imports of its interfaces, which the engine names,
/// and commands.
fn unfit(findings: &Findings) -> impl Iterator<Item = String> {
    let of_host = |error: &&LinkError| matches!(error, LinkError::Host { .. });
    findings.errors.iter().flat_map(move |error| match error {
        StartError::Link(errors) => {
            let errors = errors.errors().iter().filter(of_host);
            errors.map(ToString::to_string).collect()
        }
        StartError::Run { .. } => vec![error.to_string()],
        _ => Vec::new(),
    })
}

/// Returns an error with its causes, in one line.
fn whole(error: &StartError) -> String {
    let causes = error.causes();
    let parts: Vec<String> = [error.to_string()].into_iter().chain(causes).collect();
    parts.join(": ")
}

/// Looks at components as guests of one app.
fn named(guests: Vec<(String, Vec<u8>)>, compile: &Compile) -> Findings {
    let guests = guests.into_iter();
    let builder = guests.fold(App::builder(), |builder, (name, wasm)| {
        builder.guest(GuestSpec::new(name, wasm))
    });
    compile.apply(builder).check()
}

/// Looks at the guests of a manifest. Its own mistakes, and components that do
/// not compile, are kept with it.
fn described(file: Option<PathBuf>, compile: &Compile) -> Result<(Findings, Described), Failure> {
    let mut described = manifest::open(&manifest::find(file, "inspect")?, compile.most_bytes())?;
    let builder = described.builder(&Instead::default());
    let findings = compile.apply(builder).check();
    let broken = findings
        .errors
        .iter()
        .filter(|error| matches!(error, StartError::Compile { .. }));
    let problems: Vec<_> = broken.flat_map(|error| described.place(error)).collect();
    described.add(problems);
    Ok((findings, described))
}

/// The guests whose components these are; all of them, if there are none.
fn chosen(described: &Described, paths: &[PathBuf]) -> Result<Vec<(String, PathBuf)>, Failure> {
    let all: Vec<(String, PathBuf)> = described
        .components()
        .map(|(name, path)| (name.to_owned(), path.to_owned()))
        .collect();
    if paths.is_empty() {
        return Ok(all);
    }
    let same = |a: &Path, b: &Path| match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    };
    for path in paths {
        if !all.iter().any(|(_, other)| same(path, other)) {
            let files: Vec<String> = all
                .iter()
                .map(|(_, path)| format!("`{}`", path.display()))
                .collect();
            return Err(Failure::says(format!(
                "`{}` is no guest's component in the manifest",
                path.display()
            ))
            .hint(format!("its components are {}", files.join(", "))));
        }
    }
    let chosen = all.into_iter();
    Ok(chosen
        .filter(|(_, path)| paths.iter().any(|other| same(other, path)))
        .collect())
}

/// Who serves an import, in a word and the guests that it is about.
fn provider(provider: &Provider) -> (&'static str, &[String]) {
    use std::slice::from_ref;
    match provider {
        Provider::Host => ("host", &[]),
        Provider::Guest(guest) => ("guest", from_ref(guest)),
        Provider::Types => ("types", &[]),
        Provider::Forbidden(guests) => ("forbidden", guests),
        Provider::Ambiguous(guests) => ("ambiguous", guests),
        Provider::Unfit(guest) => ("unfit", from_ref(guest)),
        Provider::Unsupported => ("refused", &[]),
        Provider::Nobody => ("nobody", &[]),
        _ => ("unknown", &[]),
    }
}

fn served(import: &Import) -> String {
    let (word, guests) = provider(&import.provider);
    let guests = guests.join(", ");
    match import.provider {
        Provider::Guest(_) => format!("guest `{guests}`"),
        Provider::Types => "(types alone)".to_owned(),
        Provider::Forbidden(_) => format!("nobody; may not call `{guests}`"),
        Provider::Ambiguous(_) => format!("one of several: {guests}"),
        Provider::Unfit(_) => format!("nobody; the types of `{guests}` differ"),
        Provider::Unsupported => "nobody; no guest can serve it".to_owned(),
        _ => word.to_owned(),
    }
}

fn users(guest: &Interfaces, export: &Export) -> String {
    match export.users.is_empty() {
        true if guest.command && export.name.starts_with("wasi:cli/run@") => "host".to_owned(),
        true => "-".to_owned(),
        false => {
            let users: Vec<String> = export
                .users
                .iter()
                .map(|user| format!("`{user}`"))
                .collect();
            format!("guest {}", users.join(", "))
        }
    }
}

fn tables(guests: &[Shown<'_>]) -> String {
    let mut out = String::new();
    for (index, guest) in guests.iter().enumerate() {
        let Interfaces {
            guest: name,
            imports,
            exports,
            command,
            ..
        } = guest.interfaces;
        if index > 0 {
            out.push('\n');
        }
        let kind = if *command { ", a command" } else { "" };
        let file = guest.file.to_string_lossy();
        let _ = writeln!(out, "{} ({}){kind}", escape(name), escape(&file));
        if !imports.is_empty() {
            let mut table = report::table(false, &["imports", "from"]);
            for import in imports {
                table.add_row([import.name.clone(), served(import)]);
            }
            indented(&mut out, &table);
        }
        if !exports.is_empty() {
            let mut table = report::table(false, &["exports", "to"]);
            for export in exports {
                table.add_row([export.name.clone(), users(guest.interfaces, export)]);
            }
            indented(&mut out, &table);
        }
        if let Some(grants) = &guest.grants {
            let mut table = report::table(false, &["granted", ""]);
            for (what, name) in listed(grants) {
                table.add_row([what.to_owned(), name]);
            }
            if grants == &Grants::default() {
                table.add_row(["nothing"]);
            }
            indented(&mut out, &table);
        }
    }
    out
}

fn indented(out: &mut String, table: &Table) {
    out.push('\n');
    for line in table.trim_fmt().lines() {
        let _ = writeln!(out, " {}", line.trim_end());
    }
}

/// The grants, a line each.
fn listed(grants: &Grants) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let mut add = |what, names: &[String]| {
        lines.extend(names.iter().map(|name| (what, name.clone())));
    };
    add("call", &grants.calls);
    add("variable", &grants.variables);
    add("channel, to send", &grants.sends);
    add("channel, to receive", &grants.receives);
    for (host, guest, read_only) in &grants.dirs {
        let access = if *read_only { "read" } else { "write" };
        lines.push(("directory", format!("{host} as {guest}, {access}")));
    }
    for (scope, rights) in &grants.scopes {
        lines.push(("scope", format!("{scope}, {}", words(*rights).join(", "))));
    }
    lines
}

fn words(rights: Rights) -> Vec<String> {
    let all = [
        (Rights::READ, "read"),
        (Rights::WRITE, "write"),
        (Rights::SHARE, "share"),
    ];
    let words = all.iter().filter(|(right, _)| rights.contains(*right));
    words.map(|(_, word)| (*word).to_owned()).collect()
}

fn json(guests: &[Shown<'_>]) -> String {
    let guests = array(guests, |guest: &Shown<'_>| {
        let interfaces = guest.interfaces;
        let grants = match &guest.grants {
            Some(grants) => granted(grants),
            None => Value::Null,
        };
        object([
            ("name", string(&interfaces.guest)),
            ("file", string(&guest.file.display().to_string())),
            ("command", Value::Bool(interfaces.command)),
            ("imports", array(&interfaces.imports, imported)),
            ("exports", array(&interfaces.exports, exported)),
            ("grants", grants),
        ])
    });
    to_text(&object([("guests", guests)])) + "\n"
}

fn imported(import: &Import) -> Value {
    let (from, guests) = provider(&import.provider);
    object([
        ("name", string(&import.name)),
        ("functions", strings(&import.functions)),
        ("resources", strings(&import.resources)),
        ("from", string(from)),
        ("guests", strings(guests)),
    ])
}

fn exported(export: &Export) -> Value {
    object([
        ("name", string(&export.name)),
        ("functions", strings(&export.functions)),
        ("resources", strings(&export.resources)),
        ("guests", strings(&export.users)),
    ])
}

fn granted(grants: &Grants) -> Value {
    object([
        ("calls", strings(&grants.calls)),
        (
            "dirs",
            array(&grants.dirs, |(host, guest, read_only)| {
                object([
                    ("host", string(host)),
                    ("guest", string(guest)),
                    ("access", string(if *read_only { "read" } else { "write" })),
                ])
            }),
        ),
        ("variables", strings(&grants.variables)),
        ("sends", strings(&grants.sends)),
        ("receives", strings(&grants.receives)),
        (
            "scopes",
            array(&grants.scopes, |(scope, rights)| {
                object([
                    ("name", string(scope)),
                    ("rights", strings(&words(*rights))),
                ])
            }),
        ),
    ])
}

fn strings(texts: &[String]) -> Value {
    array(texts, |text| string(text))
}
