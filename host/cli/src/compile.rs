//! Options for compiling components, and the compiler's process.

use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use tombolo_app::{AppBuilder, CompileLimits, CompilerProcess};

/// The subcommand that serves as the compiler's process.
pub(super) const COMMAND: &str = "compile-components";

/// The options of all commands that read components.
#[derive(Debug, Default, Args)]
pub(super) struct Compile {
    /// Set a limit of what each component may cost the compiler, for example to
    /// raise it for a trusted component.
    ///
    /// Counts: `nesting`, `component-instances`, `core-instances`, `definitions`,
    /// `types`, `imports`, `exports`, `core-names`, `functions`, `locals`,
    /// `function-values`. Sizes, as in `64MiB`: `component-bytes`,
    /// `function-bytes`, `compile-memory`. Time, as in `20s`: `compile-time`.
    #[arg(long = "compile-limit", value_name = "KEY=VALUE")]
    compile_limits: Vec<CompileLimit>,
}

impl Compile {
    fn compile_limits(&self) -> CompileLimits {
        let mut limits = CompileLimits::default();
        for CompileLimit(set) in &self.compile_limits {
            set.apply(&mut limits);
        }
        limits
    }

    /// Returns the largest size of a component's file.
    pub(super) fn max_component_bytes(&self) -> u64 {
        self.compile_limits().component_bytes
    }

    /// Makes the app compile its components within the limits, in a process of its own.
    pub(super) fn apply(&self, builder: AppBuilder) -> AppBuilder {
        builder
            .compile_limits(self.compile_limits())
            .compiler(CompilerProcess::this_program([COMMAND]))
    }
}

/// The field of a limit, by the kind of its value.
#[derive(Clone, Copy)]
enum CompileLimitField {
    Depth(fn(&mut CompileLimits) -> &mut u32),
    Count(fn(&mut CompileLimits) -> &mut u64),
    Bytes(fn(&mut CompileLimits) -> &mut u64),
    Memory(fn(&mut CompileLimits) -> &mut Option<u64>),
    Time(fn(&mut CompileLimits) -> &mut Option<Duration>),
}

static KEYS: [(&str, CompileLimitField); 15] = [
    (
        "component-bytes",
        CompileLimitField::Bytes(|limits| &mut limits.component_bytes),
    ),
    (
        "nesting",
        CompileLimitField::Depth(|limits| &mut limits.nesting),
    ),
    (
        "component-instances",
        CompileLimitField::Count(|limits| &mut limits.component_instances),
    ),
    (
        "core-instances",
        CompileLimitField::Count(|limits| &mut limits.core_instances),
    ),
    (
        "definitions",
        CompileLimitField::Count(|limits| &mut limits.definitions),
    ),
    (
        "types",
        CompileLimitField::Count(|limits| &mut limits.types),
    ),
    (
        "imports",
        CompileLimitField::Count(|limits| &mut limits.imports),
    ),
    (
        "exports",
        CompileLimitField::Count(|limits| &mut limits.exports),
    ),
    (
        "core-names",
        CompileLimitField::Count(|limits| &mut limits.core_names),
    ),
    (
        "functions",
        CompileLimitField::Count(|limits| &mut limits.functions),
    ),
    (
        "function-bytes",
        CompileLimitField::Bytes(|limits| &mut limits.function_bytes),
    ),
    (
        "locals",
        CompileLimitField::Count(|limits| &mut limits.locals),
    ),
    (
        "function-values",
        CompileLimitField::Count(|limits| &mut limits.function_values),
    ),
    (
        "compile-time",
        CompileLimitField::Time(|limits| &mut limits.time),
    ),
    (
        "compile-memory",
        CompileLimitField::Memory(|limits| &mut limits.memory_bytes),
    ),
];

/// The field of a limit and its new value.
#[derive(Clone, Copy)]
enum Set {
    Depth(fn(&mut CompileLimits) -> &mut u32, u32),
    Count(fn(&mut CompileLimits) -> &mut u64, u64),
    Memory(fn(&mut CompileLimits) -> &mut Option<u64>, u64),
    Time(fn(&mut CompileLimits) -> &mut Option<Duration>, Duration),
}

