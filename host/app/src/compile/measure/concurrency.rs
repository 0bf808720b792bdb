//! The parts of a component that need an engine with concurrency.

use wasmparser::{CanonicalFunction, CanonicalOption};

/// Returns whether a canonical function exists only on engines with concurrency: an async lift or
/// lower, or a built-in function for tasks, streams and the like.
pub(super) fn canonical_needs_it(function: &CanonicalFunction) -> bool {
    match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => {
            options.iter().any(|option| {
                matches!(
                    option,
                    CanonicalOption::Async | CanonicalOption::Callback(_)
                )
            })
        }
        CanonicalFunction::ResourceNew { .. }
        | CanonicalFunction::ResourceDrop { .. }
        | CanonicalFunction::ResourceRep { .. } => false,
        _ => true,
    }
}

/// Returns whether an import is an interface of WASI 0.3. The host offers those only on engines
/// with concurrency, also the ones without async functions.
pub(super) fn import_needs_it(name: &str) -> bool {
    name.starts_with("wasi:")
        && name
            .rsplit_once('@')
            .is_some_and(|(_, version)| version.starts_with("0.3."))
}
