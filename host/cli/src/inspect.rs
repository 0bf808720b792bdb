//! `tombolo inspect`: shows the imports, exports, links and grants of guests.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::compile::Compile;
use super::component;
use super::failure::CommandFailure;
use super::json::to_text;
use super::manifest::{self, DescribedApp, DescribedGrants, Overrides};
use super::report::{self, TextTable};
use super::{stderr, stdout};
use tombolo::Rights;
use tombolo_app::{
    App, Export, Findings, GuestSpec, Import, Interfaces, LinkError, Provider, StartError,
};
use tombolo_region::escape;

/// Show imports, exports, links and grants of guests.
///
/// Components without a manifest are linked as guests of one app, as `tombolo
/// run` links them. With a manifest, its guests are shown, or only those whose
/// components are named.
#[derive(Debug, Args)]
pub(super) struct InspectCommand {
    /// The components.
    #[arg(value_name = "GUEST.wasm")]
    guests: Vec<PathBuf>,

    /// The manifest. Without it and without components, `tombolo.toml`.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Print the result as one line of JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    compile: Compile,
}

/// A guest to print.
struct ShownGuest<'a> {
    file: PathBuf,
    interfaces: &'a Interfaces,
    grants: Option<DescribedGrants>,
}

impl InspectCommand {
    /// Prints the guests.
    pub(super) fn run(self) -> Result<ExitCode, CommandFailure> {
        let with_manifest = self.file.is_some() || self.guests.is_empty();
        let (findings, described, files) = match with_manifest {
            true => {
                let (findings, described) = link_manifest(self.file, &self.compile)?;
                let files = chosen(&described, &self.guests)?;
                (findings, Some(described), files)
            }
            false => {
                let guests = component::read(&self.guests, self.compile.max_component_bytes())?;
                let names: Vec<String> = guests.iter().map(|(name, _)| name.clone()).collect();
                let files = names.into_iter().zip(self.guests).collect();
                (link_components(guests, &self.compile), None, files)
            }
        };
        let shown: Vec<ShownGuest<'_>> = findings
            .guests
            .iter()
            .filter_map(|interfaces| {
                let mut files = files.iter();
                let (_, file) = files.find(|(name, _)| *name == interfaces.guest)?;
                Some(ShownGuest {
                    file: file.clone(),
                    interfaces,
                    grants: described
                        .as_ref()
                        .map(|described| described.grants(&interfaces.guest)),
                })
            })
            .collect();
        let code = stdout::print(&match self.json {
            true => json(&shown),
            false => tables(&shown),
        })?;
        for error in host_mismatches(&findings) {
            stderr::print(&format!("note: {}\n", escape(&error)));
        }
        // A link error is part of the result. A component that cannot be read is a failure.
        let unreadable =
            |error: &&StartError| matches!(error, StartError::Compile { .. } | StartError::Host(_));
        let broken: Vec<&StartError> = findings.errors.iter().filter(unreadable).collect();
        match (described, broken.is_empty()) {
            (Some(described), _) if !described.is_good() => Err(described.failure()),
            (_, true) => Ok(code),
            (_, false) => {
                let texts: Vec<String> = broken.iter().map(|error| in_one_line(error)).collect();
                let mut hints: Vec<String> = Vec::new();
                for hint in broken.iter().flat_map(|error| error.hints()) {
                    if !hints.contains(&hint) {
                        hints.push(hint);
                    }
                }
                let failure = CommandFailure::rendered(format!("error: {}\n", texts.join("\n")));
                Err(hints.into_iter().fold(failure, CommandFailure::hint))
            }
        }
    }
}

/// Returns the imports and commands that do not match the host's interfaces.
fn host_mismatches(findings: &Findings) -> impl Iterator<Item = String> {
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
fn in_one_line(error: &StartError) -> String {
    let causes = error.causes();
    let parts: Vec<String> = [error.to_string()].into_iter().chain(causes).collect();
    parts.join(": ")
}

/// Links components as guests of one app.
fn link_components(guests: Vec<(String, Vec<u8>)>, compile: &Compile) -> Findings {
    let guests = guests.into_iter();
    let builder = guests.fold(App::builder(), |builder, (name, wasm)| {
        builder.guest(GuestSpec::new(name, wasm))
    });
    compile.apply(builder).check()
}

/// Links the guests of a manifest. The app keeps the manifest's problems, and those of components
/// that are not valid.
fn link_manifest(
    file: Option<PathBuf>,
    compile: &Compile,
) -> Result<(Findings, DescribedApp), CommandFailure> {
    let mut described = manifest::open(
        &manifest::find(file, "inspect")?,
        compile.max_component_bytes(),
    )?;
    let builder = described.builder(&Overrides::default());
    let findings = compile.apply(builder).check();
    let broken = findings
        .errors
        .iter()
        .filter(|error| matches!(error, StartError::Compile { .. }));
    let problems: Vec<_> = broken.flat_map(|error| described.locate(error)).collect();
    described.add(problems);
    Ok((findings, described))
}

/// Returns the guests with these components, or all guests if there are none.
fn chosen(
    described: &DescribedApp,
    paths: &[PathBuf],
) -> Result<Vec<(String, PathBuf)>, CommandFailure> {
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
            return Err(CommandFailure::msg(format!(
                "no guest of the manifest has the component `{}`",
                path.display()
            ))
            .hint(format!("the components are {}", files.join(", "))));
        }
    }
    let chosen = all.into_iter();
    Ok(chosen
        .filter(|(_, path)| paths.iter().any(|other| same(other, path)))
        .collect())
}

