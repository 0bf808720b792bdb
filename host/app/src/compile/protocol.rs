//! The messages between the parent and the compiler process.

use super::EngineSettings;

/// A task for the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Task {
    /// Compile a skeleton of the component, from which its types can be read.
    Types,
    /// Validate the code, and compile a skeleton.
    Check,
    /// Compile the component.
    Code,
}

/// A request. The component's bytes follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CompileRequest {
    pub(super) task: Task,
    /// The settings of the engine that is to run the code.
    pub(super) settings: EngineSettings,
    /// A random number, which the answer repeats.
    pub(super) nonce: u64,
    /// Seconds of processor time.
    pub(super) seconds: u64,
    /// Bytes of memory.
    pub(super) memory: u64,
    /// The size of the component, in bytes.
    pub(super) length: u64,
}

impl CompileRequest {
    pub(super) const BYTES: usize = 34;

    pub(super) fn to_bytes(self) -> [u8; CompileRequest::BYTES] {
        let mut bytes = [0; CompileRequest::BYTES];
        bytes[0] = match self.task {
            Task::Types => 0,
            Task::Check => 1,
            Task::Code => 2,
        };
        bytes[1] = u8::from(self.settings.optimize) | u8::from(self.settings.concurrency) << 1;
        let numbers = [self.nonce, self.seconds, self.memory, self.length];
        for (to, number) in bytes[2..].chunks_exact_mut(8).zip(numbers) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; CompileRequest::BYTES]) -> Option<CompileRequest> {
        let task = match bytes[0] {
            0 => Task::Types,
            1 => Task::Check,
            2 => Task::Code,
            _ => return None,
        };
        let mut numbers = bytes[2..].chunks_exact(8).map(|bytes| {
            let bytes = bytes.try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        });
        Some(CompileRequest {
            task,
            settings: EngineSettings {
                optimize: bytes[1] & 1 != 0,
                concurrency: bytes[1] & 2 != 0,
            },
            nonce: numbers.next()?,
            seconds: numbers.next()?,
            memory: numbers.next()?,
            length: numbers.next()?,
        })
    }
}

/// The kinds of answers.
pub(super) const COMPILED: u8 = 0;
pub(super) const INVALID: u8 = 1;
pub(super) const NO_MEMORY: u8 = 2;

/// The size of an answer's header: its kind, the nonce, and the number of bytes that follow.
pub(super) const ANSWER: usize = 17;
