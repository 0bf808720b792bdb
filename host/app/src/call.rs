//! Calls from guest to guest, on the caller's side.
//!
//! `tombolo-exchange` takes the steps of a call in their order; see [`Outgoing`]. Here are the
//! values and the charges for them.

use std::future::ready;
use std::marker::PhantomData;
use std::sync::{Arc, Weak};
use std::time::Instant;

use tracing::{Instrument, Span};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentExportIndex, Val};

use super::bundle::Bundle;
use super::call_stats::CallCounter;
use super::clock::{Clock, Paused};
use super::guests::{AppGuests, Mailbox, Outgoing, Task};
use super::link::{ErrorSlot, LinkedFunction};
use super::mailbox::CallLends;
use super::proxy::{Caller, PassError};
use super::slots::{self, HostCall, Params, Results, SlotAnswer, SlotCall};
use super::state::GuestState;
use super::table::{GuestEntry, GuestTable, Peer};
use super::values;
use super::work::{Charged, GuestWork, Values};
use crate::text;
use tombolo::internal::{LendingInternals as _, PackedRegions};
use tombolo::{Borrowed, Lending, Recipient, RegionView};
use tombolo_exchange::{
    CallRefused, GuestId, IdleCallee, InlineCall, Lender, Request, Returned, SentLentCall,
    SentRequest, WaitCanceller,
};
use tombolo_region::Charge;

/// The text for a caller whose app is gone.
const APP_GONE: &str = "the app has ended";

/// A function of another guest, as an import of this one.
pub(super) struct Target {
    /// For the names in a refusal. The guest whose import this is keeps the table alive.
    table: Weak<GuestTable>,
    caller: Arc<Peer>,
    callee: Arc<Peer>,
    export: ComponentExportIndex,
    /// With its interface, for messages.
    function: Arc<str>,
    counter: Arc<CallCounter>,
    /// The number of results.
    results: usize,
    /// Whether handles can pass.
    handles: bool,
    /// Whether the function is plain.
    plain: bool,
    error_slot: Option<ErrorSlot>,
}

/// A guest called another through a function whose result cannot carry an error text.
#[derive(Debug, thiserror::Error)]
#[error(
    "{why}; `{function}` cannot report this to its caller: its result has no `string` error and no \
     `peer-failed` case"
)]
pub(super) struct NoErrorSlot {
    function: Arc<str>,
    pub(super) why: String,
}

/// The store of a caller that lends.
struct LenderStore<'a>(StoreContextMut<'a, GuestState>);

impl Lender<AppGuests> for LenderStore<'_> {
    type Lending = Lending;
    type Error = wasmtime::Error;

    #[inline]
    fn lends(lending: &Lending) -> CallLends {
        CallLends(lending.lends())
    }

    async fn wait_until_over(lending: &Lending) {
        lending.over().await;
    }

    #[inline]
    fn end(&mut self, lending: Lending) -> wasmtime::Result<()> {
        lending.end(&mut self.0)
    }

    fn abandon(&mut self, lending: Lending) {
        if let Err(error) = lending.abandon(&mut self.0) {
            let error = text::line(&error);
            tracing::error!("cannot take a cancelled lender's windows away: {error}");
        }
    }
}

/// Why a call did not get to its callee, or came to nothing there.
pub(super) enum CallError {
    /// The text for the caller.
    Refused(String),
    /// The caller cannot go on.
    Fatal(wasmtime::Error),
}

impl From<wasmtime::Error> for CallError {
    fn from(error: wasmtime::Error) -> CallError {
        CallError::Fatal(error)
    }
}

impl From<PassError> for CallError {
    fn from(error: PassError) -> CallError {
        match error {
            PassError::Refused(why) => CallError::Refused(why),
            PassError::Fatal(error) => CallError::Fatal(error),
        }
    }
}

impl Target {
    /// Describes a function that the first of these guests imports from the second one.
    pub(super) fn new(
        table: &Arc<GuestTable>,
        (caller, callee): (&GuestEntry, &GuestEntry),
        function: &LinkedFunction,
        export: ComponentExportIndex,
        name: Arc<str>,
        counter: Arc<CallCounter>,
    ) -> Target {
        Target {
            table: Arc::downgrade(table),
            caller: caller.peer.clone(),
            callee: callee.peer.clone(),
            export,
            function: name,
            counter,
            results: function.ty.results().len(),
            handles: function.handles,
            plain: !function.ty.async_(),
            error_slot: function.error_slot,
        }
    }

