//! The error of a guest that wrote to a read-only window.

use std::fmt;
use std::sync::Arc;

use crate::sys::{StoreMark, ViolationSite};

/// A guest wrote to a read-only window. Nobody else saw that: the write went to a private copy.
#[derive(Debug, Clone)]
pub struct WriteViolation {
    guest: Arc<str>,
    site: Option<ViolationSite>,
}

impl WriteViolation {
    /// Returns the violation of a store's guest.
    #[cold]
    pub(crate) fn of(mark: &StoreMark) -> WriteViolation {
        let (guest, site) = mark.violation();
        WriteViolation { guest, site }
    }

    /// Returns the violation of a guest at this place.
    pub(crate) fn at(guest: Arc<str>, site: ViolationSite) -> WriteViolation {
        WriteViolation {
            guest,
            site: Some(site),
        }
    }

    /// Returns the name of the guest.
    #[must_use]
    pub fn guest(&self) -> &str {
        &self.guest
    }

    /// Returns the name of the region, if the window still exists.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.site.as_ref().map(|site| &*site.region)
    }

    /// Returns the position of the first byte that was written to, from the start of the
    /// region, if the window still exists.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.site.as_ref().map(|site| site.offset)
    }
}

impl fmt::Display for WriteViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest `{}` wrote to its read-only window", self.guest)?;
        match &self.site {
            Some(at) => write!(f, " on region `{}` at offset {:#x}", at.region, at.offset),
            None => Ok(()),
        }
    }
}

impl std::error::Error for WriteViolation {}
