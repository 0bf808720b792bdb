//! Scopes: regions that guests find by name.
//!
//! The operator defines each scope, and which guests are its members.
//!
//! ```no_run
//! use tombolo_guest::{Region, Rights, scopes};
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // One guest publishes a table ...
//! let table = Region::create("table", 65536)?;
//! let _published = scopes::publish("tables", "sines", &table, Rights::READ)?;
//!
//! // ... and another guest waits for it, and opens it.
//! let sines = scopes::open("tables", "sines")?;
//! # Ok(())
//! # }
//! ```

use std::fmt;

#[cfg(feature = "async")]
use crate::bindings::concurrent;
use crate::bindings::regions::Rights;
use crate::bindings::scopes as wit;
use crate::error::Error;
use crate::pollable::Pollable;
use crate::region::Region;

/// The reason why a region was not published or opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeError {
    /// This guest is not a member of such a scope, or may not publish in it.
    NotPermitted,
    /// The name is not published at the moment.
    Absent,
    /// The name is already published.
    Taken,
    /// The region refused, for this reason.
    Region(Error),
}

impl fmt::Display for ScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPermitted => f.write_str(
                "not permitted: this guest is not a member of such a scope, or lacks `share` \
                 there, which publishing needs; ask the operator to grant it",
            ),
            Self::Absent => f.write_str(
                "absent: the name is not published at the moment; wait for it with `scopes::open`",
            ),
            Self::Taken => f.write_str("taken: the name is already published; choose another name"),
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

/// A published name. Dropping it withdraws the name. Guests that opened the name keep
/// their regions.
pub struct Publication(
    #[expect(dead_code, reason = "only its drop has an effect")] wit::Publication,
);

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication").finish_non_exhaustive()
    }
}

/// Publishes a region under a name. Other members of the scope open it with at most these
/// rights. Needs [`Rights::SHARE`] on the handle, and in the scope.
///
/// # Errors
///
/// [`ScopeError::NotPermitted`]; [`ScopeError::Taken`]; [`ScopeError::Region`] with the
/// errors of [`Region::duplicate`], or [`Error::InvalidArgument`] for an invalid name.
pub fn publish(
    scope: &str,
    name: &str,
    region: &Region,
    rights: Rights,
) -> Result<Publication, ScopeError> {
    let published = wit::publish(scope, name, region.as_handle(), rights);
    Ok(Publication(published?))
}

/// Opens a region by its name. Returns a new claim of this guest. Never waits.
///
/// # Errors
///
/// [`ScopeError::NotPermitted`]; [`ScopeError::Absent`]; [`ScopeError::Region`].
pub fn try_open(scope: &str, name: &str) -> Result<Region, ScopeError> {
    Ok(Region::made(wit::open(scope, name)?))
}

/// Opens a region by its name, and waits until the name is published if necessary.
///
/// # Errors
///
/// The errors of [`try_open`], without [`ScopeError::Absent`].
pub fn open(scope: &str, name: &str) -> Result<Region, ScopeError> {
    loop {
        match try_open(scope, name) {
            Err(ScopeError::Absent) => published(scope, name)?.wait(),
            other => return other,
        }
    }
}

/// Returns a pollable that is ready when the name is published.
///
/// # Errors
///
/// [`ScopeError::NotPermitted`]; [`ScopeError::Region`] with [`Error::InvalidArgument`]
/// for an invalid name, or [`Error::Exhausted`].
pub fn published(scope: &str, name: &str) -> Result<Pollable, ScopeError> {
    Ok(Pollable::new(wit::subscribe(scope, name)?))
}

/// Opens a region by its name, and waits until the name is published if necessary, while other
/// tasks of this guest run.
///
/// Dropping the future changes nothing.
///
/// # Errors
///
/// The errors of [`try_open`], without [`ScopeError::Absent`].
#[cfg(feature = "async")]
pub async fn open_async(scope: &str, name: &str) -> Result<Region, ScopeError> {
    loop {
        match try_open(scope, name) {
            Err(ScopeError::Absent) => {
                concurrent::scopes::wait_published(scope.to_owned(), name.to_owned()).await?;
            }
            other => return other,
        }
    }
}
