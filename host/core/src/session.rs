//! Calls of a guest's exports, from the first lend to the last check, in the one right order.
//!
//! | step | by hand | with a session |
//! |---|---|---|
//! | regions for the arguments | [`Region::lend`], [`Region::give`] | [`Call::lend`], [`Call::give`] |
//! | the call | the export's own function | the same, with [`Call::store`] |
//! | was it in order? | [`check`](crate::check) | done |
//! | the end of the lends | [`LentRegion::end`](crate::LentRegion::end) | done |
//! | regions in the results | [`Region::take`] | [`Session::take`] |
//! | can the guest go on? | drop the store after any error | [`Called::session`] |

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tombolo_region::Rights;
use wasmtime::component::{Resource, Val};
use wasmtime::{AsContextMut as _, Store, StoreContextMut};

use crate::ctx::{RegionCtx, RegionView};
use crate::error::RegionError;
use crate::guest::{GuestIn, check, guest_in};
use crate::handover::{GiveError, LentRegion};
use crate::host::{Region, RegionInner};
use crate::identity::RegionId;
use crate::transfer::PackError;
use crate::violation::WriteViolation;

type Getter<T> = Arc<dyn Fn(&mut T) -> &mut RegionCtx + Send + Sync>;

/// A guest between two calls, with its store.
///
/// A call consumes the session, and returns it only if the guest can go on. So a guest that
/// trapped, broke a rule or was stopped is never called again. Dropping the future of a call drops
/// the store, with the call in it. That matters: on engines with concurrency the call would
/// otherwise go on during the next call of the store.
///
/// ```
/// # use tombolo::wasmtime::component::{Linker, Resource};
/// # use tombolo::wasmtime::{Config, Engine, Result, Store, StoreContextMut};
/// # use tombolo::{RegionCtx, RegionHost, RegionView};
/// use tombolo::{Called, Region, Rights, Session};
/// # struct State { regions: RegionCtx }
/// # impl RegionView for State {
/// #     fn region_ctx(&mut self) -> &mut RegionCtx { &mut self.regions }
/// # }
/// # struct Handler;
/// # impl Handler {
/// #     fn call_handle(&self, _: StoreContextMut<'_, State>, _: Resource<Region>) -> Result<u64> {
/// #         Ok(5)
/// #     }
/// # }
///
/// # fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
/// # let mut config = Config::new();
/// # tombolo::prepare(&mut config)?;
/// # let engine = Engine::new(&config)?;
/// # let host = RegionHost::new();
/// # let store = Store::new(&engine, State { regions: host.context("plugin").build() });
/// # let body = host.create("body", 5)?;
/// # let handler = Handler;
/// let session = Session::new(store);
/// let Called { session, result } = session.call(|call| {
///     let body = call.lend(&body, Rights::READ)?;
///     handler.call_handle(call.store(), body)
/// });
/// assert_eq!(result?, 5);
/// assert!(session.is_some(), "the guest can be called again");
/// # Ok(())
/// # }
/// ```
pub struct Session<T: 'static> {
    store: Store<T>,
    getter: Getter<T>,
}

impl<T: RegionView> Session<T> {
    /// Creates a session with a guest.
    #[must_use]
    pub fn new(store: Store<T>) -> Session<T> {
        Session::with(store, T::region_ctx)
    }
}

