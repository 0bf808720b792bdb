//! Checks that the guests exist that a manifest refers to.

use super::problem::Problem;
use super::validate::near;
use super::{Manifest, Spanned};

/// Reports references to unknown guests, and guests that may call themselves.
pub(super) fn check(manifest: &Manifest, problems: &mut Vec<Problem>) {
    // Missing `guests` are reported already.
    if manifest.guests.is_empty() {
        return;
    }
    let names: Vec<&str> = manifest
        .guests
        .iter()
        .map(|guest| &*guest.name.value)
        .collect();
    let mut require = |guest: &Spanned<String>, role: String| {
        if names.contains(&&*guest.value) {
            return;
        }
        let label = match near(&guest.value, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "unknown guest".to_owned(),
        };
        let all: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        problems.push(
            Problem::new(format!("there is no guest `{}`, which {role}", guest.value))
                .at(guest.span.clone(), label)
                .hint(format!("the guests are {}", all.join(", "))),
        );
    };
    for guest in &manifest.guests {
        for call in &guest.calls {
            require(call, format!("`{}` may call", guest.name.value));
        }
    }
    for channel in &manifest.channels {
        for from in &channel.from {
            require(from, format!("sends to channel `{}`", channel.name.value));
        }
        if let Some(to) = &channel.to {
            require(
                to,
                format!("receives from channel `{}`", channel.name.value),
            );
        }
    }
    for scope in &manifest.scopes {
        for (member, _) in &scope.members {
            require(
                member,
                format!("is a member of scope `{}`", scope.name.value),
            );
        }
    }
    for guest in &manifest.guests {
        for call in &guest.calls {
            if call.value == guest.name.value {
                problems.push(
                    Problem::new(format!("`{}` cannot call itself", call.value))
                        .at(call.span.clone(), "the guest itself")
                        .hint("remove it from `calls`: no guest serves its own imports"),
                );
            }
        }
    }
}
