//! Shows the problems of components and links at the lines of the manifest.

use super::GuestSection;
use super::app::DescribedApp;
use super::problem::Problem;
use tombolo_app::{Findings, LinkError, LinkWarning, NearestExport, StartError};
use tombolo_region::escape;

impl DescribedApp {
    /// Adds the findings of a check at the lines of the guests concerned.
    pub(crate) fn add_findings(&mut self, findings: &Findings) {
        let mut problems: Vec<Problem> = findings
            .errors
            .iter()
            .flat_map(|error| self.locate(error))
            .collect();
        problems.extend(
            findings
                .warnings
                .iter()
                .map(|warning| self.warning(warning)),
        );
        self.add(problems);
    }

    /// Returns the problems that keep the app from starting.
    pub(crate) fn locate(&self, error: &StartError) -> Vec<Problem> {
        let hinted = |problem: Problem| error.hints().into_iter().fold(problem, Problem::hint);
        let problem = match error {
            StartError::Several(errors) => {
                return errors.iter().flat_map(|error| self.locate(error)).collect();
            }
            StartError::Link(errors) => {
                let errors = errors.errors().iter();
                return errors.filter_map(|error| self.link(error)).collect();
            }
            // A component that was not read may be the command.
            StartError::NoCommand { .. } if !self.is_whole() => return Vec::new(),
            StartError::Compile { guest, .. }
            | StartError::Grant { guest, .. }
            | StartError::Instantiate { guest, .. } => {
                let problem = self.at(Problem::new(error.to_string()), guest, "this guest");
                error.causes().into_iter().fold(problem, Problem::note)
            }
            StartError::Run { guest, .. } => {
                self.at(Problem::new(error.to_string()), guest, "this guest")
            }
            StartError::MessageBytes { channel, .. } | StartError::Queue { channel, .. } => {
                let mut channels = self.manifest.channels.iter();
                let problem = Problem::new(error.to_string());
                match channels.find(|it| it.name.value == *channel) {
                    Some(channel) => problem.at(channel.name.span.clone(), "this guest"),
                    None => problem,
                }
            }
            StartError::Host(_) | StartError::Prepare(_) => {
                Problem::new(error.to_string()).note(error.causes().join(": "))
            }
            _ => Problem::new(error.to_string()),
        };
        vec![hinted(problem)]
    }

    /// Returns the problem of a link error, or `None` if it may only follow from a component
    /// that was not read.
    fn link(&self, error: &LinkError) -> Option<Problem> {
        let guest = self.guest(error.guest());
        let mut calls: Vec<&str> = guest
            .iter()
            .flat_map(|guest| &guest.calls)
            .map(|call| &*call.value)
            .collect();
        let (label, hint) = match error {
            LinkError::Missing { .. } if calls.iter().any(|call| !self.has(call)) => return None,
            LinkError::Missing {
                guest,
                import,
                near: None | Some(NearestExport::Itself),
            } => (
                "no guest exports its import",
                format!(
                    "add a guest that exports `{}`, and name it in `calls` of `{}`",
                    escape(import),
                    escape(guest)
                ),
            ),
            LinkError::Forbidden { exporters, .. } => {
                calls.push(&exporters[0]);
                (
                    "may not call the exporter",
                    format!("write `calls = {calls:?}`"),
                )
            }
            LinkError::Ambiguous { .. } => (
                "several guests export its import",
                "name only one of them in `calls`".to_owned(),
            ),
            _ => ("this guest", error.hint()),
        };
        let problem = self.at(Problem::new(error.to_string()), error.guest(), label);
        Some(problem.hint(hint))
    }

    fn warning(&self, warning: &LinkWarning) -> Problem {
        let problem = Problem::new(warning.to_string()).warning();
        self.at(problem, &warning.importer, "the caller")
    }

    /// Places a problem at the component of a guest.
    fn at(&self, problem: Problem, guest: &str, label: &str) -> Problem {
        match self.guest(guest) {
            Some(guest) => {
                let component = guest.component.as_ref();
                let span = component.map_or(&guest.name.span, |component| &component.span);
                problem.at(span.clone(), label)
            }
            None => problem,
        }
    }

    fn guest(&self, name: &str) -> Option<&GuestSection> {
        let mut guests = self.manifest.guests.iter();
        guests.find(|guest| guest.name.value == name)
    }
}
