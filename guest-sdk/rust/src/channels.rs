//! Channels: messages from guest to guest, in the order in which they were sent.
//!
//! The operator defines each channel, the guests that send, and the guest that receives.
//! A message consists of bytes, which are copied, and regions, which are moved.
//!
//! ```no_run
//! use tombolo_guest::channels::{Receiver, Sender};
//!
//! # fn work(_: &[u8]) {}
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // A stage of a pipeline: receives each frame, works on it in place, and sends it on.
//! let frames = Receiver::open("frames")?;
//! let done = Sender::open("done")?;
//! while let Some(mut message) = frames.receive()? {
//!     let frame = message.regions.pop().ok_or("a message without a frame")?;
//!     work(&frame.try_read(..)?);
//!     done.send(&message.bytes, vec![frame])?;
//! }
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bindings::channels as wit;
#[cfg(feature = "async")]
use crate::bindings::concurrent;
use crate::pollable::Pollable;
use crate::region::Region;

/// The reason why no message was sent or received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelError {
    /// This guest has no such channel.
    NotPermitted,
    /// For a sender: the channel is full. For a receiver: the channel is empty, or its
    /// receiver is already open.
    WouldBlock,
    /// Sending would wait for good: the channel is full, and this guest itself holds its
    /// receiver. The text names the channel.
    Deadlock(String),
    /// The message has more bytes or more regions than the channel accepts. The text names
    /// the limit.
    TooLarge(String),
    /// No guest will receive, or no guest will send more.
    Closed,
    /// One of the regions cannot be moved, or the regions exceed the receiver's limits even
    /// if it held nothing else. The text names the region or the limit.
    Refused(String),
    /// A limit is exhausted. The text names it.
    Exhausted(String),
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPermitted => f.write_str(
                "not permitted: this guest has no such channel; use the name in the manifest, or \
                 ask the operator to grant it",
            ),
            Self::WouldBlock => f.write_str(
                "would block: the channel is full or empty, or its receiver is already open; \
                 wait, or try again later",
            ),
            Self::Deadlock(text) => write!(f, "deadlock: {text}"),
            Self::TooLarge(text) => write!(f, "too large: {text}"),
            Self::Closed => f.write_str("closed: the other side of the channel is gone"),
            Self::Refused(text) => write!(f, "refused: {text}"),
            Self::Exhausted(text) => write!(f, "exhausted: {text}"),
        }
    }
}

impl std::error::Error for ChannelError {}

impl From<wit::Refusal> for ChannelError {
    fn from(refusal: wit::Refusal) -> Self {
        match refusal {
            wit::Refusal::NotPermitted => Self::NotPermitted,
            wit::Refusal::WouldBlock => Self::WouldBlock,
            wit::Refusal::TooLarge(text) => Self::TooLarge(text),
            wit::Refusal::Closed => Self::Closed,
            wit::Refusal::Refused(text) => Self::Refused(text),
            wit::Refusal::Exhausted(text) => Self::Exhausted(text),
        }
    }
}

/// A message that was not sent, with its regions.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unsent {
    /// The reason.
    pub why: ChannelError,
    /// The regions, which this guest still holds.
    pub regions: Vec<Region>,
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message was not sent: {}", self.why)
    }
}

// The reason is part of the text, and so no source.
impl std::error::Error for Unsent {}

/// A message that was received.
#[derive(Debug)]
#[non_exhaustive]
pub struct Message {
    /// The name of the guest that sent it.
    pub from: String,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The regions.
    pub regions: Vec<Region>,
}

/// The sending endpoint of a channel.
///
/// When each guest that may send has dropped its last sender, or has ended for good, the
/// channel closes for the receiver.
pub struct Sender {
    end: wit::Sender,
    channel: String,
}

impl Sender {
    /// Opens a channel for sending.
    ///
    /// # Errors
    ///
    /// [`ChannelError::NotPermitted`].
    pub fn open(channel: &str) -> Result<Self, ChannelError> {
        Ok(Self {
            end: wit::Sender::open(channel)?,
            channel: channel.to_owned(),
        })
    }

