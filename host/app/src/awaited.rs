//! Calls by async functions, on the caller's side.
//!
//! The caller goes on while its call is under way. So this code has the caller's store only
//! between two waits, and must not enter another store: wasmtime polls it within the caller's
//! own. All such calls are queued in the callee's mailbox.
//!
//! # Lending
//!
//! The lender's other tasks run on. So its windows on what it lends are masked, always, from the
//! first poll until the call has returned and all re-lends are over. A caller that cancels the
//! call cannot end it: the callee goes on. See [`Parting`] for the windows of such a caller.

use std::sync::Arc;

use wasmtime::component::{Accessor, Val};
use wasmtime::{AsContextMut, StoreContextMut};

use super::bundle::Bundle;
use super::call::{CallError, Target};
use super::clock::AwaitedGuest;
use super::guests::{AppGuests, Task};
use super::mailbox::CallLends;
use super::parting::Parting;
use super::proxy::Caller;
use super::state::GuestState;
use super::task_table::TaskEntry;
use super::values;
use super::work::{Charged, GuestWork, Values};
use tombolo::Lending;
use tombolo::internal::{LendingInternals as _, pack_masked};
use tombolo_exchange::{Lender, SentLentCall, WaitCanceller};
use tombolo_region::Charge;

/// The host memory of a call that is queued or under way, without its values, in bytes. It is
/// charged because a caller may cancel a call and make another, while the callee has both.
const CALL_BYTES: u64 = 1024;

/// A caller that goes on while it lends.
struct TaskLender<'a> {
    accessor: &'a Accessor<GuestState>,
    parting: Arc<Parting>,
    canceller: WaitCanceller<CallLends>,
}

impl Lender<AppGuests> for TaskLender<'_> {
    type Lending = Lending;
    type Error = wasmtime::Error;

    fn lends(lending: &Lending) -> CallLends {
        CallLends(lending.lends())
    }

    async fn wait_until_over(lending: &Lending) {
        lending.over().await;
    }

    fn end(&mut self, lending: Lending) -> wasmtime::Result<()> {
        self.accessor.with(|access| lending.end(access))
    }

    /// The caller has cancelled the call, or ends.
    fn abandon(&mut self, lending: Lending) {
        self.canceller.cancel();
        self.parting.add(lending);
    }
}

/// A call that was sent.
struct Sent<'a> {
    call: SentLentCall<AppGuests, TaskLender<'a>, Charged<Bundle>>,
    /// The charge for the arguments as wasmtime has lifted them, which it keeps for as long.
    _lifted: Charge,
    _timer: Option<AwaitedGuest>,
}

/// Returns the call in progress whose task calls the host. `None` if the task began without a
/// call, or its call has returned.
fn current_task(
    store: &mut StoreContextMut<'_, GuestState>,
) -> wasmtime::Result<Option<TaskEntry>> {
    let Some(id) = store.async_call_stack()?.last() else {
        return Ok(None);
    };
    Ok(store.data().tasks.get(id).cloned())
}

impl Target {
    /// Calls the other guest, and waits for it. A refusal goes to the caller as it does with
    /// [`call`](Target::call).
    pub(super) async fn call_awaited(
        &self,
        accessor: &Accessor<GuestState>,
        params: &[Val],
        results: &mut [Val],
    ) -> wasmtime::Result<()> {
        let exchanged = self.exchange_awaited(accessor, params).await;
        self.deliver(exchanged, results)
    }

    async fn exchange_awaited(
        &self,
        accessor: &Accessor<GuestState>,
        params: &[Val],
    ) -> Result<Vec<Val>, CallError> {
        // In the first poll, while the caller's task is wasmtime's current one: what it lends
        // belongs to that.
        let Sent {
            call,
            _lifted,
            _timer,
        } = accessor.with(|mut access| self.send(access.as_context_mut(), accessor, params))?;
        let returned = call.returned().await;
        drop(_timer);
        let (_, answer) = returned.end()?;
        let (bundle, charge) = answer.map_err(CallError::Refused)?;
        let (vals, _) = accessor.with(|mut access| {
            access.data_mut().keep_in_call(charge);
            bundle.unpack(access)
        })?;
        self.count_vals(&vals);
        Ok(vals)
    }

    /// Takes the arguments out of the caller's store, and sends the call.
    fn send<'a>(
        &self,
        mut store: StoreContextMut<'_, GuestState>,
        accessor: &'a Accessor<GuestState>,
        params: &[Val],
    ) -> Result<Sent<'a>, CallError> {
        let current = current_task(&mut store)?;
        let (task, timer) = match current {
            Some(entry) => (entry.task, Some(entry.timer.await_guest())),
            None => (Task::detached(self.caller_id()), None),
        };
        let admitted = self.begin_awaited(&task).and_then(|begun| {
            let bytes = values::bytes(params).saturating_add(CALL_BYTES);
            let charge = || {
                let charge = store.data().charge(bytes);
                charge.map_err(|exhausted| exhausted.to_string())
            };
            Ok((begun, charge()?, charge()?))
        });
        let ((outgoing, canceller), lifted, copied) = match admitted {
            Ok(admitted) => admitted,
            Err(why) => {
                // The canonical ABI has taken the handles from the caller already.
                Bundle::discard(&mut store, values::handles(params))?;
                return Err(CallError::Refused(why));
            }
        };
        let params = params.to_vec();
        self.count_vals(&params);
        let caller = store.data().recipient();
        let (params, lending) = match self.passes_handles() {
            true => {
                let to = (self.callee_id(), outgoing.recipient());
                pack_masked(&mut store, |store| {
                    Bundle::pack(store, params, to, Caller::Sends)
                })?
            }
            false => Bundle::plain(params),
        };
        let lender = TaskLender {
            accessor,
            parting: store.data().parting.clone(),
            canceller,
        };
        let request: Values = self.values((params, copied), caller);
        let call = outgoing.lend(lender, lending);
        Ok(Sent {
            call: call.send(request, GuestWork::Values),
            _lifted: lifted,
            _timer: timer,
        })
    }
}
