//! Calls from guest to guest, on the caller's side.
//!
//! A call goes through these steps, in this order:
//!
//! 1. The caller notes that it waits for the callee, and is refused if that closes a cycle.
//! 2. The arguments are charged to the caller and taken out of its store.
//! 3. The callee's mailbox takes the call: it is queued, or begins inline.
//! 4. The caller waits for the reply, and then for what it lent to be back.
//! 5. The results go into the caller's store.
//!
//! The call belongs to the callee's task. If the caller is ended meanwhile, its windows on
//! what it lent become zero pages ([`LenderGuard`]), and the callee goes on.

use std::sync::{Arc, Weak};
use std::time::Instant;

use tokio::sync::oneshot;
use tracing::Instrument;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentExportIndex, Val};

use super::call_message::{ByteCall, Call, Charged, Reply, WaitEdge, Work};
use super::call_stats::CallCounter;
use super::clock::Clock;
use super::link::{ErrorSlot, LinkedFunction};
use super::mailbox::{HasEnded, Mailbox};
use super::proxy::{Bundle, Caller, PassError};
use super::state::GuestState;
use super::table::{GuestEntry, GuestTable, Peer};
use super::values;
use crate::text;
use tombolo::{Lending, RegionView};
use tombolo_region::Charge;

/// The text for a caller whose app is gone.
const APP_GONE: &str = "the app has ended";

/// Returns the bytes of strings and lists of plain values in a value.
fn size(val: &Val) -> u64 {
    match val {
        Val::String(text) => text.len() as u64,
        Val::List(vals) => match vals.first() {
            Some(Val::U8(_) | Val::S8(_) | Val::Bool(_)) => vals.len() as u64,
            Some(Val::U16(_) | Val::S16(_)) => 2 * vals.len() as u64,
            Some(Val::U32(_) | Val::S32(_) | Val::Float32(_) | Val::Char(_)) => {
                4 * vals.len() as u64
            }
            Some(Val::U64(_) | Val::S64(_) | Val::Float64(_)) => 8 * vals.len() as u64,
            _ => vals.iter().map(size).sum(),
        },
        Val::Tuple(vals) | Val::FixedLengthList(vals) => vals.iter().map(size).sum(),
        Val::Record(fields) => fields.iter().map(|(_, val)| size(val)).sum(),
        Val::Variant(_, Some(val)) | Val::Option(Some(val)) => size(val),
        Val::Result(Ok(Some(val)) | Err(Some(val))) => size(val),
        _ => 0,
    }
}

/// A function of another guest, as an import of this one.
pub(super) struct Target {
    /// For the names in a refusal. The guest whose import this is keeps the table alive.
    table: Weak<GuestTable>,
    caller: Arc<Peer>,
    callee: Arc<Peer>,
    same_strand: bool,
    export: ComponentExportIndex,
    /// With its interface, for messages.
    function: Arc<str>,
    counter: Arc<CallCounter>,
    /// The number of results.
    results: usize,
    /// Whether handles can pass.
    handles: bool,
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

/// The lender's side of a call.
///
/// If the call is dropped before it has returned, the lender's windows on what it lent
/// become zero pages here, while the call still holds its store.
struct LenderGuard<'a> {
    store: StoreContextMut<'a, GuestState>,
    lending: Option<Lending>,
}

impl Drop for LenderGuard<'_> {
    fn drop(&mut self) {
        if let Some(lending) = self.lending.take()
            && let Err(error) = lending.abandon(&mut self.store)
        {
            let error = text::line(&error);
            tracing::error!("cannot take a cancelled lender's windows away: {error}");
        }
    }
}

