//! The app that a manifest describes, with its files.

use std::path::{Path, PathBuf};

use cap_std::ambient_authority;

use super::problem::{self, Problem};
use super::{DirSection, GuestSection, Manifest};
use crate::component;
use crate::failure::CommandFailure;
use crate::limit::Limit;
use crate::pressure::{Pressure, Score};
use crate::stderr;
use tombolo::{HostLimits, Limits, Rights};
use tombolo_app::{App, AppBuilder, CallSpec, ChannelSpec, Grant, GuestSpec, ScopeSpec};

/// The app that a manifest describes, its open files, and its problems.
#[derive(Debug)]
pub(crate) struct DescribedApp {
    path: String,
    text: String,
    pub(super) manifest: Manifest,
    problems: Vec<Problem>,
    files: Vec<Files>,
}

/// The open files of a guest.
#[derive(Debug, Default)]
struct Files {
    /// The component's path, relative to the current directory.
    path: PathBuf,
    wasm: Option<Vec<u8>>,
    dirs: Vec<Grant>,
    /// The variables that are passed on to the guest.
    env: Vec<(String, String)>,
}

/// The options of the command line that override the manifest.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) budget: Option<u64>,
    pub(crate) margin: Option<u64>,
    pub(crate) on_pressure: Option<Pressure>,
    pub(crate) oom_floor: Option<u16>,
    pub(crate) oom_scores: Vec<Score>,
}

/// The grants of a guest.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DescribedGrants {
    pub(crate) calls: Vec<String>,
    /// The path on the host, the path in the guest, and whether it is read-only.
    pub(crate) dirs: Vec<(String, String, bool)>,
    pub(crate) variables: Vec<String>,
    pub(crate) sends: Vec<String>,
    pub(crate) receives: Vec<String>,
    pub(crate) scopes: Vec<(String, Rights)>,
}

impl DescribedApp {
    /// Opens the files that the manifest names.
    pub(super) fn new(
        path: &Path,
        text: String,
        manifest: Manifest,
        mut problems: Vec<Problem>,
        max_component_bytes: u64,
    ) -> DescribedApp {
        let base = path.parent().unwrap_or(Path::new(""));
        let files = manifest
            .guests
            .iter()
            .map(|guest| Files::open(guest, base, max_component_bytes, &mut problems))
            .collect();
        DescribedApp {
            path: path.display().to_string(),
            text,
            manifest,
            problems,
            files,
        }
    }

    /// Adds problems or warnings.
    pub(crate) fn add(&mut self, problems: impl IntoIterator<Item = Problem>) {
        self.problems.extend(problems);
    }

    /// Returns whether the app can start: there are only warnings.
    pub(crate) fn is_good(&self) -> bool {
        self.problems.iter().all(Problem::is_warning)
    }

    /// Renders all problems at their lines. The text is empty if there are none.
    pub(crate) fn render(&self, fancy: bool) -> String {
        match self.problems.is_empty() {
            true => String::new(),
            false => problem::render(&self.path, &self.text, &self.problems, fancy),
        }
    }

    /// Returns the app, or all problems if it cannot start.
    pub(crate) fn good(self) -> Result<DescribedApp, CommandFailure> {
        match self.is_good() {
            true => Ok(self),
            false => Err(self.failure()),
        }
    }

    /// Returns all problems as a failure.
    pub(crate) fn failure(&self) -> CommandFailure {
        CommandFailure::rendered(self.render(stderr::has_colours()))
    }

    /// Returns the names of the guests and the paths of their components.
    pub(crate) fn components(&self) -> impl Iterator<Item = (&str, &Path)> {
        let guests = self.manifest.guests.iter().zip(&self.files);
        guests.map(|(guest, files)| (&*guest.name.value, &*files.path))
    }

