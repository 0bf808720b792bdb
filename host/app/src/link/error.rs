//! Why guests cannot be linked.

use std::fmt;

use tombolo_region::escape;

/// The most errors that are printed. The rest are counted.
const PRINTED: usize = 20;

/// All errors that keep the guests of an app from being linked.
#[derive(Debug)]
pub struct LinkErrors {
    errors: Vec<LinkError>,
}

impl LinkErrors {
    /// Returns `None` if there are no errors.
    pub fn new(errors: Vec<LinkError>) -> Option<Self> {
        (!errors.is_empty()).then_some(Self { errors })
    }

    /// Returns the errors, at least one, in the order of guests and imports.
    pub fn errors(&self) -> &[LinkError] {
        &self.errors
    }

    /// Returns the errors' hints, each once.
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

/// The reason why one import of a guest cannot be linked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// No other guest exports the interface.
    #[error(
        "`{}` imports `{}`, which no other guest exports{}",
        escape(guest),
        escape(import),
        near.as_ref().map(NearestExport::to_string).unwrap_or_default()
    )]
    Missing {
        /// The importing guest.
        guest: String,
        /// The import.
        import: String,
        /// The most similar export.
        near: Option<NearestExport>,
    },
    /// The host lacks an interface in one of its own namespaces.
    #[error(
        "`{}` imports `{}`, which neither this host nor another guest offers",
        escape(guest),
        escape(import)
    )]
    HostLacks {
        /// The importing guest.
        guest: String,
        /// The import.
        import: String,
    },
    /// The host offers another version of an interface.
    #[error(
        "`{}` imports `{}`, but this host offers `{}`, an incompatible version",
        escape(guest),
        escape(import),
        escape(offered)
    )]
    HostVersion {
        /// The importing guest.
        guest: String,
        /// The import.
        import: String,
        /// The interface that the host offers.
        offered: String,
    },
    /// The host's interface lacks an item, or has it with another type.
    #[error(
        "the imports of `{}` do not match what this host offers: {}",
        escape(guest),
        escape(reason)
    )]
    Host {
        /// The importing guest.
        guest: String,
        /// The engine's message.
        reason: String,
    },
    /// Several guests export the interface.
    #[error(
        "`{}` imports `{}`, which several guests export: {}",
        escape(guest),
        escape(import),
        quoted(exporters)
    )]
    Ambiguous {
        /// The importing guest.
        guest: String,
        /// The import.
        import: String,
        /// The exporting guests.
        exporters: Vec<String>,
    },
    /// Only guests that the importer may not call export the interface.
    #[error(
        "`{}` imports `{}`, but is not allowed to call {}",
        escape(guest),
        escape(import),
        match &exporters[..] {
            [exporter] => format!("`{}`, which exports it", escape(exporter)),
            _ => format!("the guests that export it: {}", quoted(exporters)),
        }
    )]
    Forbidden {
        /// The importing guest.
        guest: String,
        /// The import.
        import: String,
        /// The exporting guests, at least one.
        exporters: Vec<String>,
    },
    /// The exporter's interface lacks a function.
    #[error(
        "`{}` imports function `{}` of `{}`, but `{}` exports `{}` without it{}",
        escape(importer),
        escape(function),
        escape(import),
        escape(exporter),
        escape(export),
        near.as_ref().map(|near| format!("; the nearest is `{}`", escape(near))).unwrap_or_default()
    )]
    NoFunction {
        /// The importing guest.
        importer: String,
        /// The import.
        import: String,
        /// The function.
        function: String,
        /// The exporting guest.
        exporter: String,
        /// The exporter's name for the interface.
        export: String,
        /// A function of the exporter with a similar name.
        near: Option<String>,
    },
    /// The exporter's interface lacks a resource.
    #[error(
        "`{}` imports resource `{}` of `{}`, but `{}` exports `{}` without it",
        escape(importer),
        escape(resource),
        escape(import),
        escape(exporter),
        escape(export)
    )]
    NoResource {
        /// The importing guest.
        importer: String,
        /// The import.
        import: String,
        /// The resource.
        resource: String,
        /// The exporting guest.
        exporter: String,
        /// The exporter's name for the interface.
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
        /// The importing guest.
        importer: String,
        /// The import.
        import: String,
        /// The function.
        function: String,
        /// The exporting guest.
        exporter: String,
        /// The importer's type, as WIT text.
        imported: String,
        /// The exporter's type, as WIT text.
        exported: String,
        /// The first difference.
        difference: Difference,
    },
    /// Imports of this kind cannot be linked between guests.
    #[error(
        "`{}` imports {}`{}`, {reason}",
        escape(guest),
        function.as_ref().map(|name| format!("function `{}` of ", escape(name))).unwrap_or_default(),
        escape(import)
    )]
    Unsupported {
        /// The importing guest.
        guest: String,
        /// The import.
        import: String,
        /// The function, if the error is about one.
        function: Option<String>,
        /// The reason.
        reason: UnsupportedImport,
    },
}