/// Returns how an import is served, and the guests concerned.
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
        Provider::Types => "(only types)".to_owned(),
        Provider::Forbidden(_) => format!("none; not allowed to call `{guests}`"),
        Provider::Ambiguous(_) => format!("none; several guests export it: {guests}"),
        Provider::Unfit(_) => format!("none; the types of `{guests}` differ"),
        Provider::Unsupported => "none; no guest can serve it".to_owned(),
        Provider::Nobody => "none".to_owned(),
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

fn tables(guests: &[ShownGuest<'_>]) -> String {
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
            for (what, name) in list(grants) {
                table.add_row([what.to_owned(), name]);
            }
            if grants == &DescribedGrants::default() {
                table.add_row(["nothing"]);
            }
            indented(&mut out, &table);
        }
    }
    out
}

fn indented(out: &mut String, table: &TextTable) {
    out.push('\n');
    for line in table.trim_fmt().lines() {
        let _ = writeln!(out, " {}", line.trim_end());
    }
}

/// Returns the kind and the text of each grant.
fn list(grants: &DescribedGrants) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let mut add = |what, names: &[String]| {
        lines.extend(names.iter().map(|name| (what, name.clone())));
    };
    add("call", &grants.calls);
    add("variable", &grants.variables);
    add("send to channel", &grants.sends);
    add("receive from channel", &grants.receives);
    for (host, guest, read_only) in &grants.dirs {
        let access = if *read_only { "read" } else { "write" };
        lines.push(("directory", format!("{host} as {guest}, {access}")));
    }
    for (scope, rights) in &grants.scopes {
        lines.push(("scope", format!("{scope}, {}", words(*rights).join(", "))));
    }
    lines
}

fn words(rights: Rights) -> Vec<&'static str> {
    let all = [
        (Rights::READ, "read"),
        (Rights::WRITE, "write"),
        (Rights::SHARE, "share"),
    ];
    let words = all.iter().filter(|(right, _)| rights.contains(*right));
    words.map(|(_, word)| *word).collect()
}

fn json(guests: &[ShownGuest<'_>]) -> String {
    let guests: Vec<Value> = guests
        .iter()
        .map(|guest| {
            let interfaces = guest.interfaces;
            json!({
                "name": interfaces.guest,
                "file": guest.file.to_string_lossy(),
                "command": interfaces.command,
                "imports": interfaces.imports.iter().map(imported).collect::<Vec<_>>(),
                "exports": interfaces.exports.iter().map(exported).collect::<Vec<_>>(),
                "grants": guest.grants.as_ref().map(granted),
            })
        })
        .collect();
    to_text(&json!({ "guests": guests })) + "\n"
}

fn imported(import: &Import) -> Value {
    let (from, guests) = provider(&import.provider);
    json!({
        "name": import.name,
        "functions": import.functions,
        "resources": import.resources,
        "from": from,
        "guests": guests,
    })
}

fn exported(export: &Export) -> Value {
    json!({
        "name": export.name,
        "functions": export.functions,
        "resources": export.resources,
        "guests": export.users,
    })
}

fn granted(grants: &DescribedGrants) -> Value {
    let dirs: Vec<Value> = grants
        .dirs
        .iter()
        .map(|(host, guest, read_only)| {
            let access = if *read_only { "read" } else { "write" };
            json!({ "host": host, "guest": guest, "access": access })
        })
        .collect();
    let scopes: Vec<Value> = grants
        .scopes
        .iter()
        .map(|(scope, rights)| json!({ "name": scope, "rights": words(*rights) }))
        .collect();
    json!({
        "calls": grants.calls,
        "dirs": dirs,
        "variables": grants.variables,
        "sends": grants.sends,
        "receives": grants.receives,
        "scopes": scopes,
    })
}
