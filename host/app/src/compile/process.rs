//! Compiles in a child process, which has limits on time and memory.
//!
//! The child is the same program, executed with a hidden subcommand. One child compiles all
//! components of an app, one after the other, skeletons included, and ends before the first guest
//! starts. Its answer is the output of `Engine::precompile_component`.
//!
//! # Limits
//!
//! The child sets `RLIMIT_CPU` and `RLIMIT_DATA` for each component. The parent kills it after ten
//! times the processor time plus a minute. If the child dies, the error names the limit that it
//! reached, or quotes the first line that it wrote. The child can work on one thread. If no child
//! can be started, the app does not start. Without `/proc`, the child is started by the name by
//! which the program was started.
//!
//! # Trust
//!
//! The child is no sandbox: it has the program's own rights, and trusts the compiler as the parent
//! would. The parent executes the code that it returns. So it takes an answer only over a pipe,
//! from a process that it started from its own executable. The answer must repeat the request's
//! random number. Safe code of an embedder cannot forge one.

use std::ffi::OsString;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Signal;

use super::limits::{CompileLimits, MEMORY, TIME, TooLarge};
use super::protocol::{ANSWER, COMPILED, CompileRequest, NO_MEMORY, Task};
use super::{EngineSettings, child};
use tombolo::internal::sys::Compiled;

/// The child's wall-clock time, as a multiple of its processor time. [`BUSY`] is added to it.
const SLOWER: u32 = 10;
const BUSY: Duration = Duration::from_secs(60);

/// The most bytes of the child's stderr that are read.
const STDERR_BYTES: u64 = 64 << 10;

/// A process that compiles the components of an app. It enforces the limits
/// [`time`](CompileLimits::time) and [`memory_bytes`](CompileLimits::memory_bytes).
///
/// The program executes itself once more, and the child must call
/// [`serve`](CompilerProcess::serve). The child ends after the last component, before any guest
/// starts.
///
/// ```no_run
/// use tombolo_app::{App, CompilerProcess};
///
/// # use std::process::ExitCode;
/// fn main() -> ExitCode {
///     if std::env::args().nth(1).as_deref() == Some("compile-components") {
///         return CompilerProcess::serve();
///     }
///     let compiler = CompilerProcess::this_program(["compile-components"]);
///     let app = App::builder().compiler(compiler);
///     // ...
/// #   drop(app);
/// #   ExitCode::SUCCESS
/// }
/// ```
#[derive(Clone, Debug)]
pub struct CompilerProcess {
    arguments: Vec<OsString>,
}

impl CompilerProcess {
    /// Creates the description of a process that runs this program with these arguments.
    pub fn this_program<A: Into<OsString>>(
        arguments: impl IntoIterator<Item = A>,
    ) -> CompilerProcess {
        CompilerProcess {
            arguments: arguments.into_iter().map(Into::into).collect(),
        }
    }

    /// Runs as the child: compiles components until the parent closes the pipe. Blocks
    /// until then.
    ///
    /// The child must not read anything else from its standard input, or write anything else to
    /// its standard output.
    #[must_use]
    pub fn serve() -> ExitCode {
        child::serve()
    }

    /// Starts the process.
    fn start(&self) -> io::Result<Running> {
        let mut child = Command::new(program()?)
            .args(&self.arguments)
            // Only the first line that it writes is shown.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (stdin, stdout, stderr) =
            match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
                (Some(stdin), Some(stdout), Some(stderr)) => (stdin, stdout, stderr),
                _ => return Err(io::Error::other("the child has no pipes")),
            };
        let running = Running {
            child,
            stdin,
            stdout,
            stderr,
        };
        for end in [
            running.stdin.as_fd(),
            running.stdout.as_fd(),
            running.stderr.as_fd(),
        ] {
            fcntl_setfl(end, fcntl_getfl(end)? | OFlags::NONBLOCK)?;
        }
        Ok(running)
    }
}

/// Returns a path of this program. The one in `/proc` is the same file even if another file has
/// taken its name. The other one is used if `/proc` is not mounted.
fn program() -> io::Result<PathBuf> {
    let own = PathBuf::from("/proc/self/exe");
    if own.exists() {
        return Ok(own);
    }
    use std::os::unix::ffi::OsStrExt as _;
    let name = rustix::param::linux_execfn();
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(name.to_bytes()));
    match path.is_absolute() {
        true => Ok(path),
        // It is relative to the directory in which the program was started. A name without a
        // slash would be looked up in `PATH`.
        false => Ok(PathBuf::from(".").join(path)),
    }
}