    /// Returns the number of channels and the number of scopes.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.manifest.channels.len(), self.manifest.scopes.len())
    }

    /// Returns whether all components were read.
    pub(super) fn is_whole(&self) -> bool {
        self.files.iter().all(|files| files.wasm.is_some())
    }

    /// Returns whether this guest's component was read.
    pub(super) fn has(&self, guest: &str) -> bool {
        let mut guests = self.manifest.guests.iter().zip(&self.files);
        guests.any(|(other, files)| other.name.value == guest && files.wasm.is_some())
    }

    /// Returns the grants of a guest.
    pub(crate) fn grants(&self, guest: &str) -> DescribedGrants {
        let manifest = &self.manifest;
        let mut grants = DescribedGrants::default();
        for of in manifest.guests.iter().filter(|of| of.name.value == guest) {
            grants.calls = of.calls.iter().map(|call| call.value.clone()).collect();
            grants.dirs = of.dirs.iter().map(shown).collect();
            let passed = of.pass_env.iter().map(|key| &key.value);
            let set = of.env.iter().map(|(key, _)| key);
            grants.variables = set.chain(passed).cloned().collect();
        }
        for channel in &manifest.channels {
            if channel.from.iter().any(|from| from.value == guest) {
                grants.sends.push(channel.name.value.clone());
            }
            if channel.to.iter().any(|to| to.value == guest) {
                grants.receives.push(channel.name.value.clone());
            }
        }
        for scope in &manifest.scopes {
            let members = scope.members.iter();
            let mine = members.filter(|(member, _)| member.value == guest);
            let rights = mine.map(|(_, rights)| (scope.name.value.clone(), *rights));
            grants.scopes.extend(rights);
        }
        grants
    }

    /// Builds the app from the components that could be read. Can be called once, because it
    /// consumes the open files.
    pub(crate) fn builder(&mut self, overrides: &Overrides) -> AppBuilder {
        let mut builder = self.manifest.settings(overrides);
        let mut built = Vec::new();
        for (guest, files) in self.manifest.guests.iter().zip(&mut self.files) {
            if let Some(spec) = self.manifest.guest(guest, files) {
                built.push(&*guest.name.value);
                builder = builder.guest(spec);
            }
        }
        builder = self.manifest.scores(builder, overrides, &built);
        self.manifest.links(builder, &built)
    }
}

impl Manifest {
    /// Starts an app with the settings for all guests.
    fn settings(&self, overrides: &Overrides) -> AppBuilder {
        let mut host_limits = HostLimits::default();
        if let Some(budget) = overrides.budget.or(self.budget) {
            host_limits.budget = budget;
        }
        if let Some(margin) = overrides.margin.or(self.margin) {
            host_limits.margin = margin;
        }
        let on_pressure = overrides.on_pressure.or(self.on_pressure);
        let builder = App::builder()
            .host_limits(host_limits)
            .limits(limits(Limits::default(), &self.limits))
            .on_pressure(on_pressure.unwrap_or_default().into())
            .oom_floor(overrides.oom_floor.or(self.oom_floor).unwrap_or(1))
            // No calls are permitted, except for those that `links` adds.
            .may_call([]);
        match self.stop_timeout {
            Some(timeout) => builder.stop_timeout(timeout),
            None => builder,
        }
    }

    /// Returns a guest, or `None` if its component was not read. Takes the open files.
    fn guest(&self, guest: &GuestSection, files: &mut Files) -> Option<GuestSpec> {
        // An empty component stays, so that [`has`](DescribedApp::has) knows of it.
        let wasm = std::mem::take(files.wasm.as_mut()?);
        let env = std::mem::take(&mut files.env);
        let has_limits = !guest.limits.is_empty();
        Some(GuestSpec {
            name: guest.name.value.clone(),
            wasm: wasm.into(),
            inherit_stdio: true,
            stdout: None,
            stderr: None,
            args: guest.args.clone(),
            env: guest.env.iter().cloned().chain(env).collect(),
            dirs: std::mem::take(&mut files.dirs),
            limits: has_limits.then(|| {
                let all = limits(Limits::default(), &self.limits);
                limits(all, &guest.limits)
            }),
            strand: guest.strand.clone(),
            restart: guest.restart.clone(),
        })
    }