/// Why a call did not get to its callee, or came to nothing there.
enum CallError {
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
            same_strand: caller.template.strand == callee.template.strand,
            export,
            function: name,
            counter,
            results: function.ty.results().len(),
            handles: function.handles,
            error_slot: function.error_slot,
        }
    }

    /// Makes a call in a span of its own, and counts it. The call learns when it began.
    pub(super) async fn watched<R>(&self, call: impl AsyncFnOnce(Instant) -> R) -> R {
        let span = tracing::info_span!(
            "call",
            caller = &*self.caller.name,
            callee = &*self.callee.name,
            function = &*self.function,
        );
        let begun = Instant::now();
        let result = call(begun).instrument(span).await;
        self.counter.add_call(begun.elapsed());
        result
    }

    /// Counts bytes that were passed by value.
    pub(super) fn count_copied(&self, bytes: u64) {
        self.counter.add_copied(bytes);
    }

    fn count_vals(&self, vals: &[Val]) {
        let bytes = vals.iter().map(size).sum();
        if bytes > 0 {
            self.count_copied(bytes);
        }
    }

    /// Notes that the caller waits for the guest of this mailbox, until the returned edge is
    /// dropped and what the edge was told of is back.
    ///
    /// # Errors
    ///
    /// The text for the caller, if the call would lead back to it.
    fn wait(&self, mailbox: &Mailbox) -> Result<WaitEdge, String> {
        // The caller runs, and its mailbox is replaced only after its end.
        let caller = self.caller.mailbox();
        mailbox
            .wait_from(&caller)
            .map_err(|cycle| match self.table.upgrade() {
                Some(table) => table.refuse_cycle(&cycle),
                None => APP_GONE.to_owned(),
            })
    }

    /// Calls the other guest with a list of bytes, and waits for it.
    pub(super) async fn call_bytes<R>(
        &self,
        clock: &Arc<Clock>,
        length: u64,
        call: Box<dyn ByteCall>,
        replied: oneshot::Receiver<Result<Charged<R>, String>>,
    ) -> Result<Charged<R>, NoErrorSlot> {
        let answer = self.watched(async |begun| {
            let mailbox = self.callee.mailbox();
            let waiting = self.wait(&mailbox)?;
            self.count_copied(length);
            let _paused = clock.pause(begun);
            let call = Box::new(Call {
                export: self.export,
                function: self.function.clone(),
                work: Work::Bytes(call),
                span: tracing::Span::current(),
                waiting,
            });
            match mailbox.send(call, self.same_strand) {
                Ok(()) => replied.await.unwrap_or_else(|_| Err(mailbox.exit_reason())),
                Err(HasEnded) => Err(mailbox.exit_reason()),
            }
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
        let why = match self.exchange(store, params).await {
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
        let (mailbox, waiting, charge) = match admitted {
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
                let to = (self.callee.id, &mailbox.recipient);
                Bundle::pack(&mut store, params, to, Caller::Sends)?
            }
            false => Bundle::plain(params),
        };
        waiting.for_lends(lending.lends());
        let mut lender = LenderGuard {
            store,
            lending: Some(lending),
        };
        let (reply, replied) = oneshot::channel();
        let call = Box::new(Call {
            export: self.export,
            function: self.function.clone(),
            work: Work::Values {
                params,
                charge,
                results: self.results,
                caller,
                reply,
            },
            span: tracing::Span::current(),
            waiting,
        });
        let paused = clock.pause(Instant::now());
        let reply = match mailbox.send(call, self.same_strand) {
            Ok(()) => replied.await.ok(),
            Err(HasEnded) => None,
        };
        // Also after the callee has died: it may have lent on, to a call that goes on.
        if let Some(lending) = &lender.lending {
            lending.over().await;
        }
        drop(paused);
        if let Some(lending) = lender.lending.take() {
            lending.end(&mut lender.store)?;
        }
        match reply {
            Some(Reply::Done(bundle, charge)) => {
                lender.store.data_mut().keep_in_call(charge);
                let (vals, _) = bundle.unpack(&mut lender.store)?;
                self.count_vals(&vals);
                Ok(vals)
            }
            Some(Reply::Failed(why)) => Err(CallError::Refused(why)),
            None => Err(CallError::Refused(mailbox.exit_reason())),
        }
    }

    /// Checks that the call may begin, and charges its arguments twice to the caller. One
    /// charge is for what wasmtime has lifted, and is kept in the store until the call has
    /// returned. The other is for the copy that goes to the callee, which may outlive the
    /// caller; it is returned.
    fn admit(
        &self,
        store: &mut StoreContextMut<'_, GuestState>,
        params: &[Val],
    ) -> Result<(Arc<Mailbox>, WaitEdge, Charge), String> {
        let mailbox = self.callee.mailbox();
        let waiting = self.wait(&mailbox)?;
        if mailbox.is_closed() {
            return Err(mailbox.exit_reason());
        }
        let bytes = values::bytes(params);
        let charge = |store: &StoreContextMut<'_, GuestState>| {
            let charge = store.data().charge(bytes);
            charge.map_err(|exhausted| exhausted.to_string())
        };
        let (lifted, copied) = (charge(store)?, charge(store)?);
        store.data_mut().keep_in_call(lifted);
        Ok((mailbox, waiting, copied))
    }
}