/// A process that is started when it is needed.
#[derive(Debug)]
pub(super) struct Worker {
    process: CompilerProcess,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has nothing to clean up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The reason why there is no answer.
enum NoAnswer {
    /// The child ended.
    Ended,
    /// The child took too long.
    Late,
    /// The pipe failed.
    Broken(io::Error),
}

impl Worker {
    pub(super) fn new(process: CompilerProcess) -> Worker {
        Worker {
            process,
            running: None,
        }
    }

    /// Makes the child carry out a task with a component.
    ///
    /// # Errors
    ///
    /// The component is invalid, no child can be started, or the child reached a limit
    /// ([`TooLarge`]).
    pub(super) fn compile(
        &mut self,
        task: Task,
        settings: EngineSettings,
        wasm: &[u8],
        limits: &CompileLimits,
    ) -> wasmtime::Result<Compiled> {
        let length = wasm.len() as u64;
        let request = CompileRequest {
            task,
            settings,
            nonce: RandomState::new().build_hasher().finish(),
            seconds: limits.seconds(length),
            memory: limits.memory(length),
            length,
        };
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.process.start().map_err(|error| {
                let advice = match error.kind() {
                    ErrorKind::WouldBlock => {
                        "; raise RLIMIT_NPROC (`ulimit -u`) or the cgroup's `pids.max`"
                    }
                    _ => "",
                };
                let text = format!("cannot start the compiler process{advice}");
                wasmtime::Error::new(error).context(text)
            })?,
        };
        let wall = Duration::from_secs(request.seconds).saturating_mul(SLOWER) + BUSY;
        let now = Instant::now();
        // Centuries are as good as no limit.
        let end = now.checked_add(wall).unwrap_or(now + BUSY * 100_000);
        match running.ask(&request, wasm, end) {
            Ok((kind, bytes)) => {
                self.running = Some(running);
                match kind {
                    COMPILED => Ok(Compiled::of_answer(bytes)),
                    NO_MEMORY => Err(out_of_memory(&request)),
                    _ => Err(wasmtime::Error::msg(
                        String::from_utf8_lossy(&bytes).into_owned(),
                    )),
                }
            }
            Err(NoAnswer::Late) => Err(out_of_time(&request)),
            Err(NoAnswer::Broken(error)) => {
                Err(wasmtime::Error::new(error)
                    .context("cannot communicate with the compiler process"))
            }
            Err(NoAnswer::Ended) => Err(running.reason(&request)),
        }
    }
}

fn out_of_time(request: &CompileRequest) -> wasmtime::Error {
    let most = request.seconds;
    wasmtime::Error::new(TooLarge {
        limit: TIME,
        what: "compiling took too much processor time".to_owned(),
        most,
    })
}

fn out_of_memory(request: &CompileRequest) -> wasmtime::Error {
    let most = request.memory;
    wasmtime::Error::new(TooLarge {
        limit: MEMORY,
        what: "compiling took too much memory".to_owned(),
        most,
    })
}

