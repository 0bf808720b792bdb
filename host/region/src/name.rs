use std::fmt;
use std::sync::Arc;

use super::Escaped;

/// A region's name: a label for people, 1 to 200 bytes of UTF-8 without NUL.
///
/// The kernel takes memfd names of up to 249 bytes; the rest is left for what
/// the host puts in front.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RegionName(Arc<str>);

impl RegionName {
    /// The longest name, in bytes.
    pub const MAX: usize = 200;

    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`NameError`] for one that is empty, too long, or has a NUL in it.
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

    /// The name.
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
    /// Shows the name as [`Escaped`] does, fit for a log line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.0).fmt(f)
    }
}

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("the name is empty")]
    Empty,
    /// The name is longer than 200 bytes.
    #[error("the name has {bytes} bytes, more than {}", RegionName::MAX)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The name has a NUL in it.
    #[error("the name has a NUL at byte {at}")]
    Nul {
        /// Where the first one is.
        at: usize,
    },
}