#[cfg(test)]
mod tests {
    use super::super::guest_id::GuestId;
    use super::*;
    use tombolo::RegionHost;
    use tombolo::internal::Lends;

    fn mailbox(guest: usize) -> Arc<Mailbox> {
        let recipient = RegionHost::new().context("a").build().recipient();
        let (mailbox, _inbox) = Mailbox::new(GuestId::new(guest), "a".into(), recipient);
        mailbox
    }

    fn wait(from: &Mailbox, to: &Mailbox) -> Result<WaitEdge, Vec<usize>> {
        let indices = |cycle: Vec<GuestId>| cycle.into_iter().map(GuestId::index).collect();
        to.wait_from(from).map_err(indices)
    }

    /// Returns a lend that is over only after it is revoked.
    fn lend() -> (tombolo::Region, Lends, impl FnOnce()) {
        let host = RegionHost::new();
        let region = host.create("lent", 1).unwrap();
        let to = host.context("borrower").build().recipient();
        let (lent, lends) = Lends::to(&to, &region, tombolo::Rights::READ).unwrap();
        let revoked = lends.clone();
        (region, lends, move || {
            revoked.revoke();
            drop(lent);
        })
    }

    // rule 11
    #[test]
    fn cycle_is_refused_until_a_call_returns() {
        let [a, b, c] = [0, 1, 2].map(mailbox);
        let first = wait(&a, &b).unwrap();
        let second = wait(&b, &c).unwrap();
        assert_eq!(wait(&c, &a).unwrap_err(), [2, 0, 1, 2]);
        drop(second);
        assert!(wait(&c, &a).is_ok());
        drop(first);
        assert!([a, b, c].iter().all(|it| !it.waits()));
    }

    // rule 11
    #[test]
    fn returned_caller_waits_for_its_lends() {
        let [a, b, c] = [0, 1, 2].map(mailbox);
        let (_region, lends, revoke) = lend();
        let first = wait(&a, &b).unwrap();
        first.for_lends(lends);
        let second = wait(&b, &c).unwrap();
        // `b` has died. `c` goes on with the region that `b` lent on.
        drop(first);
        assert!(wait(&c, &a).is_err());
        revoke();
        assert!(wait(&c, &a).is_ok());
        drop(second);
    }

    // rule 11
    #[test]
    fn new_incarnation_inherits_no_waits() {
        let [a, b, c] = [0, 1, 2].map(mailbox);
        // `a` is ended while `b` works for it, and is restarted.
        let old = wait(&a, &b).unwrap();
        let a = mailbox(0);
        // `b` may call it.
        drop(wait(&b, &a).unwrap());
        // It calls `c`. That `b` returns changes nothing about it.
        let new = wait(&a, &c).unwrap();
        drop(old);
        assert!(wait(&c, &a).is_err(), "`a` waits for `c`");
        drop(new);
        assert!(wait(&c, &a).is_ok());
    }

    // rule 11
    #[test]
    fn lends_to_an_old_incarnation_are_waited_for() {
        let [x, a, b] = [0, 1, 2].map(mailbox);
        // `x` lent to `a`, which lent on to `b` and was ended.
        let (_region, lends, revoke) = lend();
        let outer = wait(&x, &a).unwrap();
        outer.for_lends(lends);
        let inner = wait(&a, &b).unwrap();
        drop(outer);
        let restarted = mailbox(1);
        let new = wait(&restarted, &b).unwrap();
        assert!(wait(&b, &x).is_err(), "`x` waits for what `b` has");
        revoke();
        assert!(wait(&b, &x).is_ok());
        drop((inner, new));
        assert!(!a.waits() && !restarted.waits());
    }
}
