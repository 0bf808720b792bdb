//! Why guests cannot be linked.

use std::fmt;

use tombolo_region::escape;

/// How many errors are printed; the rest are counted.
const PRINTED: usize = 20;

/// Everything that keeps the guests of an app from being linked.
#[derive(Debug)]
pub struct LinkErrors {
    errors: Vec<LinkError>,
}

impl LinkErrors {
    /// Nothing, if there are no errors.
    pub fn new(errors: Vec<LinkError>) -> Option<Self> {
        (!errors.is_empty()).then_some(Self { errors })
    }

    /// The errors, at least one, in the order of guests and imports.
    pub fn errors(&self) -> &[LinkError] {
        &self.errors
    }

    /// What to do about them, each advice once.
    pub fn hints(&self) -> Vec<String> {
        let mut hints = Vec::new();
        for error in self.errors.iter().take(PRINTED) {
            let hint = error.hint();
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        hints
    }
}

impl std::error::Error for LinkErrors {}

impl fmt::Display for LinkErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [error] = &self.errors[..] {
            return error.fmt(f);
        }
        write!(
            f,
            "the guests cannot be linked, for {} reasons",
            self.errors.len()
        )?;
        for error in self.errors.iter().take(PRINTED) {
            write!(f, "\n- {}", error.to_string().replace('\n', "\n  "))?;
        }
        match self.errors.len().checked_sub(PRINTED) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "\n- and {more} more"),
        }
    }
}

/// Why one import of a guest cannot be linked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Nobody exports the interface.
    #[error(
        "`{}` imports `{}`, which no other guest exports{}",
        escape(guest),
        escape(import),
        near.as_ref().map(Near::to_string).unwrap_or_default()
    )]
    Missing {
        /// The guest that imports.
        guest: String,
        /// What it imports.
        import: String,
        /// What comes nearest.
        near: Option<Near>,
    },
    /// The host does not offer an interface that it could be expected to.
    #[error(
        "`{}` imports `{}`, which this host does not offer, and no guest exports",
        escape(guest),
        escape(import)
    )]
    HostLacks {
        /// The guest that imports.
        guest: String,
        /// What it imports.
        import: String,
    },
    /// The host offers another version of an interface.
    #[error(
        "`{}` imports `{}`; this host offers `{}`, which is not compatible",
        escape(guest),
        escape(import),
        escape(offered)
    )]
    HostVersion {
        /// The guest that imports.
        guest: String,
        /// What it imports.
        import: String,
        /// What the host offers.
        offered: String,
    },
    /// The host's interface is not what the guest takes it for.
    #[error(
        "`{}` does not fit to what this host offers: {}",
        escape(guest),
        escape(reason)
    )]
    Host {
        /// The guest that imports.
        guest: String,
        /// What the engine says.
        reason: String,
    },
    /// Several guests export the interface.
    #[error(
        "`{}` imports `{}`, and more than one guest exports it: {}",
        escape(guest),
        escape(import),
        quoted(exporters)
    )]
    Ambiguous {
        /// The guest that imports.
        guest: String,
        /// What it imports.
        import: String,
        /// The guests that export it.
        exporters: Vec<String>,
    },
    /// Only guests export the interface that the importer may not call.
    #[error(
        "`{0}` imports `{1}`, which {2} exports, and `{0}` is not allowed to call",
        escape(guest),
        escape(import),
        quoted(exporters)
    )]
    Forbidden {
        /// The guest that imports.
        guest: String,
        /// What it imports.
        import: String,
        /// The guests that export it.
        exporters: Vec<String>,
    },
    /// The exporter's interface lacks a function.
    #[error(
        "`{}` imports function `{}` of `{}`, which `{}`'s `{}` does not have{}",
        escape(importer),
        escape(function),
        escape(import),
        escape(exporter),
        escape(export),
        near.as_ref().map(|near| format!("; the nearest is `{}`", escape(near))).unwrap_or_default()
    )]
    NoFunction {
        /// The guest that imports.
        importer: String,
        /// What it imports.
        import: String,
        /// The function.
        function: String,
        /// The guest that exports the interface.
        exporter: String,
        /// Its name for the interface.
        export: String,
        /// A function that it has, of a similar name.
        near: Option<String>,
    },
    /// The exporter's interface lacks a resource.
    #[error(
        "`{}` imports resource `{}` of `{}`, which `{}`'s `{}` does not define",
        escape(importer),
        escape(resource),
        escape(import),
        escape(exporter),
        escape(export)
    )]
    NoResource {
        /// The guest that imports.
        importer: String,
        /// What it imports.
        import: String,
        /// The resource.
        resource: String,
        /// The guest that exports the interface.
        exporter: String,
        /// Its name for the interface.
        export: String,
    },
    /// Importer and exporter have different types for a function.
    #[error(
        "`{0}` and `{1}` have different types for function `{2}` of `{3}`\n  \
         `{0}` imports {4}\n  \
         `{1}` exports {5}\n  \
         they first differ at {6}",
        escape(importer),
        escape(exporter),
        escape(function),
        escape(import),
        escape(imported),
        escape(exported),
        difference
    )]
    Mismatch {
        /// The guest that imports.
        importer: String,
        /// What it imports.
        import: String,
        /// The function.
        function: String,
        /// The guest that exports.
        exporter: String,
        /// The importer's type, as WIT text.
        imported: String,
        /// The exporter's type, as WIT text.
        exported: String,
        /// Where they first differ.
        difference: Difference,
    },
    /// The import is of a kind that cannot be linked between guests.
    #[error(
        "`{}` imports {}`{}`, {refusal}",
        escape(guest),
        function.as_ref().map(|name| format!("function `{}` of ", escape(name))).unwrap_or_default(),
        escape(import)
    )]
    Refused {
        /// The guest that imports.
        guest: String,
        /// What it imports.
        import: String,
        /// The function, if it is about one.
        function: Option<String>,
        /// Why not.
        refusal: Refusal,
    },
}

