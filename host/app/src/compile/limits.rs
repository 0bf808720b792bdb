//! Limits on components, checked before anything is compiled, and the errors.

use std::time::Duration;

use wasmparser::BinaryReaderError;

const MIB: u64 = 1 << 20;

/// The limits that only a compiler process can enforce.
pub(super) const TIME: &str = "compile-time";
pub(super) const MEMORY: &str = "compile-memory";

/// Limits on what a component may cost the compiler.
///
/// Each component is measured before it is compiled, in time proportional to its size. A
/// component over a limit is refused with an error that names the limit. The defaults allow the
/// largest components that toolchains produce today, such as language runtimes of tens of
/// megabytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompileLimits {
    /// `component-bytes`: the size of the component, in bytes. Default 128 MiB.
    pub component_bytes: u64,
    /// `nesting`: the depth of components within components, of types within types, and of
    /// instances within instances that export them. A component that instantiates another is
    /// one level deeper. Default 32, at most 100.
    pub nesting: u32,
    /// `component-instances`: instances of components, multiplied out. A component that is
    /// instantiated twice, and instantiates another twice, makes six. Default 1000.
    pub component_instances: u64,
    /// `core-instances`: instances of core modules, multiplied out. Default 1000.
    pub core_instances: u64,
    /// `definitions`: imports, exports, aliases, instances and functions of components,
    /// multiplied out. Default 500,000.
    pub definitions: u64,
    /// `types`: types in all components and core modules. Default 100,000.
    pub types: u64,
    /// `imports`: imports of the component itself. Default 1000.
    pub imports: u64,
    /// `exports`: exports of the component itself. Default 1000.
    pub exports: u64,
    /// `core-names`: imports and exports of all core modules together. Default 20,000.
    pub core_names: u64,
    /// `functions`: functions in all core modules together. Default 200,000.
    pub functions: u64,
    /// `function-bytes`: the size of one function, in bytes. Default 1 MiB.
    pub function_bytes: u64,
    /// `locals`: parameters and locals of one function. Default 20,000.
    pub locals: u64,
    /// `function-values`: values that one function passes from block to block. Each local that
    /// lives longer than a block counts once for each block, loop and `if`. All values that
    /// branches and calls carry count too. Default 500,000.
    pub function_values: u64,
    /// `compile-time`: the compiler's processor time for one component, on all processors
    /// together, in whole seconds. By default 5 seconds, plus 20 for each MiB of the component.
    /// Enforced only in a [`CompilerProcess`](super::CompilerProcess).
    pub time: Option<Duration>,
    /// `compile-memory`: the compiler's memory for one component, in bytes. By default 384 MiB,
    /// plus 128 times the size of the component. Enforced only in a
    /// [`CompilerProcess`](super::CompilerProcess).
    pub memory_bytes: Option<u64>,
}

impl Default for CompileLimits {
    fn default() -> CompileLimits {
        CompileLimits {
            component_bytes: 128 * MIB,
            nesting: 32,
            component_instances: 1000,
            core_instances: 1000,
            definitions: 500_000,
            types: 100_000,
            imports: 1000,
            exports: 1000,
            core_names: 20_000,
            functions: 200_000,
            function_bytes: MIB,
            locals: 20_000,
            function_values: 500_000,
            time: None,
            memory_bytes: None,
        }
    }
}

impl CompileLimits {
    /// Returns the limit `nesting`, at most 100, because the compiler reads nested types
    /// recursively.
    pub(crate) fn depth(&self) -> u64 {
        self.nesting.min(100).into()
    }

    /// Returns the processor time for a component of this size, in seconds.
    pub(crate) fn seconds(&self, bytes: u64) -> u64 {
        match self.time {
            Some(time) => time.as_secs() + u64::from(time.subsec_nanos() > 0),
            None => 5 + (20 * bytes).div_ceil(MIB),
        }
    }

    /// Returns the memory for a component of this size, in bytes.
    pub(crate) fn memory(&self, bytes: u64) -> u64 {
        self.memory_bytes
            .unwrap_or_else(|| (384 * MIB).saturating_add(bytes.saturating_mul(128)))
    }
}

/// The error that a component is over a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}, over the limit `{limit}` of {most}{}", self.unit())]
pub(crate) struct TooLarge {
    /// The name of the limit.
    pub(crate) limit: &'static str,
    /// A clause with the number, as far as it was counted.
    pub(crate) what: String,
    /// The value of the limit.
    pub(crate) most: u64,
}

impl TooLarge {
    fn unit(&self) -> &'static str {
        match self.limit {
            TIME => " s",
            MEMORY | "component-bytes" | "function-bytes" => " bytes",
            _ => "",
        }
    }
}

/// The reason why a component is not compiled.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum MeasureError {
    /// The component is over a limit.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The component cannot be read.
    #[error(transparent)]
    Malformed(#[from] BinaryReaderError),
    /// The component refers to a missing item.
    #[error("the component refers to {0} that does not exist")]
    Dangling(&'static str),
}

impl MeasureError {
    /// Returns the error as one of wasmtime.
    pub(crate) fn into_error(self) -> wasmtime::Error {
        match self {
            // The hint of the error that is shown looks for this type.
            MeasureError::TooLarge(error) => wasmtime::Error::new(error),
            other => wasmtime::Error::new(other),
        }
    }
}

/// Returns an error if `number` is over the limit. `what` describes it.
pub(super) fn at_most(
    limit: &'static str,
    most: u64,
    number: u64,
    what: impl FnOnce() -> String,
) -> Result<(), MeasureError> {
    match number > most {
        true => Err(TooLarge {
            limit,
            what: what(),
            most,
        }
        .into()),
        false => Ok(()),
    }
}

/// Returns an error if `depth` is over the limit `nesting`. `what` says what nests.
pub(super) fn check_depth(
    what: &str,
    depth: u64,
    limits: &CompileLimits,
) -> Result<(), MeasureError> {
    at_most("nesting", limits.depth(), depth, || {
        format!("{what} {depth} deep or deeper")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_memory_grow_with_the_component() {
        let limits = CompileLimits::default();
        assert_eq!(limits.seconds(0), 5);
        assert_eq!(limits.seconds(200 << 10), 9);
        assert_eq!(limits.seconds(10 * MIB), 205);
        assert_eq!(limits.memory(MIB), 512 * MIB);
    }

    #[test]
    fn explicit_time_is_rounded_up_to_seconds() {
        let limits = CompileLimits {
            time: Some(Duration::from_millis(1500)),
            memory_bytes: Some(MIB),
            ..CompileLimits::default()
        };
        assert_eq!(limits.seconds(10 * MIB), 2);
        assert_eq!(limits.memory(10 * MIB), MIB);
    }
}
