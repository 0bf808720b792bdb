//! The queue of a guest, from which it takes calls and notices.

use std::task::{Context, Poll};

use crate::call::Call;
use crate::guests::ExchangeTypes;
use crate::sync::mpsc;

/// A message to a guest's task.
pub(crate) enum MailboxItem<G: ExchangeTypes> {
    Call(Box<Call<G>>),
    Notice(G::Notice),
    /// No command runs any more.
    Stop,
}

/// The receiving side of a mailbox.
///
/// Dropping it drops what is queued, and any item that another thread is sending at that moment.
/// A caller that waits for an answer to that learns that there is none.
pub struct Inbox<G: ExchangeTypes>(mpsc::UnboundedReceiver<MailboxItem<G>>);

impl<G: ExchangeTypes> Inbox<G> {
    /// Makes a queue: its sending side and its inbox.
    pub(crate) fn new() -> (mpsc::UnboundedSender<MailboxItem<G>>, Inbox<G>) {
        let (queue, inbox) = mpsc::unbounded_channel();
        (queue, Inbox(inbox))
    }

    /// Receives the next item.
    pub(crate) fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<MailboxItem<G>>> {
        self.0.poll_recv(context)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<G: ExchangeTypes> Drop for Inbox<G> {
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
