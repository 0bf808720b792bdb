//! Calls that pass scalars and regions, in types of their own.
//!
//! Most functions take a few scalars and handles to regions, and return one of those or an error
//! text. They are linked by a tuple of [`Slot`]s instead of wasmtime's dynamic values. All other
//! functions are linked by [`Values`](super::work::Values). Guests cannot tell the difference:
//! limits, texts and the order of events are the same. Slots take no memory beside that of the
//! call. So they are not charged, unlike dynamic values and the texts of errors.
//!
//! A call to an idle guest runs on the spot; see
//! [`IdleCallee`](tombolo_exchange::IdleCallee).

use std::future::{Future, ready};
use std::marker::PhantomData;
use std::mem::take;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use wasmtime::AsContextMut;
use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Lift, Lower, Resource};

use super::exit::charge_results;
use super::guest::{Fault, ServingGuest};
use super::guests::{AppGuests, CallFailure};
use super::proxy::{Caller, Held, PassError};
use super::state::GuestState;
use tombolo::internal::{BorrowedInternals as _, PackedRegions, sys};
use tombolo::{Borrowed, Lending, Recipient, Region};
use tombolo_exchange::{GuestId, Request};
use tombolo_region::Charge;

/// A value of a call that takes one core value.
pub(super) type Slot = sys::Slot<Region>;

/// Values with handles to regions.
pub(super) trait Regions {
    /// The handles in the order of their places: one place for each that there can be.
    type Handles: Default
        + AsMut<[Option<Resource<Region>>]>
        + IntoIterator<Item = Option<Resource<Region>>>;

    /// Calls `visit` with each handle.
    fn each_region(&mut self, visit: impl FnMut(&mut Resource<Region>));

    /// Takes the handles out, and leaves stale ones in their places.
    #[inline]
    fn take_regions(&mut self) -> Self::Handles {
        let mut taken = Self::Handles::default();
        let mut places = taken.as_mut().iter_mut();
        self.each_region(|region| {
            if let Some(place) = places.next() {
                *place = Some(std::mem::replace(region, Resource::new_borrow(0)));
            }
        });
        taken
    }

    /// Puts handles into the places from which others were taken.
    #[inline]
    fn put_regions(&mut self, handles: Self::Handles) {
        let mut handles = handles.into_iter().flatten();
        self.each_region(|region| {
            if let Some(handle) = handles.next() {
                *region = handle;
            }
        });
    }
}

/// Parameters of a function.
pub(super) trait Params:
    Regions + ComponentNamedList + Lift + Lower + Send + Sync + 'static
{
}

/// Results of a function.
pub(super) trait Results:
    Regions + ComponentNamedList + Lift + Lower + Send + Sync + 'static
{
    /// Returns the bytes of their strings: the host memory that they take.
    fn copied_bytes(&self) -> u64 {
        0
    }

    /// Returns the results that carry the text of a failed call, if there are such results.
    fn refusal(_why: String) -> Option<Self> {
        None
    }

    /// Returns a call that has returned these results.
    #[inline]
    fn returned<'a>(self) -> HostCall<'a, Self> {
        Box::new(ready(Ok(self)))
    }
}

/// A call by a guest, as wasmtime waits for it.
pub(super) type HostCall<'a, R> = Box<dyn Future<Output = wasmtime::Result<R>> + Send + 'a>;

/// A call that has returned, without results. It has no size, so its box takes no memory.
struct ReturnedNothing;

impl Future for ReturnedNothing {
    type Output = wasmtime::Result<()>;

    #[inline]
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<wasmtime::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A slot for each name.
macro_rules! slots {
    ($name:ident) => {
        Slot
    };
}

macro_rules! params {
    ($($count:literal: ($($name:ident),*);)*) => {
        $(
            impl Regions for ($(slots!($name),)*) {
                type Handles = [Option<Resource<Region>>; $count];

                fn each_region(&mut self, mut _visit: impl FnMut(&mut Resource<Region>)) {
                    let ($($name,)*) = self;
                    $(
                        if let Slot::Handle(region) = $name {
                            _visit(region);
                        }
                    )*
                }
            }

            impl Params for ($(slots!($name),)*) {}
        )*
    };
}

params! {
    0: ();
    1: (a);
    2: (a, b);
    3: (a, b, c);
    4: (a, b, c, d);
}

impl Results for () {
    #[inline]
    fn returned<'a>(self) -> HostCall<'a, ()> {
        Box::new(ReturnedNothing)
    }
}

impl Results for (Slot,) {}

/// A value of a `result`.
trait Payload: Lift + Lower + Send + Sync + 'static {
    /// Returns the handle, if it is one.
    fn region(&mut self) -> Option<&mut Resource<Region>> {
        None
    }
}

impl Payload for () {}
impl Payload for bool {}
impl Payload for u32 {}
impl Payload for u64 {}
impl Payload for i32 {}
impl Payload for i64 {}
impl Payload for f64 {}

impl Payload for Resource<Region> {
    fn region(&mut self) -> Option<&mut Resource<Region>> {
        Some(self)
    }
}

impl<T: Payload> Regions for (Result<T, String>,) {
    type Handles = [Option<Resource<Region>>; 1];

    fn each_region(&mut self, visit: impl FnMut(&mut Resource<Region>)) {
        if let (Ok(value),) = self {
            value.region().map(visit);
        }
    }
}

impl<T: Payload> Results for (Result<T, String>,) {
    fn copied_bytes(&self) -> u64 {
        match &self.0 {
            Ok(_) => 0,
            Err(why) => why.len() as u64,
        }
    }

    fn refusal(why: String) -> Option<Self> {
        Some((Err(why),))
    }
}

