//! Limits of guests, by their names in options and manifests.

use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;

use tombolo::Limits;

/// A limit: its name and its field.
struct LimitKey {
    name: &'static str,
    field: LimitField,
}

/// The field of a limit, by the kind of its value.
#[derive(Clone, Copy)]
enum LimitField {
    Count(fn(&mut Limits) -> &mut u32),
    Bytes(fn(&mut Limits) -> &mut u64),
    Time(fn(&mut Limits) -> &mut Option<Duration>),
}

static KEYS: [LimitKey; 14] = [
    LimitKey {
        name: "regions",
        field: LimitField::Count(|limits| &mut limits.regions),
    },
    LimitKey {
        name: "claimed-bytes",
        field: LimitField::Bytes(|limits| &mut limits.claimed_bytes),
    },
    LimitKey {
        name: "region-bytes",
        field: LimitField::Bytes(|limits| &mut limits.region_bytes),
    },
    LimitKey {
        name: "handles",
        field: LimitField::Count(|limits| &mut limits.handles),
    },
    LimitKey {
        name: "windows",
        field: LimitField::Count(|limits| &mut limits.windows),
    },
    LimitKey {
        name: "memory",
        field: LimitField::Bytes(|limits| &mut limits.memory_bytes),
    },
    LimitKey {
        name: "descriptors",
        field: LimitField::Count(|limits| &mut limits.descriptors),
    },
    LimitKey {
        name: "tasks",
        field: LimitField::Count(|limits| &mut limits.tasks),
    },
    LimitKey {
        name: "call-time",
        field: LimitField::Time(|limits| &mut limits.call_time),
    },
    LimitKey {
        name: "run-time",
        field: LimitField::Time(|limits| &mut limits.run_time),
    },
    LimitKey {
        name: "vmas",
        field: LimitField::Count(|limits| &mut limits.vmas),
    },
    LimitKey {
        name: "copy-bytes",
        field: LimitField::Bytes(|limits| &mut limits.copy_bytes),
    },
    LimitKey {
        name: "unpinned-spans",
        field: LimitField::Count(|limits| &mut limits.unpinned_spans),
    },
    LimitKey {
        name: "host-memory",
        field: LimitField::Bytes(|limits| &mut limits.host_memory_bytes),
    },
];

/// One limit and its value, as in `claimed-bytes=1GiB`.
#[derive(Clone, Copy)]
pub(super) enum Limit {
    Count(fn(&mut Limits) -> &mut u32, u32),
    Bytes(fn(&mut Limits) -> &mut u64, u64),
    Time(fn(&mut Limits) -> &mut Option<Duration>, Option<Duration>),
}

impl Limit {
    /// Parses the value of a named limit.
    pub(super) fn new(name: &str, value: &str) -> Result<Self, String> {
        let key = KEYS
            .iter()
            .find(|key| key.name == name)
            .ok_or_else(|| format!("there is no limit `{name}`; {}", keys()))?;
        match key.field {
            LimitField::Count(field) => value
                .parse()
                .map(|value| Self::Count(field, value))
                .map_err(|_| format!("`{name}` must be a number of at most {}", u32::MAX)),
            LimitField::Bytes(field) => value
                .parse::<ByteSize>()
                .map(|value| Self::Bytes(field, value.as_u64()))
                .map_err(|_| format!("`{name}` must be a size, for example `64MiB`")),
            LimitField::Time(field) if value == "none" => Ok(Self::Time(field, None)),
            LimitField::Time(field) => humantime::parse_duration(value)
                .map(|value| Self::Time(field, Some(value)))
                .map_err(|_| format!("`{name}` must be a time, for example `500ms`, or `none`")),
        }
    }

    /// Sets the limit.
    pub(super) fn apply(self, limits: &mut Limits) {
        match self {
            Self::Count(field, value) => *field(limits) = value,
            Self::Bytes(field, value) => *field(limits) = value,
            Self::Time(field, value) => *field(limits) = value,
        }
    }
}

impl std::fmt::Debug for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(_, value) => value.fmt(f),
            Self::Bytes(_, value) => value.fmt(f),
            Self::Time(_, value) => value.fmt(f),
        }
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("write a limit as `windows=16`; {}", keys()))?;
        Self::new(name, value)
    }
}

fn keys() -> String {
    let names: Vec<String> = names().map(|name| format!("`{name}`")).collect();
    format!("the limits are {}", names.join(", "))
}

/// Returns the names of the limits.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(texts: &[&str]) -> Limits {
        let mut limits = Limits::default();
        for text in texts {
            text.parse::<Limit>().unwrap().apply(&mut limits);
        }
        limits
    }

    #[test]
    fn each_limit_can_be_set() {
        let limits = limits(&[
            "regions=1",
            "claimed-bytes=2GiB",
            "region-bytes=3MB",
            "handles=4",
            "windows=5",
            "memory=6 KiB",
            "descriptors=7",
            "call-time=800ms",
            "run-time=9m",
            "vmas=10",
            "copy-bytes=11",
            "unpinned-spans=12",
            "host-memory=13MiB",
            "tasks=14",
        ]);
        let expected = {
            let mut it = Limits::default();
            it.regions = 1;
            it.claimed_bytes = 2 << 30;
            it.region_bytes = 3_000_000;
            it.handles = 4;
            it.windows = 5;
            it.memory_bytes = 6 << 10;
            it.descriptors = 7;
            it.call_time = Some(Duration::from_millis(800));
            it.run_time = Some(Duration::from_secs(540));
            it.vmas = 10;
            it.copy_bytes = 11;
            it.unpinned_spans = 12;
            it.host_memory_bytes = 13 << 20;
            it.tasks = 14;
            it
        };
        assert_eq!(limits, expected);
    }

    #[test]
    fn times_can_be_none_and_the_last_value_counts() {
        assert_eq!(limits(&["call-time=none"]).call_time, None);
        assert_eq!(limits(&["windows=5", "windows=6"]).windows, 6);
    }

    #[test]
    fn unknown_limit_lists_the_limits() {
        let error = "window=5".parse::<Limit>().unwrap_err();
        assert!(error.starts_with("there is no limit `window`"), "{error}");
        for key in &KEYS {
            assert!(error.contains(key.name), "{error}");
        }
    }

    #[test]
    fn bad_values_name_the_valid_form() {
        for (text, hint) in [
            ("windows", "as `windows=16`"),
            ("windows=-1", "number"),
            ("windows=5000000000", "number"),
            ("memory=lots", "for example `64MiB`"),
            ("call-time=5", "for example `500ms`"),
        ] {
            let error = text.parse::<Limit>().unwrap_err();
            assert!(error.contains(hint), "{error}");
        }
    }
}