    /// Sends a message, or refuses at once. The regions are moved, which needs
    /// [`Rights::SHARE`](crate::Rights::SHARE).
    ///
    /// # Errors
    ///
    /// [`Unsent`], which returns the regions: with [`ChannelError::WouldBlock`] if the
    /// channel is full; [`ChannelError::TooLarge`]; [`ChannelError::Closed`];
    /// [`ChannelError::Refused`].
    pub fn try_send(&self, bytes: &[u8], regions: Vec<Region>) -> Result<(), Unsent> {
        let regions = regions.into_iter().map(Region::into_inner).collect();
        self.end.send(bytes, regions).map_err(|unsent| Unsent {
            why: unsent.why.into(),
            regions: unsent.regions.into_iter().map(Region::received).collect(),
        })
    }

    /// Sends a message, and waits until the channel has room if necessary.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Deadlock`] if the channel is full and this guest itself holds its
    /// [`Receiver`], because no other guest can receive. The other errors are those of
    /// [`try_send`](Sender::try_send), without [`ChannelError::WouldBlock`].
    pub fn send(&self, bytes: &[u8], mut regions: Vec<Region>) -> Result<(), Unsent> {
        loop {
            match self.try_send(bytes, regions) {
                Err(unsent) if unsent.why == ChannelError::WouldBlock => {
                    if OpenReceiver::exists(&self.channel) {
                        return Err(Unsent {
                            why: deadlock(&self.channel),
                            ..unsent
                        });
                    }
                    regions = unsent.regions;
                    self.writable().wait();
                }
                other => return other,
            }
        }
    }

    /// Sends a message, and waits until the channel has room if necessary, while other tasks
    /// of this guest run. One of those may receive, so this waits even if the guest itself
    /// holds the [`Receiver`].
    ///
    /// Dropping the future before it is ready sends nothing, and drops the regions. To keep
    /// them, wait with [`writable_async`](Sender::writable_async), and call
    /// [`try_send`](Sender::try_send).
    ///
    /// # Errors
    ///
    /// Those of [`try_send`](Sender::try_send), without [`ChannelError::WouldBlock`].
    #[cfg(feature = "async")]
    pub async fn send_async(&self, bytes: &[u8], mut regions: Vec<Region>) -> Result<(), Unsent> {
        loop {
            match self.try_send(bytes, regions) {
                Err(unsent) if unsent.why == ChannelError::WouldBlock => {
                    regions = unsent.regions;
                    self.writable_async().await;
                }
                other => return other,
            }
        }
    }

    /// Waits until the channel has room, or is closed, while other tasks of this guest run.
    /// Another sender may be faster, so [`try_send`](Sender::try_send) may still refuse.
    ///
    /// Dropping the future changes nothing.
    #[cfg(feature = "async")]
    pub async fn writable_async(&self) {
        concurrent::channels::wait_writable(&self.end).await;
    }

    /// Closes this sender for good.
    ///
    /// Dropping a sender does the same, except in a guest that is restarted on failure.
    /// There a drop may be part of a failure, so it counts only once the guest exits
    /// cleanly.
    pub fn finish(self) {
        wit::Sender::finish(self.end);
    }