impl<T: 'static> Session<T> {
    /// Creates a session with the guest whose context the getter returns; see
    /// [`guest_in`](crate::guest_in).
    pub fn with<G>(store: Store<T>, getter: G) -> Session<T>
    where
        G: Fn(&mut T) -> &mut RegionCtx + Send + Sync + 'static,
    {
        Session {
            store,
            getter: Arc::new(getter),
        }
    }

    /// Returns the store, for calls that carry no regions. If one of them fails, drop the session.
    pub fn store(&mut self) -> &mut Store<T> {
        &mut self.store
    }

    /// Returns the store, and ends the session.
    #[must_use]
    pub fn into_store(self) -> Store<T> {
        self.store
    }

    /// Takes a region that a call returned, as [`Region::take`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn take(&mut self, handle: Resource<Region>) -> Result<Region, PackError> {
        Region::take(guest(&mut self.store, &self.getter), handle)
    }

    /// Calls an export. `act` lends and gives regions, makes one call, and returns its result.
    /// Then the lends are ended and the guest is checked.
    ///
    /// Return an error only if the guest is not to go on. Failures that the guest reports are
    /// values.
    pub fn call<R>(self, act: impl FnOnce(&mut Call<T>) -> wasmtime::Result<R>) -> Called<T, R> {
        let mut call = self.begin();
        let returned = act(&mut call);
        call.end(returned)
    }

    /// Calls an export of an asynchronous store, as [`call`](Session::call) does. Dropping the
    /// future drops the store, and poisons the regions that the guest could write.
    pub async fn call_async<R>(
        self,
        act: impl AsyncFnOnce(&mut Call<T>) -> wasmtime::Result<R>,
    ) -> Called<T, R> {
        let mut call = self.begin();
        let returned = act(&mut call).await;
        call.end(returned)
    }

    /// Calls an export as [`call_async`](Session::call_async) does, until `stop` is ready: a timer
    /// or a cancellation. Then the store is dropped, and the error is [`CallFailure::Stopped`].
    pub async fn call_until<R>(
        self,
        stop: impl Future<Output = ()>,
        act: impl AsyncFnOnce(&mut Call<T>) -> wasmtime::Result<R>,
    ) -> Called<T, R> {
        let mut call = self.begin();
        let returned = {
            let mut work = pin!(act(&mut call));
            let mut stop = pin!(stop);
            poll_fn(|cx| match work.as_mut().poll(cx) {
                Poll::Ready(returned) => Poll::Ready(Some(returned)),
                Poll::Pending => stop.as_mut().poll(cx).map(|()| None),
            })
            .await
        };
        match returned {
            Some(returned) => call.end(returned),
            None => call.fail(CallFailure::Stopped),
        }
    }

    /// Begins a call without a closure. [`Call::end`] ends it; dropping it drops the store.
    #[must_use]
    pub fn begin(self) -> Call<T> {
        Call {
            store: self.store,
            getter: self.getter,
            lent: Vec::new(),
            given: Vec::new(),
            entered: false,
        }
    }
}

impl<T: 'static> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

fn guest<'a, T: 'static>(
    store: &'a mut Store<T>,
    getter: &'a Getter<T>,
) -> GuestIn<&'a mut Store<T>, impl Fn(&mut T) -> &mut RegionCtx + 'a> {
    guest_in(store, |data: &mut T| getter(data))
}

/// A call that is being prepared, or under way. Dropping it drops the store, and then ends the
/// lends: regions that the guest could write are poisoned.
pub struct Call<T: 'static> {
    // Fields drop in order. The store goes before the lends.
    store: Store<T>,
    getter: Getter<T>,
    lent: Vec<LentRegion>,
    given: Vec<u32>,
    /// Whether the guest may have been entered.
    entered: bool,
}