    /// Sets the scores of the built guests, and those of the command line, which may name
    /// unknown guests.
    fn scores(&self, mut builder: AppBuilder, overrides: &Overrides, built: &[&str]) -> AppBuilder {
        for guest in &self.guests {
            let name = &*guest.name.value;
            let mut options = overrides.oom_scores.iter();
            if let Some(score) = guest.oom_score
                && built.contains(&name)
                && options.all(|option| option.guest != name)
            {
                builder = builder.oom_score(name, score);
            }
        }
        for Score { guest, score } in &overrides.oom_scores {
            builder = builder.oom_score(guest, *score);
        }
        builder
    }

    /// Adds the calls, channels and scopes whose guests are built.
    fn links(&self, mut builder: AppBuilder, built: &[&str]) -> AppBuilder {
        let is_built = |guest: &str| built.contains(&guest);
        for guest in &self.guests {
            let from = &guest.name.value;
            let calls = guest
                .calls
                .iter()
                .filter(|to| is_built(from) && is_built(&to.value));
            builder = builder.may_call(calls.map(|to| CallSpec {
                from: from.clone(),
                to: to.value.clone(),
            }));
        }
        for channel in &self.channels {
            let from: Vec<String> = channel.from.iter().map(|from| from.value.clone()).collect();
            let Some(to) = &channel.to else { continue };
            if from.iter().chain([&to.value]).all(|guest| is_built(guest)) {
                builder = builder.channel(ChannelSpec {
                    name: channel.name.value.clone(),
                    from,
                    to: to.value.clone(),
                    capacity: channel.capacity,
                    message_bytes: channel.message_bytes,
                    message_regions: channel.message_regions,
                });
            }
        }
        for scope in &self.scopes {
            let members = scope.members.iter();
            let members: Vec<(String, Rights)> = members
                .map(|(member, rights)| (member.value.clone(), *rights))
                .collect();
            if members.iter().all(|(member, _)| is_built(member)) {
                builder = builder.scope(ScopeSpec {
                    name: scope.name.value.clone(),
                    members,
                });
            }
        }
        builder
    }
}

/// Applies further limits.
fn limits(mut limits: Limits, set: &[Limit]) -> Limits {
    for limit in set {
        limit.apply(&mut limits);
    }
    limits
}

fn shown(dir: &DirSection) -> (String, String, bool) {
    let host = dir.host.value.display().to_string();
    (host, dir.guest.value.clone(), dir.read_only)
}

impl Files {
    /// Opens a guest's component and directories, relative to the manifest.
    fn open(
        guest: &GuestSection,
        base: &Path,
        max_component_bytes: u64,
        problems: &mut Vec<Problem>,
    ) -> Files {
        let mut files = Files::default();
        if let Some(component) = &guest.component {
            files.path = base.join(&component.value);
            match component::read_one(&files.path, max_component_bytes) {
                Ok(wasm) => files.wasm = Some(wasm),
                Err(failure) => {
                    problems.push(Problem::from_failure(failure, component.span.clone()))
                }
            }
        }
        for dir in &guest.dirs {
            let path = base.join(&dir.host.value);
            match cap_std::fs::Dir::open_ambient_dir(&path, ambient_authority()) {
                Ok(opened) => files.dirs.push(Grant {
                    dir: opened,
                    host_path: path,
                    guest_path: dir.guest.value.clone(),
                    read_only: dir.read_only,
                }),
                Err(error) => problems.push(
                    Problem::new(format!("cannot open the directory `{}`", path.display()))
                        .at(dir.host.span.clone(), error.to_string()),
                ),
            }
        }
        for key in &guest.pass_env {
            match std::env::var(&key.value) {
                Ok(value) => files.env.push((key.value.clone(), value)),
                Err(error) => problems.push(
                    Problem::new(format!("cannot pass on the variable `{}`", key.value))
                        .at(key.span.clone(), error.to_string())
                        .hint(format!("`env = {{ {} = \"…\" }}` sets it", key.value)),
                ),
            }
        }
        files
    }
}