impl Set {
    fn apply(self, limits: &mut CompileLimits) {
        match self {
            Set::Depth(field, value) => *field(limits) = value,
            Set::Count(field, value) => *field(limits) = value,
            Set::Memory(field, value) => *field(limits) = Some(value),
            Set::Time(field, value) => *field(limits) = Some(value),
        }
    }
}

/// One limit and its value, as in `core-instances=5000`.
#[derive(Clone, Copy)]
struct CompileLimit(Set);

impl std::fmt::Debug for CompileLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CompileLimit")
    }
}

impl FromStr for CompileLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("write a limit as `core-instances=5000`; {}", keys()))?;
        let (_, field) = KEYS
            .iter()
            .find(|(key, _)| *key == name)
            .ok_or_else(|| format!("there is no compile limit `{name}`; {}", keys()))?;
        let size = || {
            value
                .parse::<ByteSize>()
                .map(|size| size.as_u64())
                .map_err(|_| format!("`{name}` must be a size, for example `64MiB`"))
        };
        let set = match *field {
            CompileLimitField::Depth(field) => value
                .parse()
                .ok()
                .filter(|depth| *depth <= 100)
                .map(|depth| Set::Depth(field, depth))
                .ok_or_else(|| format!("`{name}` must be a number of at most 100"))?,
            CompileLimitField::Count(field) => value
                .parse()
                .map(|number| Set::Count(field, number))
                .map_err(|_| format!("`{name}` must be a number"))?,
            CompileLimitField::Bytes(field) => Set::Count(field, size()?),
            CompileLimitField::Memory(field) => Set::Memory(field, size()?),
            CompileLimitField::Time(field) => humantime::parse_duration(value)
                .map(|time| Set::Time(field, time))
                .map_err(|_| format!("`{name}` must be a time, for example `20s`"))?,
        };
        Ok(CompileLimit(set))
    }
}

fn keys() -> String {
    let names: Vec<String> = KEYS.iter().map(|(name, _)| format!("`{name}`")).collect();
    format!("the limits are {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_compile_limit_can_be_set() {
        let mut limits = CompileLimits::default();
        let texts = [
            "component-bytes=1MiB",
            "nesting=2",
            "component-instances=3",
            "core-instances=4",
            "definitions=5",
            "types=6",
            "imports=7",
            "exports=8",
            "core-names=9",
            "functions=10",
            "function-bytes=11",
            "locals=12",
            "function-values=13",
            "compile-time=14s",
            "compile-memory=15KiB",
        ];
        assert_eq!(texts.len(), KEYS.len());
        for text in texts {
            let CompileLimit(set) = text.parse().unwrap();
            set.apply(&mut limits);
        }
        let expected = {
            let mut it = CompileLimits::default();
            it.component_bytes = 1 << 20;
            it.nesting = 2;
            it.component_instances = 3;
            it.core_instances = 4;
            it.definitions = 5;
            it.types = 6;
            it.imports = 7;
            it.exports = 8;
            it.core_names = 9;
            it.functions = 10;
            it.function_bytes = 11;
            it.locals = 12;
            it.function_values = 13;
            it.time = Some(Duration::from_secs(14));
            it.memory_bytes = Some(15 << 10);
            it
        };
        assert_eq!(limits, expected);
    }

    #[test]
    fn bad_compile_limits_name_the_valid_form() {
        for (text, hint) in [
            ("locals", "as `core-instances=5000`"),
            (
                "windows=3",
                "there is no compile limit `windows`; the limits are `component-bytes`",
            ),
            ("locals=-1", "`locals` must be a number"),
            ("nesting=101", "at most 100"),
            ("compile-time=5", "for example `20s`"),
            ("compile-memory=lots", "for example `64MiB`"),
        ] {
            let error = text.parse::<CompileLimit>().unwrap_err();
            assert!(error.contains(hint), "{error}");
        }
    }
}