    /// Makes the span of a call.
    fn span(&self) -> Span {
        tracing::debug_span!(
            "call",
            caller = &*self.caller.name,
            callee = &*self.callee.name,
            function = &*self.function,
        )
    }

    /// Makes a call in a span of its own, and counts it. The call learns when it began.
    pub(super) async fn watched<R>(&self, call: impl AsyncFnOnce(Instant) -> R) -> R {
        let begun = Instant::now();
        let result = call(begun).instrument(self.span()).await;
        self.counter.add_call(begun.elapsed());
        result
    }

    /// Counts bytes that were passed by value.
    pub(super) fn count_copied(&self, bytes: u64) {
        self.counter.add_copied(bytes);
    }

    pub(super) fn count_vals(&self, vals: &[Val]) {
        let bytes = values::copied_bytes(vals);
        if bytes > 0 {
            self.count_copied(bytes);
        }
    }

    /// Begins a call: notes that the caller waits for the callee.
    ///
    /// # Errors
    ///
    /// The text for the caller, if the call would lead back to it or the callee has ended.
    fn begin(&self) -> Result<Outgoing, String> {
        // The caller runs, and its mailbox is replaced only after its end.
        self.begin_with(self.callee.mailbox(), &self.caller.mailbox())
    }

    fn begin_with(&self, callee: Arc<Mailbox>, caller: &Mailbox) -> Result<Outgoing, String> {
        Outgoing::begin(callee, caller).map_err(|refused| self.refusal(refused))
    }

    /// Begins a call by an async function: notes that this task awaits the callee. Otherwise as
    /// [`begin`](Target::begin).
    pub(super) fn begin_awaited(
        &self,
        caller: &Task,
    ) -> Result<(Outgoing, WaitCanceller<CallLends>), String> {
        let begun = Outgoing::begin_awaited(self.callee.mailbox(), caller);
        begun.map_err(|refused| self.refusal(refused))
    }

    fn refusal(&self, refused: CallRefused) -> String {
        match refused {
            CallRefused::Cycle(cycle) => match self.table.upgrade() {
                Some(table) => table.refuse_cycle(&cycle),
                None => APP_GONE.to_owned(),
            },
            CallRefused::Ended(why) => why,
        }
    }

    pub(super) fn caller_id(&self) -> GuestId {
        self.caller.id
    }

    pub(super) fn callee_id(&self) -> GuestId {
        self.callee.id
    }

    /// Returns whether handles can pass.
    pub(super) fn passes_handles(&self) -> bool {
        self.handles
    }

    /// Makes the request with these arguments, for this caller.
    pub(super) fn values(&self, params: Charged<Bundle>, caller: Recipient) -> Values {
        Values {
            export: self.export,
            function: self.function.clone(),
            plain: self.plain,
            params: Some(params),
            results: self.results,
            caller,
        }
    }

    /// Makes a call with types of its own that lends nothing, and waits for the answer.
    /// `request` gets the function's export and its name. `length` is the number of bytes that
    /// are passed.
    pub(super) async fn call_typed<R: Request<AppGuests>>(
        &self,
        clock: &Arc<Clock>,
        length: u64,
        request: impl FnOnce(ComponentExportIndex, Arc<str>) -> R,
    ) -> Result<R::Answer, NoErrorSlot> {
        let answer = self.watched(async |begun| {
            let outgoing = self.begin()?;
            self.count_copied(length);
            let _paused = clock.pause(begun);
            let request = request(self.export, self.function.clone());
            let boxed = |sent: SentRequest<AppGuests, R>| GuestWork::Typed(Box::new(sent));
            let sent = outgoing.send(request, boxed);
            sent.answer().await
        });
        answer.await.map_err(|why| self.refused(why))
    }

    /// Logs that a call was refused or failed. Returns the error for a caller whose function
    /// has no error slot.
    pub(super) fn refused(&self, why: String) -> NoErrorSlot {
        tracing::info!(function = &*self.function, why, "call refused or failed");
        NoErrorSlot {
            function: self.function.clone(),
            why,
        }
    }

    /// Calls the other guest, and waits for it. A refusal goes to the caller as a value if
    /// the function has an error slot, and by a trap otherwise.
    pub(super) async fn call(
        &self,
        store: StoreContextMut<'_, GuestState>,
        params: &[Val],
        results: &mut [Val],
    ) -> wasmtime::Result<()> {
        let exchanged = self.exchange(store, params).await;
        self.deliver(exchanged, results)
    }

