//! Whether the guests are there that a manifest names.

use super::conform::near;
use super::problem::Problem;
use super::{Manifest, Spot};

/// Finds names of guests that there are not.
pub(super) fn check(manifest: &Manifest, problems: &mut Vec<Problem>) {
    // Without any, it has been said that they are missing.
    if manifest.guests.is_empty() {
        return;
    }
    let names: Vec<&str> = manifest
        .guests
        .iter()
        .map(|guest| &*guest.name.value)
        .collect();
    let mut need = |guest: &Spot<String>, of: String| {
        if names.contains(&&*guest.value) {
            return;
        }
        let label = match near(&guest.value, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "no such guest".to_owned(),
        };
        let all: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        problems.push(
            Problem::new(format!("there is no guest `{}`, which {of}", guest.value))
                .at(guest.span.clone(), label)
                .hint(format!("the guests are {}", all.join(", "))),
        );
    };
    for guest in &manifest.guests {
        for call in &guest.calls {
            need(call, format!("`{}` may call", guest.name.value));
        }
    }
    for channel in &manifest.channels {
        for from in &channel.from {
            need(from, format!("sends to channel `{}`", channel.name.value));
        }
        if let Some(to) = &channel.to {
            need(
                to,
                format!("receives from channel `{}`", channel.name.value),
            );
        }
    }
    for scope in &manifest.scopes {
        for (member, _) in &scope.members {
            need(
                member,
                format!("is a member of scope `{}`", scope.name.value),
            );
        }
    }
    for guest in &manifest.guests {
        for call in &guest.calls {
            if call.value == guest.name.value {
                problems.push(
                    Problem::new(format!("`{}` is to call itself", call.value))
                        .at(call.span.clone(), "no guest serves itself"),
                );
            }
        }
    }
}