/// A call with slots.
pub(super) struct SlotCall<P, R> {
    pub(super) export: ComponentExportIndex,
    /// With its interface, for messages.
    pub(super) function: Arc<str>,
    /// With stale handles in the places of `regions`, `None` once the call was made.
    pub(super) params: Option<P>,
    pub(super) regions: PackedRegions,
    pub(super) caller: Recipient,
    /// When the caller began the call, if it runs on the spot. Then the callee's clock starts
    /// there.
    pub(super) begun: Option<Instant>,
    pub(super) results: PhantomData<fn() -> R>,
}

/// The results of a [`SlotCall`].
pub(super) struct SlotAnswer<R> {
    /// With stale handles in the places of `regions`.
    pub(super) results: R,
    /// Those that the results carry, in a box because results seldom carry any.
    pub(super) regions: Option<Box<PackedRegions>>,
    /// The charge for the results, on the caller's account.
    pub(super) charge: Option<Charge>,
    /// Whether all lends to the callee are over.
    pub(super) over: bool,
    /// When the call had returned.
    pub(super) ended: Instant,
}

impl<P: Params, R: Results> Request<AppGuests> for SlotCall<P, R> {
    type Answer = SlotAnswer<R>;

    /// Makes the call, and charges the results to the caller, which decides how long they are
    /// kept.
    async fn call(
        &mut self,
        callee: &mut ServingGuest,
        _: GuestId,
    ) -> Result<Result<SlotAnswer<R>, String>, CallFailure> {
        if let Some(begun) = self.begun {
            callee.start_clock_at(begun);
        }
        let Some(mut params) = self.params.take() else {
            unreachable!("a call is made once");
        };
        let regions = take(&mut self.regions);
        let mut borrowed = Borrowed::default();
        if let Err(error) = unpack(regions, &mut params, callee.store(), &mut borrowed) {
            return Err(self.broken(error, None));
        }
        // Pinned where it is made, and not copied there.
        let (called, ended) = pin!(callee.call_typed::<P, R>(self.export, params)).await;
        match called {
            Ok(results) => self.returned(callee, results, borrowed, ended),
            Err(error) => Err(self.broken(error, Some(Box::new(Held::regions(borrowed))))),
        }
    }
}

impl<P: Params, R: Results> SlotCall<P, R> {
    fn broken(&self, error: wasmtime::Error, borrowed: Option<Box<Held>>) -> CallFailure {
        CallFailure {
            error: Fault::during(&self.function, error),
            borrowed,
        }
    }

    /// Takes the results out of the callee's store, and ends the lends.
    #[inline]
    fn returned(
        &mut self,
        callee: &mut ServingGuest,
        mut results: R,
        borrowed: Borrowed,
        ended: Instant,
    ) -> Result<Result<SlotAnswer<R>, String>, CallFailure> {
        let bytes = results.copied_bytes();
        let (mut regions, mut lending) = (PackedRegions::default(), Lending::default());
        let into = (&mut regions, &mut lending);
        let packed = pack(
            callee.store(),
            &mut results,
            &self.caller,
            Caller::Receives,
            into,
        );
        let over = match borrowed.end_each(callee.store()) {
            Ok(over) => over,
            Err(error) => return Err(self.broken(error, None)),
        };
        let guest = callee.name();
        let regions = match packed {
            Ok(()) => (!regions.is_empty()).then(|| Box::new(regions)),
            Err(PassError::Fatal(error)) => return Err(self.broken(error, None)),
            Err(PassError::Refused(why)) => {
                return Ok(Err(format!(
                    "the results of guest `{guest}` cannot be passed: {why}"
                )));
            }
        };
        let charge = match bytes {
            0 => Ok(None),
            bytes => charge_results(&self.caller, guest, bytes).map(Some),
        };
        Ok(charge.map(|charge| SlotAnswer {
            results,
            regions,
            charge,
            over,
            ended,
        }))
    }
}

/// Takes the handles out of values, and out of the store of the guest that sends them. Their
/// regions are added to `regions`, and the lends to `lending`.
///
/// # Errors
///
/// [`PassError`]. Drop `regions` and `lending` then.
#[inline]
pub(super) fn pack(
    store: impl AsContextMut<Data = GuestState>,
    values: &mut impl Regions,
    to: &Recipient,
    caller: Caller,
    (regions, lending): (&mut PackedRegions, &mut Lending),
) -> Result<(), PassError> {
    let mut handles = values.take_regions();
    match handles.as_mut() {
        [] | [None, ..] => Ok(()),
        _ => regions
            .pack(store, handles.into_iter().flatten(), to, lending)
            .map_err(|error| caller.refused(error)),
    }
}

/// Drops the handles of values, for a call that is refused before it begins.
pub(super) fn discard(
    store: impl AsContextMut<Data = GuestState>,
    values: &mut impl Regions,
) -> wasmtime::Result<()> {
    PackedRegions::discard(store, values.take_regions().into_iter().flatten())
}

/// Puts regions into the store of the guest that receives them, and their handles into values.
/// The lends are added to `borrowed`.
#[inline]
pub(super) fn unpack<V: Regions>(
    regions: PackedRegions,
    values: &mut V,
    store: impl AsContextMut<Data = GuestState>,
    borrowed: &mut Borrowed,
) -> wasmtime::Result<()> {
    if regions.is_empty() {
        return Ok(());
    }
    let mut handles = V::Handles::default();
    let mut places = handles.as_mut().iter_mut();
    regions.unpack(store, borrowed, |handle| {
        if let Some(place) = places.next() {
            *place = Some(handle);
        }
    })?;
    values.put_regions(handles);
    Ok(())
}
