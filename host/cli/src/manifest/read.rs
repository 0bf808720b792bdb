//! Reads the contents of a manifest.
//!
//! Values of a wrong shape are left out, because [`validate`](super::validate) reports them.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use toml_span::value::{Key, Table as Values, Value, ValueInner};

use super::problem::{Problem, TextSpan};
use super::{ChannelSection, DirSection, GuestSection, Manifest, ScopeSection, Spanned};
use crate::limit::Limit;
use crate::pressure::Pressure;
use tombolo::Rights;
use tombolo_app::{Backoff, ChannelSpec, Restart};

/// Reads the valid parts of a manifest, and adds problems in the relations between values.
pub(super) fn manifest(value: &Value<'_>, problems: &mut Vec<Problem>) -> Manifest {
    let mut read = Read { problems };
    let mut manifest = Manifest::default();
    let Some(values) = value.as_table() else {
        return manifest;
    };
    if let Some(app) = table(values, "app") {
        manifest.budget = read.size(app, "budget");
        manifest.margin = read.size(app, "margin");
        manifest.on_pressure = text(app, "on-pressure").and_then(|word| match &*word.value {
            "purge" => Some(Pressure::Purge),
            "dry-run" => Some(Pressure::DryRun),
            "kill" => Some(Pressure::Kill),
            _ => None,
        });
        manifest.oom_floor = number(app, "oom-floor").filter(|floor| *floor <= 1000);
        manifest.stop_timeout = read.time(app, "stop-timeout");
        manifest.limits = read.limits(app);
    }
    manifest.guests = named(values, "guests")
        .map(|(name, values)| read.guest(name, values))
        .collect();
    manifest.channels = named(values, "channels")
        .map(|(name, values)| ChannelSection {
            name,
            from: texts(values, "from"),
            to: text(values, "to"),
            capacity: number(values, "capacity")
                .unwrap_or(ChannelSpec::CAPACITY)
                .max(1),
            message_bytes: read
                .size(values, "message-bytes")
                .unwrap_or(ChannelSpec::MESSAGE_BYTES),
            message_regions: number(values, "message-regions")
                .unwrap_or(ChannelSpec::MESSAGE_REGIONS),
        })
        .collect();
    manifest.scopes = named(values, "scopes")
        .map(|(name, values)| ScopeSection {
            name,
            members: members(values),
        })
        .collect();
    manifest
}

struct Read<'a> {
    problems: &'a mut Vec<Problem>,
}

