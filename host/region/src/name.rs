//! The names of regions.

use std::fmt;
use std::sync::Arc;

use crate::text::Escaped;

/// A region's name: a label for people, of 1 to 200 bytes of UTF-8 without NUL.
///
/// The kernel accepts memfd names of up to 249 bytes. The rest is for the host's prefix.
/// Cloning a name is cheap.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RegionName(Arc<str>);

impl RegionName {
    /// The maximum length, in bytes.
    pub const MAX: usize = 200;

    /// Creates a name from text.
    ///
    /// # Errors
    ///
    /// Returns [`NameError`] if the text is empty, too long, or contains a NUL.
    pub fn new(name: &str) -> Result<RegionName, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > RegionName::MAX {
            return Err(NameError::TooLong { bytes: name.len() });
        }
        if let Some(at) = name.bytes().position(|byte| byte == 0) {
            return Err(NameError::Nul { at });
        }
        Ok(RegionName(name.into()))
    }

    /// Returns the name as given, not escaped.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RegionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for RegionName {
    /// Writes the name as [`Escaped`] does, fit for a log line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.0).fmt(f)
    }
}

/// An error: text is not valid as a region's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The name is empty.
    #[error("the name is empty")]
    Empty,
    /// The name is longer than 200 bytes.
    #[error("the name has {bytes} bytes, more than {}", RegionName::MAX)]
    TooLong {
        /// The length of the name, in bytes.
        bytes: usize,
    },
    /// The name contains a NUL.
    #[error("the name contains a NUL at byte {at}")]
    Nul {
        /// The index of the first NUL, in bytes.
        at: usize,
    },
}