    /// Returns a pollable that is ready while the channel has room, or is closed.
    #[must_use]
    pub fn writable(&self) -> Pollable {
        Pollable::new(self.end.subscribe())
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

/// The receiving endpoint of a channel. At most one is open at a time.
///
/// Dropping it closes the channel for the senders. In a guest that is restarted on failure
/// this counts only once the guest exits cleanly; see [`Receiver::finish`].
pub struct Receiver {
    end: wit::Receiver,
    open: OpenReceiver,
}

impl Receiver {
    /// Opens a channel for receiving.
    ///
    /// # Errors
    ///
    /// [`ChannelError::NotPermitted`]; [`ChannelError::WouldBlock`] if it is already open.
    pub fn open(channel: &str) -> Result<Self, ChannelError> {
        Ok(Self {
            end: wit::Receiver::open(channel)?,
            open: OpenReceiver::new(channel),
        })
    }

    /// Takes the next message, or refuses at once.
    ///
    /// # Errors
    ///
    /// [`ChannelError::WouldBlock`] if the channel is empty; [`ChannelError::Closed`] if it
    /// will stay empty; [`ChannelError::Exhausted`] if the regions exceed this guest's
    /// limits: the message stays next in the channel.
    pub fn try_receive(&self) -> Result<Message, ChannelError> {
        let message = self.end.receive()?;
        Ok(Message {
            from: message.from,
            bytes: message.bytes,
            regions: message.regions.into_iter().map(Region::received).collect(),
        })
    }

    /// Takes the next message, and waits for it if necessary. Returns `None` if the channel
    /// is closed.
    ///
    /// The guest cannot see which other guests may send. So this waits, until the deadline
    /// of the call, even if the guest itself is the only sender.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Exhausted`].
    pub fn receive(&self) -> Result<Option<Message>, ChannelError> {
        loop {
            match self.try_receive() {
                Ok(message) => return Ok(Some(message)),
                Err(ChannelError::Closed) => return Ok(None),
                Err(ChannelError::WouldBlock) => self.readable().wait(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the next message, and waits for it if necessary, while other tasks of this guest
    /// run. Returns `None` if the channel is closed.
    ///
    /// Dropping the future before it is ready takes no message: a message is taken only in
    /// the poll that returns it.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Exhausted`].
    #[cfg(feature = "async")]
    pub async fn receive_async(&self) -> Result<Option<Message>, ChannelError> {
        loop {
            match self.try_receive() {
                Ok(message) => return Ok(Some(message)),
                Err(ChannelError::Closed) => return Ok(None),
                Err(ChannelError::WouldBlock) => self.readable_async().await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until the channel has a message, or is closed, while other tasks of this guest
    /// run. Another task may be faster, so [`try_receive`](Receiver::try_receive) may still
    /// refuse.
    ///
    /// Dropping the future changes nothing.
    #[cfg(feature = "async")]
    pub async fn readable_async(&self) {
        concurrent::channels::wait_readable(&self.end).await;
    }

    /// Drops the next message, for example if its regions exceed this guest's limits. Never
    /// waits.
    ///
    /// # Errors
    ///
    /// [`ChannelError::WouldBlock`] if the channel is empty; [`ChannelError::Closed`] if it
    /// will stay empty.
    pub fn skip(&self) -> Result<(), ChannelError> {
        Ok(self.end.skip()?)
    }

    /// Closes this receiver for good; see [`Sender::finish`].
    pub fn finish(self) {
        wit::Receiver::finish(self.end);
    }

    /// Returns a pollable that is ready while the channel has a message, or is closed.
    #[must_use]
    pub fn readable(&self) -> Pollable {
        Pollable::new(self.end.subscribe())
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("channel", &self.open.channel)
            .finish_non_exhaustive()
    }
}

/// The channels of which this guest holds the receiver. No other guest receives from
/// these, so a sender of this guest that waits for room would wait for good.
static RECEIVERS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn receivers() -> MutexGuard<'static, BTreeSet<String>> {
    // Each change is one operation, so a poisoned set is consistent.
    RECEIVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The entry of an open receiver in `RECEIVERS`, which lasts until it is dropped.
struct OpenReceiver {
    channel: String,
}

impl OpenReceiver {
    fn new(channel: &str) -> Self {
        receivers().insert(channel.to_owned());
        Self {
            channel: channel.to_owned(),
        }
    }

    fn exists(channel: &str) -> bool {
        receivers().contains(channel)
    }
}

impl Drop for OpenReceiver {
    fn drop(&mut self) {
        receivers().remove(&self.channel);
    }
}

/// Returns the refusal to wait for room in a channel that this guest itself receives from.
fn deadlock(channel: &str) -> ChannelError {
    ChannelError::Deadlock(format!(
        "channel `{channel}` is full, and this guest itself holds its receiver; receive a \
         message before sending another one"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receiver_is_known_until_dropped() {
        let open = OpenReceiver::new("loop");
        assert!(OpenReceiver::exists("loop") && !OpenReceiver::exists("other"));
        drop(open);
        assert!(!OpenReceiver::exists("loop"));
    }

    #[test]
    fn deadlock_names_the_channel() {
        let text = deadlock("loop").to_string();
        assert!(
            text.starts_with("deadlock: channel `loop` is full"),
            "{text}"
        );
    }
}