    /// Passes the results of a call, or the refusal, to the caller.
    pub(super) fn deliver(
        &self,
        exchanged: Result<Vec<Val>, CallError>,
        results: &mut [Val],
    ) -> wasmtime::Result<()> {
        let why = match exchanged {
            Ok(vals) => {
                results
                    .iter_mut()
                    .zip(vals)
                    .for_each(|(slot, val)| *slot = val);
                return Ok(());
            }
            Err(CallError::Fatal(error)) => return Err(error),
            Err(CallError::Refused(why)) => why,
        };
        let refused = self.refused(why);
        match (self.error_slot, results) {
            (Some(slot), [result]) => {
                *result = slot.error(refused.why);
                Ok(())
            }
            _ => Err(refused.into()),
        }
    }

    /// Passes the arguments to the callee and gets the results back.
    async fn exchange(
        &self,
        mut store: StoreContextMut<'_, GuestState>,
        params: &[Val],
    ) -> Result<Vec<Val>, CallError> {
        let admitted = self.admit(&mut store, params);
        let (outgoing, charge) = match admitted {
            Ok(admitted) => admitted,
            Err(why) => {
                // The canonical ABI has taken the handles from the caller already.
                Bundle::discard(&mut store, values::handles(params))?;
                return Err(CallError::Refused(why));
            }
        };
        let params = params.to_vec();
        self.count_vals(&params);
        let caller = store.data_mut().region_ctx().recipient();
        let clock = store.data().clock.clone();
        let (params, lending) = match self.handles {
            true => {
                let to = (self.callee.id, outgoing.recipient());
                Bundle::pack(&mut store, params, to, Caller::Sends)?
            }
            false => Bundle::plain(params),
        };
        let call = outgoing.lend(LenderStore(store), lending);
        let request = self.values((params, charge), caller);
        let paused = clock.pause(Instant::now());
        let sent = call.send(request, GuestWork::Values);
        let returned = sent.returned().await;
        drop(paused);
        let (LenderStore(mut store), answer) = returned.end()?;
        let (bundle, charge) = answer.map_err(CallError::Refused)?;
        store.data_mut().keep_in_call(charge);
        let (vals, _) = bundle.unpack(&mut store)?;
        self.count_vals(&vals);
        Ok(vals)
    }

