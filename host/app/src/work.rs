//! Calls from guest to guest, on the callee's side.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use wasmtime::component::{ComponentExportIndex, Val};

use super::bundle::Bundle;
use super::exit::charge_results;
use super::guest::{Fault, ServingGuest};
use super::guests::{AppGuests, CallFailure};
use super::proxy::{Caller, PassError};
use super::values;
use tombolo::Recipient;
use tombolo_exchange::{GuestId, Request, SentRequest, Work};
use tombolo_region::Charge;

/// A value on its way, and the charge for it, on the caller's account.
pub(super) type Charged<R> = (R, Charge);

/// The work of a callee in one call.
#[allow(
    clippy::large_enum_variant,
    reason = "it is in a box, that of its call"
)]
pub(super) enum GuestWork {
    /// With any values.
    Values(SentRequest<AppGuests, Values>),
    /// With types of its own.
    Typed(Box<dyn TypedWork>),
}

impl Work<AppGuests> for GuestWork {
    async fn run(&mut self, callee: &mut ServingGuest, caller: GuestId) -> Result<(), CallFailure> {
        callee.start_clock();
        match self {
            GuestWork::Values(request) => Work::run(request, callee, caller).await,
            GuestWork::Typed(work) => work.run(callee, caller).await,
        }
    }

    fn reply(self) {
        match self {
            GuestWork::Values(request) => Work::reply(request),
            GuestWork::Typed(work) => work.reply(),
        }
    }

    fn reply_failure(self, why: String) {
        match self {
            GuestWork::Values(request) => Work::reply_failure(request, why),
            GuestWork::Typed(work) => work.reply_failure(why),
        }
    }
}

/// [`Work`] whose type is not named.
pub(super) trait TypedWork: Send {
    /// As [`Work::run`].
    fn run<'a>(
        &'a mut self,
        callee: &'a mut ServingGuest,
        caller: GuestId,
    ) -> Pin<Box<dyn Future<Output = Result<(), CallFailure>> + Send + 'a>>;

    /// As [`Work::reply`].
    fn reply(self: Box<Self>);

    /// As [`Work::reply_failure`].
    fn reply_failure(self: Box<Self>, why: String);
}

impl<R: Request<AppGuests>> TypedWork for SentRequest<AppGuests, R> {
    fn run<'a>(
        &'a mut self,
        callee: &'a mut ServingGuest,
        caller: GuestId,
    ) -> Pin<Box<dyn Future<Output = Result<(), CallFailure>> + Send + 'a>> {
        Box::pin(Work::run(self, callee, caller))
    }

    fn reply(self: Box<Self>) {
        Work::reply(*self);
    }

    fn reply_failure(self: Box<Self>, why: String) {
        Work::reply_failure(*self, why);
    }
}

/// A call with any values.
pub(super) struct Values {
    pub(super) export: ComponentExportIndex,
    /// With its interface, for messages.
    pub(super) function: Arc<str>,
    /// Whether the function is plain.
    pub(super) plain: bool,
    /// The parameters, and the charge for them on the caller's account. `None` once the call was
    /// made.
    pub(super) params: Option<(Bundle, Charge)>,
    /// The number of results.
    pub(super) results: usize,
    pub(super) caller: Recipient,
}

impl Request<AppGuests> for Values {
    type Answer = Charged<Bundle>;

    /// Makes the call, and charges the results to the caller, which decides how long they are
    /// kept.
    async fn call(
        &mut self,
        callee: &mut ServingGuest,
        from: GuestId,
    ) -> Result<Result<Charged<Bundle>, String>, CallFailure> {
        let (function, caller) = (&self.function, &self.caller);
        let (export, results) = (self.export, self.results);
        let broken = |error, borrowed| CallFailure {
            error: Fault::during(function, error),
            borrowed,
        };
        let Some((params, charge)) = self.params.take() else {
            unreachable!("a call is made once");
        };
        let (params, borrowed) = match params.unpack(callee.store()) {
            Ok(unpacked) => unpacked,
            Err(PassError::Refused(why)) => return Ok(Err(why)),
            Err(PassError::Fatal(error)) => return Err(broken(error, None)),
        };
        let mut results = vec![Val::Bool(false); results];
        let called = callee.enter(async |store, instance| {
            let function = instance
                .get_func(&mut *store, export)
                .ok_or_else(|| wasmtime::Error::msg("the function is missing"))?;
            function.call_async(store, &params, &mut results).await
        });
        if let Err(error) = called.await {
            return Err(broken(error, Some(Box::new(borrowed))));
        }
        drop((params, charge));
        let bytes = values::bytes(&results);
        let to = (from, caller);
        let packed = Bundle::pack(callee.store(), results, to, Caller::Receives);
        if let Err(error) = borrowed.end(callee.store()) {
            return Err(broken(error, None));
        }
        let guest = callee.name();
        match packed {
            Ok((bundle, _)) => {
                let charge = charge_results(caller, guest, bytes);
                Ok(charge.map(|charge| (bundle, charge)))
            }
            Err(PassError::Fatal(error)) => Err(broken(error, None)),
            Err(PassError::Refused(why)) => Ok(Err(format!(
                "the results of guest `{guest}` cannot be passed: {why}"
            ))),
        }
    }
}