impl Read<'_> {
    fn guest(&mut self, name: Spanned<String>, values: &Values<'_>) -> GuestSection {
        let dirs: Vec<DirSection> = tables(values, "dirs")
            .filter_map(|dir| self.dir(dir))
            .collect();
        for (index, dir) in dirs.iter().enumerate() {
            let same = |other: &&DirSection| other.guest.value == dir.guest.value;
            if let Some(first) = dirs[..index].iter().find(same) {
                self.problems.push(
                    Problem::new(format!(
                        "two directories have the path `{}`",
                        dir.guest.value
                    ))
                    .at(dir.guest.span.clone(), "again here")
                    .also(first.guest.span.clone(), "first here")
                    .hint("`guest` sets the path at which the guest sees a directory"),
                );
            }
        }
        let env = table(values, "env").into_iter().flatten();
        GuestSection {
            component: text(values, "component").map(|path| path.map(PathBuf::from)),
            args: texts(values, "args")
                .into_iter()
                .map(|arg| arg.value)
                .collect(),
            env: env
                .filter_map(|(key, value)| Some((key.name.to_string(), value.as_str()?.to_owned())))
                .collect(),
            pass_env: texts(values, "pass-env"),
            dirs,
            limits: self.limits(values),
            oom_score: number(values, "oom-score").filter(|score| *score <= 1000),
            strand: text(values, "strand").map(|strand| strand.value),
            calls: texts(values, "calls"),
            restart: self.restart(values),
            name,
        }
    }

    fn dir(&mut self, values: &Values<'_>) -> Option<DirSection> {
        let host = text(values, "host")?;
        Some(DirSection {
            guest: text(values, "guest").unwrap_or_else(|| host.clone()),
            host: host.map(PathBuf::from),
            read_only: text(values, "access").is_none_or(|access| access.value != "write"),
        })
    }

    fn restart(&mut self, values: &Values<'_>) -> Restart {
        let on_failure = |policy: Option<Spanned<String>>| {
            policy.is_some_and(|policy| policy.value == "on-failure")
        };
        let Some(values) = table(values, "restart") else {
            return match on_failure(text(values, "restart")) {
                true => Restart::OnFailure(Backoff::default()),
                false => Restart::Never,
            };
        };
        let default = Backoff::default();
        let delay = self.time(values, "delay");
        let max_delay = self.time(values, "max-delay");
        let backoff = Backoff {
            delay: delay.unwrap_or(default.delay),
            max_delay: max_delay.unwrap_or(default.max_delay),
            max_restarts: number(values, "max-restarts").unwrap_or(default.max_restarts),
            healthy_after: self
                .time(values, "healthy-after")
                .unwrap_or(default.healthy_after),
        };
        if backoff.delay > backoff.max_delay
            && let Some((_, value)) = ["delay", "max-delay"]
                .iter()
                .find_map(|key| values.get_key_value(*key))
        {
            let most = humantime::format_duration(backoff.max_delay);
            self.problems.push(
                Problem::new(format!(
                    "`delay` is longer than `max-delay`, which is {most}"
                ))
                .at(value.span.into(), "longer than `max-delay`"),
            );
        }
        match on_failure(text(values, "policy")) {
            true => Restart::OnFailure(backoff),
            false => Restart::Never,
        }
    }

    /// Returns the valid limits in a table.
    fn limits(&mut self, values: &Values<'_>) -> Vec<Limit> {
        let mut limits = Vec::new();
        for (key, value) in table(values, "limits").into_iter().flatten() {
            let text = match value.as_ref() {
                ValueInner::String(text) => text.to_string(),
                ValueInner::Integer(number) => number.to_string(),
                _ => continue,
            };
            if let Ok(limit) = Limit::new(&key.name, &text) {
                limits.push(limit);
            }
        }
        limits
    }

    fn size(&mut self, values: &Values<'_>, key: &str) -> Option<u64> {
        match values.get(key)?.as_ref() {
            ValueInner::Integer(number) => u64::try_from(*number).ok(),
            ValueInner::String(text) => text.parse::<ByteSize>().ok().map(|size| size.as_u64()),
            _ => None,
        }
    }

    fn time(&mut self, values: &Values<'_>, key: &str) -> Option<Duration> {
        humantime::parse_duration(values.get(key)?.as_str()?).ok()
    }
}

/// Returns the members of a scope and their rights.
fn members(values: &Values<'_>) -> Vec<(Spanned<String>, Rights)> {
    let mut members: Vec<(Spanned<String>, Rights)> = Vec::new();
    for (name, value) in table(values, "members").into_iter().flatten() {
        let mut rights = Rights::NONE;
        for word in value.as_array().into_iter().flatten() {
            rights = rights
                | match word.as_str() {
                    Some("read") => Rights::READ,
                    Some("write") => Rights::WRITE,
                    Some("share") => Rights::SHARE,
                    _ => Rights::NONE,
                };
        }
        members.push((spanned_key(name), rights));
    }
    members.sort_by_key(|(name, _)| name.span.start);
    members
}

fn spanned_key(key: &Key<'_>) -> Spanned<String> {
    Spanned {
        value: key.name.to_string(),
        span: key.span.into(),
    }
}

fn text(values: &Values<'_>, key: &str) -> Option<Spanned<String>> {
    spanned_text(values.get(key)?)
}

fn spanned_text(value: &Value<'_>) -> Option<Spanned<String>> {
    let span: TextSpan = value.span.into();
    value.as_str().map(|text| Spanned {
        value: text.to_owned(),
        span,
    })
}

fn texts(values: &Values<'_>, key: &str) -> Vec<Spanned<String>> {
    let list = values.get(key).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(spanned_text)
        .collect()
}

fn number<T: TryFrom<i64>>(values: &Values<'_>, key: &str) -> Option<T> {
    values.get(key)?.as_integer()?.try_into().ok()
}

fn table<'a, 'de>(values: &'a Values<'de>, key: &str) -> Option<&'a Values<'de>> {
    values.get(key)?.as_table()
}

fn tables<'a, 'de>(
    values: &'a Values<'de>,
    key: &str,
) -> impl Iterator<Item = &'a Values<'de>> + use<'a, 'de> {
    let list = values.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_table)
}

/// Returns the tables in a table with their names, in the order of the file.
fn named<'a, 'de>(
    values: &'a Values<'de>,
    key: &str,
) -> impl Iterator<Item = (Spanned<String>, &'a Values<'de>)> + use<'a, 'de> {
    let mut named: Vec<_> = table(values, key)
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((spanned_key(name), value.as_table()?)))
        .collect();
    named.sort_by_key(|(name, _)| name.span.start);
    named.into_iter()
}
