//! The primitives that guests wait with.
//!
//! With the feature `shuttle`, its scheduler decides at each use of them which guest goes on.

#[cfg(feature = "shuttle")]
pub(crate) use self::stepping::{mpsc, oneshot};
#[cfg(not(feature = "shuttle"))]
pub(crate) use tokio::sync::{mpsc, oneshot};
pub(crate) use tombolo_region::sync::{Mutex, MutexGuard, Notify};

/// The channels of tokio, with a step of the schedule before each use.
#[cfg(feature = "shuttle")]
mod stepping {
    pub(crate) mod mpsc {
        use std::task::{Context, Poll};

        use tokio::sync::mpsc as tokio;
        use tombolo_region::sync::step;

        pub(crate) use tokio::error;

        pub(crate) fn unbounded_channel<T>() -> (UnboundedSender<T>, UnboundedReceiver<T>) {
            let (sender, receiver) = tokio::unbounded_channel();
            (UnboundedSender(sender), UnboundedReceiver(receiver))
        }

        #[derive(Debug)]
        pub(crate) struct UnboundedSender<T>(tokio::UnboundedSender<T>);

        impl<T> UnboundedSender<T> {
            pub(crate) fn send(&self, item: T) -> Result<(), error::SendError<T>> {
                step();
                self.0.send(item)
            }

            pub(crate) fn is_closed(&self) -> bool {
                step();
                self.0.is_closed()
            }
        }

        #[derive(Debug)]
        pub(crate) struct UnboundedReceiver<T>(tokio::UnboundedReceiver<T>);

        impl<T> UnboundedReceiver<T> {
            pub(crate) fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
                step();
                self.0.poll_recv(context)
            }

            pub(crate) fn try_recv(&mut self) -> Result<T, error::TryRecvError> {
                step();
                self.0.try_recv()
            }

            pub(crate) fn close(&mut self) {
                step();
                self.0.close();
            }

            pub(crate) fn is_empty(&self) -> bool {
                step();
                self.0.is_empty()
            }
        }
    }

    pub(crate) mod oneshot {
        use tokio::sync::oneshot as tokio;
        use tombolo_region::sync::step;

        pub(crate) use tokio::Receiver;

        pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
            let (sender, receiver) = tokio::channel();
            (Sender(Some(sender)), receiver)
        }

        /// `None` only while it is dropped.
        #[derive(Debug)]
        pub(crate) struct Sender<T>(Option<tokio::Sender<T>>);

        impl<T> Sender<T> {
            pub(crate) fn send(mut self, item: T) -> Result<(), T> {
                step();
                match self.0.take() {
                    Some(sender) => sender.send(item),
                    None => Err(item),
                }
            }
        }

        impl<T> Drop for Sender<T> {
            fn drop(&mut self) {
                // The receiver learns of it.
                if self.0.is_some() {
                    step();
                }
            }
        }
    }
}