impl Running {
    /// Sends a request. Returns the kind of the answer, and its bytes.
    fn ask(
        &mut self,
        request: &CompileRequest,
        wasm: &[u8],
        end: Instant,
    ) -> Result<(u8, Vec<u8>), NoAnswer> {
        self.write(&request.to_bytes(), end)?;
        self.write(wasm, end)?;
        let mut start = Vec::new();
        self.read(&mut start, ANSWER, end)?;
        let number = |at: usize| {
            let bytes = start[at..at + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        };
        let other = || NoAnswer::Broken(io::Error::other("the answer belongs to another request"));
        if number(1) != request.nonce {
            return Err(other());
        }
        let length = usize::try_from(number(9)).map_err(|_| other())?;
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(length)
            .map_err(|error| NoAnswer::Broken(error.into()))?;
        self.read(&mut bytes, length, end)?;
        Ok((start[0], bytes))
    }

    fn write(&mut self, mut bytes: &[u8], end: Instant) -> Result<(), NoAnswer> {
        while !bytes.is_empty() {
            match self.stdin.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) => again(error, self.stdin.as_fd(), PollFlags::OUT, end)?,
            }
        }
        Ok(())
    }

    /// Reads until `bytes` has this length.
    fn read(&mut self, bytes: &mut Vec<u8>, length: usize, end: Instant) -> Result<(), NoAnswer> {
        while bytes.len() < length {
            let more = (length - bytes.len()) as u64;
            match (&mut self.stdout).take(more).read_to_end(bytes) {
                Ok(_) if bytes.len() < length => return Err(NoAnswer::Ended),
                Ok(_) => {}
                // `bytes` has what was read before the error.
                Err(error) => again(error, self.stdout.as_fd(), PollFlags::IN, end)?,
            }
        }
        Ok(())
    }

    /// Returns why the child has ended, as an error.
    fn reason(mut self, request: &CompileRequest) -> wasmtime::Error {
        let _ = self.child.kill();
        let mut words = Vec::new();
        // Only the child had the other end, so this ends.
        let _ = (&mut self.stderr)
            .take(STDERR_BYTES)
            .read_to_end(&mut words);
        let words = String::from_utf8_lossy(&words);
        let status = match self.child.wait() {
            Ok(status) => status,
            Err(error) => return wasmtime::Error::new(error),
        };
        if status.signal() == Some(Signal::XCPU.as_raw()) {
            return out_of_time(request);
        }
        // The standard library's message before it aborts.
        if words.contains("memory allocation of") {
            return out_of_memory(request);
        }
        let words = words.lines().find(|line| !line.trim().is_empty());
        wasmtime::Error::msg(format!(
            "the compiler process ended unexpectedly ({status}): {}",
            words.unwrap_or("it wrote no message")
        ))
    }
}

/// Waits until a pipe is ready, if the error only says that it is not.
fn again(
    error: io::Error,
    pipe: BorrowedFd<'_>,
    what: PollFlags,
    end: Instant,
) -> Result<(), NoAnswer> {
    match error.kind() {
        ErrorKind::Interrupted => return Ok(()),
        ErrorKind::BrokenPipe => return Err(NoAnswer::Ended),
        ErrorKind::WouldBlock => {}
        _ => return Err(NoAnswer::Broken(error)),
    }
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(NoAnswer::Late);
    }
    let left = Timespec::try_from(left).ok();
    match poll(&mut [PollFd::from_borrowed_fd(pipe, what)], left.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(NoAnswer::Broken(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    const SETTINGS: EngineSettings = EngineSettings {
        optimize: false,
        concurrency: false,
    };

    #[track_caller]
    fn error(arguments: &[&str]) -> String {
        let process = CompilerProcess::this_program(arguments.iter().copied());
        let compiled =
            Worker::new(process).compile(Task::Code, SETTINGS, EMPTY, &CompileLimits::default());
        format!("{:#}", compiled.expect_err("that process does not compile"))
    }

    // rule 9
    #[test]
    fn output_of_another_program_is_refused() {
        // The process is this test program, which lists its tests.
        let error = error(&["--list"]);
        assert!(
            error.contains("the answer belongs to another request")
                || error.contains("ended unexpectedly"),
            "{error}"
        );
    }

    // rule 9
    #[test]
    fn error_quotes_stderr_of_the_dead_child() {
        let error = error(&["--no-such-option"]);
        assert!(
            error.contains("ended unexpectedly (exit status: "),
            "{error}"
        );
        assert!(error.contains("no-such-option"), "{error}");
    }

    #[test]
    fn request_is_read_as_written() {
        for task in [Task::Types, Task::Check, Task::Code] {
            let request = CompileRequest {
                task,
                settings: EngineSettings {
                    optimize: task == Task::Code,
                    concurrency: task != Task::Types,
                },
                nonce: u64::MAX,
                seconds: 2,
                memory: 3,
                length: 1 << 40,
            };
            assert_eq!(
                CompileRequest::from_bytes(&request.to_bytes()),
                Some(request)
            );
        }
        assert_eq!(
            CompileRequest::from_bytes(&[9; CompileRequest::BYTES]),
            None
        );
    }
}
