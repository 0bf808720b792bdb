//! The error slot of a function's result, through which a caller learns of a failed callee.

use wasmtime::component::Val;
use wasmtime::component::types::{ComponentFunc, Type};

use tombolo_region::escape;

/// The place in a function's result type for the text of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorSlot {
    /// The error type is `string`.
    String,
    /// The error type is a variant with a case `peer-failed(string)`.
    PeerFailed,
}

impl ErrorSlot {
    /// The name of the variant's case.
    const CASE: &str = "peer-failed";

    /// Finds the slot in a function's type. Only the outermost `result` counts: an error
    /// deeper inside means something else to the caller.
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

    /// Returns the function's result that carries this text.
    pub(crate) fn error(self, text: String) -> Val {
        let text = Box::new(Val::String(text));
        Val::Result(Err(Some(match self {
            Self::String => text,
            Self::PeerFailed => Box::new(Val::Variant(Self::CASE.to_owned(), Some(text))),
        })))
    }
}

/// A linked function without an error slot: if the callee fails, the caller traps.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}`'s `{1}` cannot report a failure to its caller: if `{0}` fails, `{2}` traps ({3})",
    escape(exporter),
    escape(function),
    escape(importer),
    self.advice()
)]
#[non_exhaustive]
pub struct LinkWarning {
    /// The guest that calls.
    pub importer: String,
    /// The guest that is called.
    pub exporter: String,
    /// The function, with its interface.
    pub function: String,
}

impl LinkWarning {
    /// Returns how to change the function's type.
    fn advice(&self) -> &'static str {
        // WIT has allowed fallible constructors only recently, and not all toolchains do.
        match self.function.contains("[constructor]") {
            true => {
                "replace the constructor by a static function that returns \
                 `result<RESOURCE, string>`, or let it return that itself if your tools support it"
            }
            false => {
                "let it return `result<_, string>`, or a `result` whose error is a variant with a \
                 case `peer-failed(string)`"
            }
        }
    }
}
