//! The guest `near`. If the environment variable `SHORT_CALLS` is set, short scripts are passed as
//! numbers, by functions whose types Tombolo knows.

use std::sync::LazyLock;

pub(super) use super::bindings::test::calls::near::{
    Failure, lend_two, move_failing, move_roomless, say_roomless,
};
use super::bindings::test::calls::{near, near_short};
use tombolo_test_guests::raw::regions::Region;

static SHORT: LazyLock<bool> = LazyLock::new(|| std::env::var_os("SHORT_CALLS").is_some());

/// Returns the script as numbers, if it is short.
fn numbers<const N: usize>(script: &str) -> Option<[u64; N]> {
    if !*SHORT || script.len() > 8 * N {
        return None;
    }
    let mut numbers = [0; N];
    for (number, part) in numbers.iter_mut().zip(script.as_bytes().chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..part.len()].copy_from_slice(part);
        *number = u64::from_le_bytes(bytes);
    }
    Some(numbers)
}

/// Returns the result with its text.
fn long(result: Result<(), String>) -> Result<String, String> {
    match result {
        Ok(()) => Ok("done".into()),
        Err(text) => match text.strip_prefix('=') {
            Some(text) => Ok(text.into()),
            None => Err(renamed(&text)),
        },
    }
}

/// Returns an error with the name that the interface has for long scripts.
fn renamed(text: &str) -> String {
    text.replace("`test:calls/near-short.", "`test:calls/near.")
}

pub(super) fn say(script: &str) -> Result<String, String> {
    match numbers(script) {
        Some([a, b, c, d]) => long(near_short::say(a, b, c, d)),
        None => near::say(script),
    }
}

pub(super) fn say_failing(script: &str) -> Result<String, Failure> {
    near::say_failing(script).map_err(|failure| match failure {
        Failure::PeerFailed(text) => Failure::PeerFailed(renamed(&text)),
        other => other,
    })
}

pub(super) fn lend(script: &str, it: &Region) -> Result<String, String> {
    match numbers(script) {
        Some([a, b, c]) => long(near_short::lend(it, a, b, c)),
        None => near::lend(script, it),
    }
}

pub(super) fn move_(script: &str, it: Region) -> Result<String, String> {
    match numbers(script) {
        Some([a, b, c]) => long(near_short::move_(it, a, b, c)),
        None => near::move_(script, it),
    }
}

pub(super) fn make(script: &str) -> Result<Region, String> {
    match numbers(script) {
        Some([a, b, c]) => near_short::make(a, b, c).map_err(|text| renamed(&text)),
        None => near::make(script),
    }
}