impl LinkError {
    /// Returns the name of the importing guest.
    pub fn guest(&self) -> &str {
        match self {
            Self::Missing { guest, .. }
            | Self::HostLacks { guest, .. }
            | Self::HostVersion { guest, .. }
            | Self::Host { guest, .. }
            | Self::Ambiguous { guest, .. }
            | Self::Forbidden { guest, .. }
            | Self::Unsupported { guest, .. } => guest,
            Self::NoFunction { importer, .. }
            | Self::NoResource { importer, .. }
            | Self::Mismatch { importer, .. } => importer,
        }
    }

    /// Returns advice on what to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing {
                import,
                near: None | Some(NearestExport::Itself),
                ..
            } => format!("add a guest that exports `{}`", escape(import)),
            Self::Missing { guest, .. } => format!(
                "build `{}` and the guest that serves it against the same WIT",
                escape(guest)
            ),
            Self::HostLacks { .. } | Self::HostVersion { .. } | Self::Host { .. } => {
                "this host offers the interfaces of `wasi:cli/command`, version 0.2, and of \
                 `tombolo:memory`, `tombolo:app` and their `-async` packages, version 0.1"
                    .to_owned()
            }
            Self::Ambiguous { guest, .. } => format!(
                "add only one of them, or name the one to call in `calls` of `{}` in a manifest",
                escape(guest)
            ),
            Self::Forbidden {
                guest, exporters, ..
            } => format!(
                "to allow it, write `calls = [{:?}]` for `{}` in the manifest",
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
            Self::Unsupported { reason, .. } => reason.hint().to_owned(),
        }
    }
}

/// The export that is most similar to an import without an exporter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NearestExport {
    /// The same interface, in an incompatible version.
    #[error(
        "; `{}` exports `{}`, an incompatible version",
        escape(guest),
        escape(export)
    )]
    Version {
        /// The exporting guest.
        guest: String,
        /// The export.
        export: String,
    },
    /// An interface with a similar name.
    #[error("; the nearest is `{}` of `{}`", escape(export), escape(guest))]
    Name {
        /// The exporting guest.
        guest: String,
        /// The export.
        export: String,
    },
    /// The same interface, exported by the importing guest.
    #[error("; it exports this interface itself, but a guest cannot serve its own imports")]
    Itself,
}

/// The place at which two types first differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}: {} vs {}", escape(at), escape(imported), escape(exported))]
#[non_exhaustive]
pub struct Difference {
    /// The path to the difference, for example `param format.rate`.
    pub at: String,
    /// The importer's type there.
    pub imported: String,
    /// The exporter's type there.
    pub exported: String,
}

/// The reason why imports of a kind cannot be linked between guests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsupportedImport {
    /// The import is a function outside an interface.
    #[error("a function outside any interface, and only interfaces can be linked between guests")]
    Bare,
    /// The import is an item that is not an interface, or its interface contains one.
    #[error("a {item}, and only functions in interfaces can be linked between guests")]
    Item {
        /// The kind of item.
        item: &'static str,
    },
    /// The function passes a handle to a resource of the host that is not a region.
    #[error(
        "which passes a handle to {} (at {}), and between guests only handles to regions and \
         to resources of guests can pass",
        escape(resource),
        escape(at)
    )]
    Handle {
        /// The resource.
        resource: String,
        /// The path to the handle.
        at: String,
    },
    /// The function passes an asynchronous value that cannot pass.
    #[error(
        "which passes `{value}` (at {}), which cannot pass between guests yet",
        escape(at)
    )]
    Value {
        /// The type of the value, as WIT text.
        value: String,
        /// The path to the value.
        at: String,
    },
}

impl UnsupportedImport {
    fn hint(&self) -> &'static str {
        match self {
            Self::Bare | Self::Item { .. } => {
                "put the function into an interface of a WIT package, and import that"
            }
            Self::Handle { .. } => {
                "pass plain values, handles to regions, or a resource that the interface defines \
                 and that wraps the other one"
            }
            Self::Value { .. } => {
                "between guests, streams and futures carry numbers, `bool`, `char`, `string`, \
                 `list<u8>`, `region`, `result`, and `result<T, string>` where `T` is nothing, \
                 `string`, `list<u8>` or `region`"
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
