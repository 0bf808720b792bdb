//! Where in a manifest it is that an app cannot start.

use super::Guest;
use super::app::Described;
use super::problem::Problem;
use tombolo_app::{Findings, LinkError, LinkWarning, NearestExport, StartError};
use tombolo_region::escape;

impl Described {
    /// Adds what was found in the app, at the lines of the guests concerned.
    pub(crate) fn add_findings(&mut self, findings: &Findings) {
        let mut problems: Vec<Problem> = findings
            .errors
            .iter()
            .flat_map(|error| self.place(error))
            .collect();
        problems.extend(
            findings
                .warnings
                .iter()
                .map(|warning| self.warning(warning)),
        );
        self.add(problems);
    }

    /// Says why the app does not start.
    pub(crate) fn place(&self, error: &StartError) -> Vec<Problem> {
        let hinted = |problem: Problem| error.hints().into_iter().fold(problem, Problem::hint);
        let problem = match error {
            StartError::Several(errors) => {
                return errors.iter().flat_map(|error| self.place(error)).collect();
            }
            StartError::Link(errors) => {
                let errors = errors.errors().iter();
                return errors.filter_map(|error| self.link(error)).collect();
            }
            // It may be what was not read.
            StartError::NoCommand { .. } if !self.is_whole() => return Vec::new(),
            StartError::Compile { guest, .. }
            | StartError::Grant { guest, .. }
            | StartError::Instantiate { guest, .. } => {
                let problem = self.at(Problem::new(error.to_string()), guest, "this one");
                error.causes().into_iter().fold(problem, Problem::note)
            }
            StartError::Run { guest, .. } => {
                self.at(Problem::new(error.to_string()), guest, "this one")
            }
            StartError::MessageBytes { channel, .. } | StartError::Queue { channel, .. } => {
                let mut channels = self.manifest.channels.iter();
                let problem = Problem::new(error.to_string());
                match channels.find(|it| it.name.value == *channel) {
                    Some(channel) => problem.at(channel.name.span.clone(), "this one"),
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

    /// Says why a guest cannot be linked; nothing, if that may be because of
    /// another's component, which was not read.
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
                "nobody serves this one",
                format!(
                    "add a guest that exports `{}`, and name it in `calls` of `{}`",
                    escape(import),
                    escape(guest)
                ),
            ),
            LinkError::Forbidden { exporters, .. } => {
                calls.push(&exporters[0]);
                ("may not call it", format!("write `calls = {calls:?}`"))
            }
            LinkError::Ambiguous { .. } => (
                "which of them?",
                "name only one of them in `calls`".to_owned(),
            ),
            _ => ("this one", error.hint()),
        };
        let problem = self.at(Problem::new(error.to_string()), error.guest(), label);
        Some(problem.hint(hint))
    }

    fn warning(&self, warning: &LinkWarning) -> Problem {
        let problem = Problem::new(warning.to_string()).warning();
        self.at(problem, &warning.importer, "the one that calls")
    }

    /// Puts it where the guest's component is named.
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

    fn guest(&self, name: &str) -> Option<&Guest> {
        let mut guests = self.manifest.guests.iter();
        guests.find(|guest| guest.name.value == name)
    }
}
