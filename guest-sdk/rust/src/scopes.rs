//! Scopes: regions that are found by name, among guests that the operator names.
//!
//! ```no_run
//! use tombolo_guest::{Region, Rights, scopes};
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // One guest publishes a table ...
//! let table = Region::create("table", 65536)?;
//! let _published = scopes::publish("tables", "sines", &table, Rights::READ)?;
//!
//! // ... and another opens it, once it is there.
//! let sines = scopes::open("tables", "sines")?;
//! # Ok(())
//! # }
//! ```

use std::fmt;

use crate::bindings::scopes as wit;
use crate::error::Error;
use crate::pollable::Pollable;
use crate::region::Region;
use crate::regions::Rights;

/// Why nothing was published or opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeError {
    /// The operator did not make this guest a member of such a scope, or not one
    /// that may publish.
    NotPermitted,
    /// Nobody publishes that name now.
    Absent,
    /// Somebody publishes that name already.
    Taken,
    /// The region says no.
    Region(Error),
}

impl fmt::Display for ScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPermitted => f.write_str(
                "not permitted: the operator made this guest no member of such a scope, or not \
                 with `share`, which publishing needs",
            ),
            Self::Absent => f.write_str("absent: nobody publishes that name now"),
            Self::Taken => f.write_str("taken: somebody publishes that name already"),
            Self::Region(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ScopeError {}

impl From<wit::Refusal> for ScopeError {
    fn from(refusal: wit::Refusal) -> Self {
        match refusal {
            wit::Refusal::NotPermitted => Self::NotPermitted,
            wit::Refusal::Absent => Self::Absent,
            wit::Refusal::Taken => Self::Taken,
            wit::Refusal::Region(code) => Self::Region(code.into()),
        }
    }
}

/// A published name. Dropping it withdraws the name; whoever opened it keeps what
/// it has.
pub struct Publication(#[expect(dead_code, reason = "dropping it is all")] wit::Publication);

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication").finish_non_exhaustive()
    }
}

/// Publishes a region under a name, for others to open with at most these rights.
/// Needs [`Rights::SHARE`] on the handle, and in the scope.
///
/// # Errors
///
/// [`ScopeError::NotPermitted`], [`ScopeError::Taken`]; [`ScopeError::Region`] with
/// what [`Region::duplicate`] fails with.
pub fn publish(
    scope: &str,
    name: &str,
    region: &Region,
    rights: Rights,
) -> Result<Publication, ScopeError> {
    let published = wit::publish(scope, name, region.as_handle(), rights);
    Ok(Publication(published?))
}

/// Opens a region by its name: a claim of this guest's own. Never waits.
///
/// # Errors
///
/// [`ScopeError::NotPermitted`], [`ScopeError::Absent`]; [`ScopeError::Region`].
pub fn try_open(scope: &str, name: &str) -> Result<Region, ScopeError> {
    Ok(Region::made(wit::open(scope, name)?))
}

/// Opens a region by its name, and waits until somebody publishes that.
///
/// # Errors
///
/// As [`try_open`], but for [`ScopeError::Absent`].
pub fn open(scope: &str, name: &str) -> Result<Region, ScopeError> {
    loop {
        match try_open(scope, name) {
            Err(ScopeError::Absent) => published(scope, name)?.wait(),
            other => return other,
        }
    }
}

/// That somebody publishes the name.
///
/// # Errors
///
/// [`ScopeError::NotPermitted`]; [`ScopeError::Region`] with
/// [`Error::InvalidArgument`] for what is no name.
pub fn published(scope: &str, name: &str) -> Result<Pollable, ScopeError> {
    Ok(Pollable::new(wit::subscribe(scope, name)?))
}
