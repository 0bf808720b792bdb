//! Channels: messages from guest to guest, in order.
//!
//! The operator makes channels and says who sends and who receives. A message is
//! some bytes, which are copied, and some regions, which are moved.
//!
//! ```no_run
//! use tombolo_guest::channels::{Receiver, Sender};
//!
//! # fn work(_: &[u8]) {}
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // A stage of a pipeline: takes each frame, works on it in place, passes it on.
//! let frames = Receiver::open("frames")?;
//! let done = Sender::open("done")?;
//! while let Some(mut message) = frames.receive()? {
//!     let frame = message.regions.remove(0);
//!     work(&frame.try_read(..)?);
//!     done.send(&message.bytes, vec![frame])?;
//! }
//! # Ok(())
//! # }
//! ```

use std::fmt;

use crate::bindings::channels as wit;
use crate::pollable::Pollable;
use crate::region::Region;

/// Why nothing was sent or received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelError {
    /// There is no such channel for this guest.
    NotPermitted,
    /// The channel is full, or empty; or its receiving end is open already.
    WouldBlock,
    /// There are more bytes, or more regions, than the channel takes in a message; the
    /// text says how many it does.
    TooLarge(String),
    /// The other side is gone.
    Closed,
    /// One of the regions cannot be moved, or the receiver's limits could never take
    /// them; the text says which, and why.
    Refused(String),
    /// A limit is used up; the text names it.
    Exhausted(String),
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPermitted => f.write_str(
                "not permitted: the operator made no such channel for this guest; \
                 channels are opened by the name that they have in the manifest",
            ),
            Self::WouldBlock => f.write_str("would block: the channel is full, empty, or in use"),
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
pub struct Unsent {
    /// Why not.
    pub why: ChannelError,
    /// The regions, which are this guest's as before.
    pub regions: Vec<Region>,
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message was not sent: {}", self.why)
    }
}

impl std::error::Error for Unsent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.why)
    }
}

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

/// The end of a channel for sending. When every sender has dropped its last one,
/// the receiver is told that the channel is closed.
pub struct Sender(wit::Sender);

impl Sender {
    /// Opens a channel.
    ///
    /// # Errors
    ///
    /// [`ChannelError::NotPermitted`].
    pub fn open(channel: &str) -> Result<Self, ChannelError> {
        Ok(Self(wit::Sender::open(channel)?))
    }

    /// Sends a message. Never waits. The regions are moved.
    ///
    /// # Errors
    ///
    /// [`Unsent`], which gives the regions back: with [`ChannelError::WouldBlock`]
    /// if the channel is full, [`ChannelError::TooLarge`],
    /// [`ChannelError::Closed`], [`ChannelError::Refused`].
    pub fn try_send(&self, bytes: &[u8], regions: Vec<Region>) -> Result<(), Unsent> {
        let regions = regions.into_iter().map(Region::into_inner).collect();
        self.0.send(bytes, regions).map_err(|unsent| Unsent {
            why: unsent.why.into(),
            regions: unsent.regions.into_iter().map(Region::received).collect(),
        })
    }

    /// Sends a message, and waits for room before if there is none.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Sender::try_send), but for [`ChannelError::WouldBlock`].
    pub fn send(&self, bytes: &[u8], mut regions: Vec<Region>) -> Result<(), Unsent> {
        loop {
            match self.try_send(bytes, regions) {
                Err(unsent) if unsent.why == ChannelError::WouldBlock => {
                    regions = unsent.regions;
                    self.writable().wait();
                }
                other => return other,
            }
        }
    }

    /// Sends no more. In a guest that is started again when it fails, dropping means
    /// that only when the guest ends in order: it may have been on its way to failing.
    pub fn finish(self) {
        wit::Sender::finish(self.0);
    }

    /// That there is room in the channel, or it is closed.
    #[must_use]
    pub fn writable(&self) -> Pollable {
        Pollable::new(self.0.subscribe())
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// The end of a channel for receiving. Dropping it closes the channel for those who
/// send.
pub struct Receiver(wit::Receiver);

impl Receiver {
    /// Opens a channel.
    ///
    /// # Errors
    ///
    /// [`ChannelError::NotPermitted`]; [`ChannelError::WouldBlock`] if it is open
    /// already.
    pub fn open(channel: &str) -> Result<Self, ChannelError> {
        Ok(Self(wit::Receiver::open(channel)?))
    }

    /// Takes the next message. Never waits.
    ///
    /// # Errors
    ///
    /// [`ChannelError::WouldBlock`] if there is none, [`ChannelError::Closed`] if
    /// none will come; [`ChannelError::Exhausted`] if this guest's limits have no
    /// room for its regions: it is still the next one.
    pub fn try_receive(&self) -> Result<Message, ChannelError> {
        let message = self.0.receive()?;
        Ok(Message {
            from: message.from,
            bytes: message.bytes,
            regions: message.regions.into_iter().map(Region::received).collect(),
        })
    }

    /// Takes the next message, and waits for it. `None` if none will come.
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

    /// Drops the next message: one, say, for whose regions there is no room. Never
    /// waits.
    ///
    /// # Errors
    ///
    /// [`ChannelError::WouldBlock`] if there is none, [`ChannelError::Closed`] if none
    /// will come.
    pub fn skip(&self) -> Result<(), ChannelError> {
        Ok(self.0.skip()?)
    }

    /// Receives no more; as with [`Sender::finish`].
    pub fn finish(self) {
        wit::Receiver::finish(self.0);
    }

    /// That there is a message, or the channel is closed.
    #[must_use]
    pub fn readable(&self) -> Pollable {
        Pollable::new(self.0.subscribe())
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
