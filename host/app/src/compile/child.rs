//! The compiler process.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use wasmtime::Engine;

use super::protocol::{ANSWER, COMPILED, CompileRequest, INVALID, NO_MEMORY, Task};
use super::{EngineSettings, check_code, skeleton};
use tombolo::internal::sys::{processor_seconds, signal};

/// Serves the parent until it closes the pipe.
pub(super) fn serve() -> ExitCode {
    let _ = limit(Resource::Core, 0);
    // SIGXCPU must end the process at its limit of processor time, even if an ancestor ignored
    // or blocked it.
    let _ = signal::restore_default(Signal::XCPU.as_raw());
    let _ = signal::unblock(&[Signal::XCPU.as_raw()]);
    // Without the parent, nobody needs the answer.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    match requests(io::stdin().lock(), io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // It fails if the parent is gone.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn requests(mut input: impl Read, mut output: impl Write) -> io::Result<()> {
    let mut engines = Engines::default();
    let mut start = [0; CompileRequest::BYTES];
    loop {
        match input.read_exact(&mut start) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let request = CompileRequest::from_bytes(&start)
            .ok_or_else(|| io::Error::other("the compiler process cannot be used by hand"))?;
        let engine = engines.get(request.settings).map_err(io::Error::other)?;
        limit(
            Resource::Cpu,
            processor_seconds().saturating_add(request.seconds),
        )?;
        limit(Resource::Data, request.memory)?;
        let length = usize::try_from(request.length).map_err(io::Error::other)?;
        let mut wasm = Vec::new();
        wasm.reserve_exact(length);
        (&mut input).take(request.length).read_to_end(&mut wasm)?;

        let (kind, bytes) = match compile(engine, request.task, &wasm) {
            Ok(bytes) => (COMPILED, bytes),
            Err(error) => {
                let text = format!("{error:#}");
                let kind = match text.contains("Cannot allocate memory") {
                    true => NO_MEMORY,
                    false => INVALID,
                };
                (kind, text.into_bytes())
            }
        };
        let mut start = [0; ANSWER];
        start[0] = kind;
        start[1..9].copy_from_slice(&request.nonce.to_le_bytes());
        start[9..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        output.write_all(&start)?;
        output.write_all(&bytes)?;
        output.flush()?;
    }
}

fn compile(engine: &Engine, task: Task, wasm: &[u8]) -> wasmtime::Result<Vec<u8>> {
    match task {
        Task::Code => engine.precompile_component(wasm),
        Task::Types => match skeleton(wasm) {
            Ok(bytes) => engine
                .precompile_component(&bytes)
                .map_err(|error| better(engine, wasm, error)),
            Err(error) => Err(wasmtime::Error::new(error)),
        },
        Task::Check => {
            check_code(engine, wasm)?;
            engine.precompile_component(&skeleton(wasm)?)
        }
    }
}

/// Returns the error for the component itself, because a skeleton has other offsets.
pub(super) fn better(engine: &Engine, wasm: &[u8], error: wasmtime::Error) -> wasmtime::Error {
    check_code(engine, wasm).err().unwrap_or(error)
}

/// Sets a soft limit, or the hard one if that is lower.
fn limit(resource: Resource, soft: u64) -> io::Result<()> {
    let maximum = getrlimit(resource).maximum;
    let current = maximum.map_or(soft, |maximum| soft.min(maximum));
    let limits = Rlimit {
        current: Some(current),
        maximum,
    };
    setrlimit(resource, limits).map_err(Into::into)
}

/// One engine for all requests with the same settings.
#[derive(Default)]
struct Engines(HashMap<EngineSettings, Engine>);

impl Engines {
    fn get(&mut self, settings: EngineSettings) -> wasmtime::Result<&Engine> {
        match self.0.entry(settings) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => {
                let mut config = settings.config();
                tombolo::internal::settle(&mut config);
                Ok(place.insert(Engine::new(&config)?))
            }
        }
    }
}