    /// Begins the call, and charges its arguments twice to the caller. One charge is for what
    /// wasmtime has lifted, and is kept in the store until the call has returned. The other is
    /// for the copy that goes to the callee, which may outlive the caller; it is returned.
    fn admit(
        &self,
        store: &mut StoreContextMut<'_, GuestState>,
        params: &[Val],
    ) -> Result<(Outgoing, Charge), String> {
        let outgoing = self.begin()?;
        let bytes = values::bytes(params);
        let charge = |store: &StoreContextMut<'_, GuestState>| {
            let charge = store.data().charge(bytes);
            charge.map_err(|exhausted| exhausted.to_string())
        };
        let (lifted, copied) = (charge(store)?, charge(store)?);
        store.data_mut().keep_in_call(lifted);
        Ok((outgoing, copied))
    }

    /// Makes a call with slots in a span of its own, and counts it. Otherwise as
    /// [`call`](Target::call).
    ///
    /// Does at once what comes before the wait. So most calls have returned when this returns, and
    /// the future has only their results.
    pub(super) fn call_slots<'a, P: Params, R: Results>(
        self: &Arc<Self>,
        store: StoreContextMut<'a, GuestState>,
        params: P,
    ) -> HostCall<'a, R> {
        let begun = Instant::now();
        let span = self.span();
        let entered = span.enter();
        let (result, ended) = match self.start_slots::<P, R>(store, params, begun) {
            Ok(Started::Returned(results, ended)) => (Ok(results), ended),
            Ok(Started::Waits(sent, paused)) => {
                drop(entered);
                let target = self.clone();
                let rest = async move {
                    let returned = sent.returned().await;
                    drop(paused);
                    let result = target.finish_slots(returned);
                    target.counter.add_call(begun.elapsed());
                    target.told(result)
                };
                return Box::new(rest.instrument(span));
            }
            Err(error) => (Err(error), Instant::now()),
        };
        self.counter
            .add_call(ended.saturating_duration_since(begun));
        match result {
            Ok(results) => results.returned(),
            Err(error) => Box::new(ready(self.told(Err(error)))),
        }
    }

    /// Returns the results for the caller, which carry a refusal if they can.
    fn told<R: Results>(&self, result: Result<R, CallError>) -> wasmtime::Result<R> {
        match result {
            Ok(results) => Ok(results),
            Err(CallError::Fatal(error)) => Err(error),
            Err(CallError::Refused(why)) => {
                let refused = self.refused(why);
                R::refusal(refused.why.clone()).ok_or_else(|| refused.into())
            }
        }
    }

    /// Passes the arguments to the callee. If the callee is idle and does not wait, gets the
    /// results back.
    fn start_slots<'a, P: Params, R: Results>(
        &self,
        mut store: StoreContextMut<'a, GuestState>,
        mut params: P,
        begun: Instant,
    ) -> Result<Started<'a, R>, CallError> {
        let way = match self.admit_slots() {
            Ok(way) => way,
            Err(why) => {
                // The canonical ABI has taken the handles from the caller already.
                slots::discard(&mut store, &mut params)?;
                return Err(CallError::Refused(why));
            }
        };
        let (mut regions, mut lending) = (PackedRegions::default(), Lending::default());
        let into = (&mut regions, &mut lending);
        slots::pack(
            &mut store,
            &mut params,
            way.recipient(),
            Caller::Sends,
            into,
        )?;
        let caller = store.data().recipient();
        let paused = store.data().clock.pause(begun);
        let lender = LenderStore(store);
        let request = |begun| SlotCall::<P, R> {
            export: self.export,
            function: self.function.clone(),
            params: Some(params),
            regions,
            caller,
            begun,
            results: PhantomData,
        };
        let mut returned = match way {
            Way::Inline(idle) => match idle.lend(lender, lending).run(request(Some(begun))) {
                InlineCall::Returned(returned) => returned,
                InlineCall::Waits(sent) => return Ok(Started::Waits(sent, paused)),
            },
            Way::Queued(outgoing) => {
                let boxed = |sent| GuestWork::Typed(Box::new(sent));
                let call = outgoing.lend(lender, lending);
                let sent = call.send(request(None), boxed);
                return Ok(Started::Waits(sent, paused));
            }
        };
        let ended = match returned.parts() {
            (Ok(answer), lending) => {
                if let Some(lending) = lending
                    && answer.over
                {
                    lending.note_over();
                }
                answer.ended
            }
            (Err(_), _) => Instant::now(),
        };
        paused.resume_at(ended);
        Ok(Started::Returned(self.finish_slots(returned)?, ended))
    }

    /// Lets the caller go on, and puts the results into its store.
    #[inline]
    fn finish_slots<R: Results>(
        &self,
        returned: Returned<AppGuests, LenderStore<'_>, SlotAnswer<R>>,
    ) -> Result<R, CallError> {
        let (LenderStore(mut store), answer) = returned.end()?;
        let SlotAnswer {
            mut results,
            regions,
            charge,
            ..
        } = answer.map_err(CallError::Refused)?;
        if let Some(charge) = charge {
            store.data_mut().keep_in_call(charge);
        }
        if let Some(regions) = regions {
            let mut borrowed = Borrowed::default();
            slots::unpack(*regions, &mut results, &mut store, &mut borrowed)?;
        }
        match results.copied_bytes() {
            0 => {}
            bytes => self.count_copied(bytes),
        }
        Ok(results)
    }

    /// Begins a call with slots, as [`begin`](Target::begin) does. Takes the callee if it is idle.
    #[inline]
    fn admit_slots(&self) -> Result<Way, String> {
        // The caller runs, and its mailbox is replaced only after its end.
        let (caller, callee) = (self.caller.mailbox(), self.callee.mailbox());
        Ok(match IdleCallee::take(callee, &caller) {
            Ok(idle) => Way::Inline(idle),
            Err(callee) => Way::Queued(self.begin_with(callee, &caller)?),
        })
    }
}

/// A call with slots that was begun.
enum Started<'a, R> {
    /// It has returned, at this time.
    Returned(R, Instant),
    /// The caller waits, and its clock stands still.
    Waits(
        SentLentCall<AppGuests, LenderStore<'a>, SlotAnswer<R>>,
        Paused,
    ),
}

/// The way to a callee.
enum Way {
    /// It is idle, and in the caller's hands.
    Inline(IdleCallee<AppGuests>),
    /// The call goes through its mailbox.
    Queued(Outgoing),
}

impl Way {
    /// Returns the callee as the receiver of the arguments.
    fn recipient(&self) -> &Recipient {
        match self {
            Way::Inline(idle) => idle.recipient(),
            Way::Queued(outgoing) => outgoing.recipient(),
        }
    }
}
