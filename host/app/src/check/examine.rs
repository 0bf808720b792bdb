//! Errors in the components of an app, and in the links between them.

use wasmtime::Engine;
use wasmtime::component::Component;

use super::error::StartError;
use super::programs::Programs;
use super::{Findings, Tools};
use crate::builder::AppBuilder;
use crate::compile::{Compiler, MeasureError};
use crate::instance_size::InstanceSize;
use crate::link::{self, Allowed, LinkError, LinkErrors, Part};
use crate::spec::GuestSpec;
use tombolo_exchange::GuestId;

/// A program as far as it is known: its component and size, or what is wrong with it.
type ReadProgram = Result<(Component, InstanceSize), String>;

impl AppBuilder {
    /// Adds to `findings` what there is, from the types of the guests. Returns what the
    /// instances of each take of the host's memory, if all of them could be read, and one
    /// is a command.
    pub(super) fn examine(
        &self,
        tools: &Tools,
        programs: &Programs<'_>,
        compiler: &mut Compiler<'_>,
        check: bool,
        findings: &mut Findings,
    ) -> Option<Vec<InstanceSize>> {
        let (read, sizes) = self.read(programs, compiler, check, &mut findings.errors);
        let whole = read.len() == self.guests.len();
        let parts = self.parts(read.iter().map(|(guest, component)| (*guest, component)));
        let mut examined = link::examine(&tools.linker, &parts, &self.allowed());
        if !whole {
            // It may be what does not compile that exports it.
            let missing = |error: &LinkError| matches!(error, LinkError::Missing { .. });
            examined.errors.retain(|error| !missing(error));
        }
        findings.warnings = examined.plan.warnings;
        findings.guests = examined.interfaces;
        if let Some(errors) = LinkErrors::new(examined.errors) {
            findings.errors.push(StartError::Link(errors));
        }
        let entries = link::entries(&tools.engine, &parts);
        command_errors(&tools.engine, &parts, &entries, whole, &mut findings.errors);
        (whole && !entries.is_empty()).then_some(sizes)
    }

    /// Reads the types of each program once. Returns the components of the guests that can be
    /// read, and the sizes of all guests.
    fn read(
        &self,
        programs: &Programs<'_>,
        compiler: &mut Compiler<'_>,
        check: bool,
        errors: &mut Vec<StartError>,
    ) -> (Vec<(GuestId, Component)>, Vec<InstanceSize>) {
        let mut read = Vec::new();
        let mut types: Vec<Option<ReadProgram>> = vec![None; programs.wasm.len()];
        let mut sizes = Vec::new();
        for ((id, guest), program) in self.ids().zip(&programs.of_guest) {
            let known = match &types[*program] {
                Some(Ok(known)) => Ok(known.clone()),
                Some(Err(text)) => Err(wasmtime::Error::msg(text.clone())),
                None => read_program(programs, *program, compiler, check),
            };
            types[*program].get_or_insert_with(|| match &known {
                Ok(known) => Ok(known.clone()),
                Err(error) => Err(format!("{error:#}")),
            });
            match known {
                Ok((component, size)) => {
                    self.host_memory_error(guest, size, errors);
                    read.push((id, component));
                    sizes.push(size);
                }
                Err(source) => {
                    errors.push(StartError::Compile {
                        guest: guest.name.clone(),
                        source,
                    });
                    sizes.push(InstanceSize::default());
                }
            }
        }
        (read, sizes)
    }

    /// Returns the guests with their ids.
    pub(super) fn ids(&self) -> impl Iterator<Item = (GuestId, &GuestSpec)> {
        let guests = self.guests.iter().enumerate();
        guests.map(|(index, guest)| (GuestId::new(index), guest))
    }

    /// Returns these guests with their components, to be linked.
    pub(super) fn parts<'a>(
        &'a self,
        components: impl Iterator<Item = (GuestId, &'a Component)>,
    ) -> Vec<Part<'a>> {
        let parts = components.map(|(id, component)| Part {
            id,
            name: &self.guests[id.index()].name,
            component,
        });
        parts.collect()
    }

    /// Finds a guest whose instances take more of the host's memory than its limit.
    fn host_memory_error(
        &self,
        guest: &GuestSpec,
        size: InstanceSize,
        errors: &mut Vec<StartError>,
    ) {
        let limits = guest.limits.as_ref().unwrap_or(&self.limits);
        if size.bytes > limits.host_memory_bytes {
            errors.push(StartError::HostMemory {
                guest: guest.name.clone(),
                bytes: size.bytes,
                most: limits.host_memory_bytes,
            });
        }
    }

    /// Returns which guests may call which others.
    pub(super) fn allowed(&self) -> Allowed {
        let named = |name: &str| -> Vec<GuestId> {
            let named = self.ids().filter(|(_, guest)| guest.name == name);
            named.map(|(id, _)| id).collect()
        };
        Allowed(self.may_call.as_ref().map(|calls| {
            let mut allowed = Vec::new();
            for call in calls {
                for from in named(&call.from) {
                    allowed.extend(named(&call.to).into_iter().map(|to| (from, to)));
                }
            }
            allowed
        }))
    }
}

/// Reads the types of a program.
fn read_program(
    programs: &Programs<'_>,
    program: usize,
    compiler: &mut Compiler<'_>,
    check: bool,
) -> wasmtime::Result<(Component, InstanceSize)> {
    let measured = programs.measured[program].clone();
    let measured = measured.map_err(MeasureError::into_error)?;
    let component = compiler.types(programs.wasm[program], check)?;
    Ok((component, InstanceSize::of(&measured.instance)))
}

/// Adds the errors that keep the commands from being run. If `whole`, all guests are known,
/// and it is an error that there is no command.
fn command_errors(
    engine: &Engine,
    parts: &[Part<'_>],
    entries: &[(Part<'_>, String)],
    whole: bool,
    errors: &mut Vec<StartError>,
) {
    if entries.is_empty() && whole {
        errors.push(StartError::NoCommand {
            near: link::near_entries(engine, parts),
        });
    }
    for (part, export) in entries {
        if let Some(found) = link::misfit(engine, part, export) {
            errors.push(StartError::Run {
                guest: part.name.to_owned(),
                export: export.clone(),
                found,
            });
        }
    }
}