impl LinkError {
    /// The guest that imports.
    pub fn guest(&self) -> &str {
        match self {
            Self::Missing { guest, .. }
            | Self::HostLacks { guest, .. }
            | Self::HostVersion { guest, .. }
            | Self::Host { guest, .. }
            | Self::Ambiguous { guest, .. }
            | Self::Forbidden { guest, .. }
            | Self::Refused { guest, .. } => guest,
            Self::NoFunction { importer, .. }
            | Self::NoResource { importer, .. }
            | Self::Mismatch { importer, .. } => importer,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing {
                import,
                near: None | Some(Near::Itself),
                ..
            } => format!(
                "name the file of a guest that exports `{}`, too",
                escape(import)
            ),
            Self::Missing { guest, .. } => format!(
                "build `{}` and the guest that serves it against the same WIT",
                escape(guest)
            ),
            Self::HostLacks { .. } | Self::HostVersion { .. } | Self::Host { .. } => {
                "this host offers the interfaces of `wasi:cli/command`, version 0.2, and \
                 `tombolo:memory` and `tombolo:app`, version 0.1"
                    .to_owned()
            }
            Self::Ambiguous { .. } => "name only one of them".to_owned(),
            Self::Forbidden {
                guest, exporters, ..
            } => format!(
                "allow the call, as in `calls = [{:?}]` for `{}` in a manifest",
                exporters[0],
                escape(guest)
            ),
            Self::NoFunction {
                importer, exporter, ..
            }
            | Self::NoResource {
                importer, exporter, ..
            }
            | Self::Mismatch {
                importer, exporter, ..
            } => format!(
                "build `{}` and `{}` against the same WIT",
                escape(importer),
                escape(exporter)
            ),
            Self::Refused { refusal, .. } => refusal.hint().to_owned(),
        }
    }
}

/// The export that comes nearest to an import that nobody serves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Near {
    /// The same interface, of another version.
    #[error(
        "; `{}` exports `{}`, which is not compatible",
        escape(guest),
        escape(export)
    )]
    Version {
        /// The guest that exports.
        guest: String,
        /// What it exports.
        export: String,
    },
    /// An interface of a similar name.
    #[error("; the nearest is `{}` of `{}`", escape(export), escape(guest))]
    Name {
        /// The guest that exports.
        guest: String,
        /// What it exports.
        export: String,
    },
    /// The same interface, of the same guest.
    #[error("; it exports that itself, but no guest serves itself")]
    Itself,
}

/// Where two types first differ.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {} vs {}", escape(at), escape(imported), escape(exported))]
pub struct Difference {
    /// The path to the difference, as in `param format.rate`.
    pub at: String,
    /// What the importer has there.
    pub imported: String,
    /// What the exporter has there.
    pub exported: String,
}

/// Why an import is of a kind that cannot be linked between guests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The import is a function without an interface.
    #[error("a function outside of any interface")]
    Bare,
    /// The import is something else than an interface.
    #[error("a {kind}, and only functions in interfaces can be linked between guests")]
    Kind {
        /// What it is.
        kind: &'static str,
    },
    /// The function passes a handle to a resource of the host's that is no
    /// region.
    #[error(
        "which passes a handle to {} (at {}), and between guests only handles to regions and \
         to resources of guests can pass",
        escape(resource),
        escape(at)
    )]
    Handle {
        /// What the handle is to.
        resource: String,
        /// The path to it.
        at: String,
    },
    /// The function passes something asynchronous.
    #[error(
        "which passes a {value} (at {}), and none can pass between guests",
        escape(at)
    )]
    Value {
        /// What it is.
        value: &'static str,
        /// The path to it.
        at: String,
    },
    /// The function is asynchronous.
    #[error("which is asynchronous, and between guests a caller waits for its callee")]
    Async,
}

impl Refusal {
    fn hint(&self) -> &'static str {
        match self {
            Self::Bare | Self::Kind { .. } => {
                "put the function into an interface of a WIT package, and import that"
            }
            Self::Handle { .. } => {
                "pass plain values, handles to regions, or a resource that the interface defines \
                 itself, behind which the guest keeps the other"
            }
            Self::Value { .. } | Self::Async => {
                "use functions that are not `async`, with plain values and handles"
            }
        }
    }
}

/// Lists names in quotes.
fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names
        .iter()
        .map(|name| format!("`{}`", escape(name)))
        .collect();
    names.join(", ")
}
