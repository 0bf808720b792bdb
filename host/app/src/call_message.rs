//! The messages to a guest: calls of other guests, and notices.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};
use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, Instance};

use super::proxy::{Bundle, Dropped};
use super::state::GuestState;
use super::waits::{self, LentRegions};
use tombolo::Recipient;
use tombolo::internal::Lends;
use tombolo_region::Charge;

/// A message to a guest's task.
pub(super) enum MailboxItem {
    Call(Box<Call>),
    /// No other guest has this resource of the guest's any more. Nobody waits for that.
    Drop(Dropped),
    /// No command runs any more.
    Stop,
}

/// A call on its way to the callee.
pub(super) struct Call {
    /// Dropped by the callee as soon as the call has returned. From then on, what the
    /// callee does leads back to no caller, even if the caller was not polled since. If the
    /// callee dies, the caller goes on waiting for what it lent.
    ///
    /// Declared first, so that it is dropped before the reply: a caller that learns of a
    /// dropped call no longer waits.
    pub(super) waiting: WaitEdge,
    pub(super) export: ComponentExportIndex,
    /// With the interface, for messages.
    pub(super) function: Arc<str>,
    pub(super) work: Work,
    /// The caller's span, to which the callee's work belongs.
    pub(super) span: tracing::Span,
}

/// The arguments of a call, and where its results go.
pub(super) enum Work {
    /// Any values.
    Values {
        params: Bundle,
        /// The charge for the parameters, on the caller's account.
        charge: Charge,
        /// The number of results.
        results: usize,
        caller: Recipient,
        reply: oneshot::Sender<Reply>,
    },
    /// One list of bytes.
    Bytes(Box<dyn ByteCall>),
}

/// How a call ended, for the caller.
pub(super) enum Reply {
    /// The results, with the charge for them on the caller's account.
    Done(Bundle, Charge),
    /// The callee is dead, or its results were refused on the way.
    Failed(String),
}

/// The fact that a guest waits for another.
pub(super) type WaitEdge = waits::WaitEdge<Lends>;

impl LentRegions for Lends {
    fn are_all_back(&self) -> bool {
        self.are_over()
    }
}

/// A call with its own types, as the callee's task makes it.
pub(super) trait ByteCall: Send {
    /// Makes the call and keeps its result.
    fn run<'a>(
        &'a mut self,
        store: &'a mut Store<GuestState>,
        instance: Instance,
        export: ComponentExportIndex,
    ) -> Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send + 'a>>;

    /// Sends the result to the caller.
    fn done(self: Box<Self>);

    /// Sends the caller the reason why there is no result.
    fn failed(self: Box<Self>, why: String);
}

/// A value on its way, and the charge for it, on the caller's account.
pub(super) type Charged<R> = (R, Charge);

/// The receiving side of a mailbox.
///
/// Dropping it drops what is queued, and also what another thread is just sending. A
/// caller that waits for an answer to that learns that there is none.
pub(super) struct Inbox(mpsc::UnboundedReceiver<MailboxItem>);

impl Inbox {
    /// Makes a queue: its sending side and its inbox.
    pub(super) fn new() -> (mpsc::UnboundedSender<MailboxItem>, Inbox) {
        let (queue, inbox) = mpsc::unbounded_channel();
        (queue, Inbox(inbox))
    }
}

impl Inbox {
    /// Receives the next item.
    pub(super) fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<MailboxItem>> {
        self.0.poll_recv(context)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.0.close();
        // The receiver's own drop misses an item that another thread, which found the
        // queue open, has not put there yet. That takes a moment.
        loop {
            match self.0.try_recv() {
                Ok(item) => drop(item),
                Err(mpsc::error::TryRecvError::Empty) => std::thread::yield_now(),
                Err(mpsc::error::TryRecvError::Disconnected) => break,
            }
        }
    }
}
