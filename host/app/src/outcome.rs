//! How an app and its commands ended.

use super::report::Report;

/// How an app ended.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// How the first command ended.
    pub end: CommandExit,
    /// A report of what the guests did.
    pub report: Report,
    /// The failures of guests, one line each, in order. A guest that is to be restarted has
    /// not failed, even if the app ended before the restart.
    pub failures: Vec<String>,
}

/// How a command ended.
///
/// Programs turn it into their own exit code, so this enum has no further cases.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum CommandExit {
    /// It ended by itself, with this exit code.
    Exit(u8),
    /// It trapped, or was ended.
    #[default]
    Failed,
    /// It was ended because the app was [stopped](super::AppHandle::stop).
    Stopped,
}