impl<T: 'static> Call<T> {
    /// Lends a region to the guest for this call, as [`Region::lend`] does. Returns the handle to
    /// pass as `borrow<region>`.
    ///
    /// # Errors
    ///
    /// As [`Region::lend`].
    pub fn lend(
        &mut self,
        region: &Region,
        rights: Rights,
    ) -> Result<Resource<Region>, RegionError> {
        let lent = region.lend(guest(&mut self.store, &self.getter), rights)?;
        let handle = lent.resource();
        self.lent.push(lent);
        Ok(handle)
    }

    /// Lends a region as [`lend`](Call::lend) does, for a function with dynamic values.
    ///
    /// # Errors
    ///
    /// As [`Region::lend`], and if wasmtime's table is full.
    pub fn lend_value(&mut self, region: &Region, rights: Rights) -> wasmtime::Result<Val> {
        let mut lent = region.lend(guest(&mut self.store, &self.getter), rights)?;
        let value = lent.value(&mut self.store)?;
        self.lent.push(lent);
        Ok(value)
    }

    /// Moves a region to the guest, as [`Region::give`] does.
    ///
    /// # Errors
    ///
    /// As [`Region::give`].
    pub fn give(&mut self, region: Region) -> Result<Resource<Region>, GiveError> {
        let handle = region.give(guest(&mut self.store, &self.getter))?;
        self.given.push(handle.rep());
        Ok(handle)
    }

    /// Returns the store, to call the export with. From here on an error ends the guest.
    pub fn store(&mut self) -> StoreContextMut<'_, T> {
        self.entered = true;
        self.store.as_context_mut()
    }

    /// Ends the call with the result of the export.
    pub fn end<R>(mut self, returned: wasmtime::Result<R>) -> Called<T, R> {
        let value = match returned {
            Ok(value) => value,
            Err(error) if !self.entered => return self.refuse(error),
            Err(error) => return self.fail(CallFailure::from(error)),
        };
        if let Err(violation) = check(guest(&mut self.store, &self.getter)) {
            return self.fail(CallFailure::Violation(violation));
        }
        for lent in std::mem::take(&mut self.lent) {
            let ended = lent.end(guest(&mut self.store, &self.getter), Ok(()));
            if let Err(error) = ended {
                return self.fail(CallFailure::from(error));
            }
        }
        Called {
            session: Some(self.into_session()),
            result: Ok(value),
        }
    }

    fn into_session(self) -> Session<T> {
        Session {
            store: self.store,
            getter: self.getter,
        }
    }

    /// Ends a call for which the guest was not entered. It can go on.
    fn refuse<R>(mut self, error: wasmtime::Error) -> Called<T, R> {
        for lent in std::mem::take(&mut self.lent) {
            let ended = lent.end(guest(&mut self.store, &self.getter), Ok(()));
            if let Err(error) = ended {
                return self.fail(CallFailure::from(error));
            }
        }
        for handle in std::mem::take(&mut self.given) {
            let taken = Region::take(
                guest(&mut self.store, &self.getter),
                Resource::new_own(handle),
            );
            // A region that may not be taken back is dropped.
            if let Err(PackError::Fatal(error)) = taken {
                return self.fail(CallFailure::from(error));
            }
        }
        Called {
            session: Some(self.into_session()),
            result: Err(CallError {
                failure: CallFailure::Refused(error),
                poisoned: Vec::new(),
            }),
        }
    }

    /// Drops the store, and then ends the lends.
    fn fail<R>(self, failure: CallFailure) -> Called<T, R> {
        let Call { store, lent, .. } = self;
        drop(store);
        let regions: Vec<Arc<RegionInner>> = lent.iter().flat_map(LentRegion::regions).collect();
        drop(lent);
        let poisoned = regions.iter().filter(|it| it.ledger().is_poisoned());
        let poisoned = poisoned.map(|it| it.id).collect();
        Called {
            session: None,
            result: Err(CallError { failure, poisoned }),
        }
    }
}

impl<T: 'static> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("lent", &self.lent)
            .finish_non_exhaustive()
    }
}

/// The end of a call: its result, and what can be used again.
#[derive(Debug)]
#[must_use = "the session is the guest"]
pub struct Called<T: 'static, R> {
    /// The guest, if it can be called again. `None` if its store was dropped.
    pub session: Option<Session<T>>,
    /// The value that the export returned, or the reason why there is none.
    pub result: Result<R, CallError>,
}

impl<T: 'static, R> Called<T, R> {
    /// Returns the guest and the value. Drops the guest if there is none.
    ///
    /// # Errors
    ///
    /// The error of the call.
    pub fn into_result(self) -> Result<(Session<T>, R), CallError> {
        let value = self.result?;
        let session = self.session.expect("the guest of a call that succeeded");
        Ok((session, value))
    }
}

/// A reason why a call has no value, and the regions that it left poisoned.
#[derive(Debug)]
pub struct CallError {
    failure: CallFailure,
    poisoned: Vec<RegionId>,
}

impl CallError {
    /// Returns the reason.
    #[must_use]
    pub fn failure(&self) -> &CallFailure {
        &self.failure
    }

    /// Returns the reason, and forgets the regions.
    #[must_use]
    pub fn into_failure(self) -> CallFailure {
        self.failure
    }

    /// Returns the lent regions that are poisoned, because the guest could write to them when it
    /// failed. All other regions that were lent are as usable as before.
    #[must_use]
    pub fn poisoned(&self) -> &[RegionId] {
        &self.poisoned
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.failure.source()
    }
}

/// A reason why a call has no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallFailure {
    /// The call did not begin: a region could not be lent or given, for example. The guest can be
    /// called again.
    #[error("the call did not begin")]
    Refused(#[source] wasmtime::Error),
    /// The guest wrote to a read-only window, and was dropped.
    #[error(transparent)]
    Violation(WriteViolation),
    /// The guest trapped, or a function of the host program failed or ended it. It was dropped.
    #[error("the guest failed")]
    Failed(#[source] wasmtime::Error),
    /// The call was stopped, by [`Session::call_until`], and the guest was dropped.
    #[error("the call was stopped")]
    Stopped,
}

impl From<wasmtime::Error> for CallFailure {
    fn from(error: wasmtime::Error) -> CallFailure {
        match error.downcast::<WriteViolation>() {
            Ok(violation) => CallFailure::Violation(violation),
            Err(error) => CallFailure::Failed(error),
        }
    }
}
