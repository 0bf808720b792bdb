//! Checking an app: errors that keep it from starting are found without starting it.
//!
//! | file | contents |
//! |---|---|
//! | `description` | errors in the description of the app |
//! | `examine` | errors in the components, and in the links between them |
//! | `programs` | guests that are the same program |
//! | `error` | what users are shown |

mod description;
mod error;
mod examine;
mod programs;

#[cfg(test)]
mod tests;

use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

pub use self::error::{NamedBy, StartError};
use self::programs::Programs;
use super::async_interfaces;
use super::builder::{AppBuilder, Concurrency};
use super::compile::{Compiler, EngineSettings, SharedCode};
use super::instance_size::InstanceSize;
use super::interfaces;
use super::link::{self, Interfaces, LinkErrors, LinkPlan, LinkWarning};
use super::state::GuestState;
use super::wasi;
use tombolo_exchange::GuestId;

/// The findings of [`AppBuilder::check`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Findings {
    /// All that keeps the app from starting, as far as that shows without
    /// starting it.
    pub errors: Vec<StartError>,
    /// Problems that do not keep the app from starting.
    pub warnings: Vec<LinkWarning>,
    /// The imports and exports of the guests, and which guest serves which import. Guests that
    /// do not compile are missing.
    pub guests: Vec<Interfaces>,
}

/// An app that is ready to be instantiated.
pub(super) struct Prepared {
    pub(super) engine: Engine,
    pub(super) linker: Linker<GuestState>,
    pub(super) components: Vec<Component>,
    /// The host memory of the instances of each.
    pub(super) sizes: Vec<InstanceSize>,
    pub(super) plan: LinkPlan,
    /// The commands and the names of their exports; at least one.
    pub(super) commands: Vec<(GuestId, String)>,
}

/// The engine and linker with which guests are checked.
struct Tools {
    settings: EngineSettings,
    engine: Engine,
    linker: Linker<GuestState>,
}

impl AppBuilder {
    /// Measures the guests, reads their types and plans their links. Finds all errors that
    /// would keep the app from starting, without starting anything. The guests' code is
    /// validated, but not compiled.
    ///
    /// Blocks for a time in proportion to the size of the components.
    #[must_use]
    pub fn check(&self) -> Findings {
        let mut findings = Findings::default();
        let programs = Programs::of(&self.guests, &self.compile_limits);
        let settings = self.settings(&programs, false);
        match self.tools(settings, None, &mut findings) {
            Ok(tools) => {
                let mut compiler = self.compiler_for(&tools);
                self.examine(&tools, &programs, &mut compiler, true, &mut findings);
            }
            Err(error) => findings.errors.push(error),
        }
        findings
    }

    /// Prepares everything, or returns all errors. Nothing is compiled before all links
    /// have been checked.
    pub(super) fn prepare(&self) -> Result<Prepared, StartError> {
        let mut findings = Findings::default();
        let programs = Programs::of(&self.guests, &self.compile_limits);
        let settings = self.settings(&programs, true);
        let tools = self.tools(settings, self.shared_code.as_ref(), &mut findings)?;
        let mut compiler = self.compiler_for(&tools);
        if let Some(shared) = &self.shared_code {
            compiler.share(shared);
        }
        let sizes = self.examine(&tools, &programs, &mut compiler, false, &mut findings);
        let sizes = match (sizes, findings.errors.len()) {
            (Some(sizes), 0) => sizes,
            (_, 1) => return Err(findings.errors.remove(0)),
            _ => return Err(StartError::Several(findings.errors)),
        };

        let components = self.compile(&programs, &mut compiler)?;
        drop(compiler);
        let Tools { engine, linker, .. } = tools;
        let parts = self.ids().map(|(guest, _)| guest).zip(&components);
        let parts = self.parts(parts);
        let examined = link::examine(&linker, &parts, &self.allowed());
        if let Some(errors) = LinkErrors::new(examined.errors) {
            return Err(StartError::Link(errors));
        }
        let commands = link::entries(&engine, &parts).into_iter();
        let commands = commands.map(|(part, export)| (part.id, export)).collect();
        Ok(Prepared {
            components,
            sizes,
            plan: examined.plan,
            engine,
            linker,
            commands,
        })
    }

    /// Compiles each program once. Returns the components of the guests, in their order.
    fn compile(
        &self,
        programs: &Programs<'_>,
        compiler: &mut Compiler<'_>,
    ) -> Result<Vec<Component>, StartError> {
        let mut code: Vec<Option<Component>> = vec![None; programs.wasm.len()];
        let mut components = Vec::new();
        for (guest, program) in self.guests.iter().zip(&programs.of_guest) {
            let component = match &code[*program] {
                Some(component) => component.clone(),
                None => {
                    let component = compiler.code(programs.wasm[*program]);
                    let component = component.map_err(|source| StartError::Compile {
                        guest: guest.name.clone(),
                        source,
                    })?;
                    code[*program].insert(component).clone()
                }
            };
            components.push(component);
        }
        Ok(components)
    }

    /// Returns the settings of the engine for these programs.
    fn settings(&self, programs: &Programs<'_>, optimize: bool) -> EngineSettings {
        EngineSettings {
            optimize,
            concurrency: match self.concurrency {
                Concurrency::Auto => programs.need_concurrency(),
                Concurrency::On => true,
            },
        }
    }

    fn compiler_for<'a>(&'a self, tools: &'a Tools) -> Compiler<'a> {
        Compiler::new(
            &tools.engine,
            tools.settings,
            &self.compile_limits,
            self.compiler.as_ref(),
        )
    }

    /// Makes an engine, and the linker with all that the host offers. Adds what is
    /// wrong with the description to `findings`.
    ///
    /// # Errors
    ///
    /// If the host itself is at fault, so that the guests cannot be checked.
    fn tools(
        &self,
        settings: EngineSettings,
        shared: Option<&SharedCode>,
        findings: &mut Findings,
    ) -> Result<Tools, StartError> {
        self.description_errors(&mut findings.errors);

        let mut config = settings.config();
        tombolo::prepare(&mut config)?;
        let engine = match shared {
            Some(shared) => shared.engine(settings, &config),
            None => Engine::new(&config),
        };
        let engine = engine.map_err(|error| StartError::Host(error.into()))?;
        let mut linker: Linker<GuestState> = Linker::new(&engine);
        let p3 = |linker: &mut _| match settings.concurrency {
            true => wasi::add_p3_to_linker(linker),
            false => Ok(()),
        };
        wasi::add_to_linker(&mut linker)
            .and_then(|()| p3(&mut linker))
            .and_then(|()| tombolo::add_to_linker(&mut linker))
            .and_then(|()| tombolo::add_pressure_to_linker(&mut linker))
            .and_then(|()| tombolo::add_waits_to_linker(&mut linker))
            .and_then(|()| interfaces::add_to_linker(&mut linker))
            .and_then(|()| async_interfaces::add_to_linker(&mut linker))
            .map_err(|error| StartError::Host(error.into()))?;
        Ok(Tools {
            settings,
            engine,
            linker,
        })
    }
}
