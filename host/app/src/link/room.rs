//! Room in a function's result for word of a dead callee.

use wasmtime::component::Val;
use wasmtime::component::types::{ComponentFunc, Type};

use tombolo_region::escape;

/// Where a function's result has room for word of a dead callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// The error type is `string`.
    String,
    /// The error type is a variant with a case `peer-failed(string)`.
    PeerFailed,
}

impl Room {
    /// The case of a variant that says that the callee is dead.
    const CASE: &str = "peer-failed";

    /// Finds the room in a function's type. Only the result type itself
    /// counts: an error deeper inside means something else to the caller.
    pub(super) fn of(ty: &ComponentFunc) -> Option<Self> {
        let mut results = ty.results();
        let (Some(Type::Result(result)), None) = (results.next(), results.next()) else {
            return None;
        };
        match result.err()? {
            Type::String => Some(Self::String),
            Type::Variant(variant) => variant
                .cases()
                .any(|case| case.name == Self::CASE && case.ty == Some(Type::String))
                .then_some(Self::PeerFailed),
            _ => None,
        }
    }

    /// The function's result that tells the caller `text`.
    pub(crate) fn refusal(self, text: String) -> Val {
        let text = Box::new(Val::String(text));
        Val::Result(Err(Some(match self {
            Self::String => text,
            Self::PeerFailed => Box::new(Val::Variant(Self::CASE.to_owned(), Some(text))),
        })))
    }
}

/// A linked function without room for word of a dead callee: the caller traps
/// where it could have been told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}`'s `{1}` has no room for word of a failure: if `{0}` dies, `{2}` traps ({3})",
    escape(exporter),
    escape(function),
    escape(importer),
    self.advice()
)]
pub struct Warning {
    /// The guest that calls.
    pub importer: String,
    /// The guest that is called.
    pub exporter: String,
    /// The function, with its interface.
    pub function: String,
}

impl Warning {
    /// What would make room.
    fn advice(&self) -> &'static str {
        // WIT lets constructors fail only since lately, and not all languages do.
        match self.function.contains("[constructor]") {
            true => {
                "a static function that returns `result<_, string>` around the resource makes \
                 room, and so does such a result of the constructor, where the tools know that"
            }
            false => {
                "a result type of `result<_, string>`, or an error variant with a case \
                 `peer-failed(string)`, makes room"
            }
        }
    }
}
