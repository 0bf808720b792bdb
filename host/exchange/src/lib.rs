//! How guests call each other and send each other messages, as pure logic.
//!
//! *Guests* are WebAssembly sandboxes, each in a store of its own, that lend and move regions of
//! shared memory to each other. This crate takes the steps of their calls in the right order,
//! on both sides. It does not know stores or values: those are types of a [`Guests`]. So model
//! checkers can run it. The crate `tombolo-app` gives it wasmtime's.
//!
//! | type | role |
//! |---|---|
//! | [`Outgoing`], [`LentCall`], [`SentLentCall`], [`Returned`] | a call, step by step, on the caller's side |
//! | [`Lender`] | a caller's store while it lends |
//! | [`Mailbox`], [`Inbox`] | an incarnation of a guest, as its callers reach it |
//! | [`Callee`], [`Work`] | a callee's store, and what it does in one call |
//! | [`Request`], [`SentRequest`] | work in types of its own, with its answer |
//! | [`Broken`] | a guest that cannot go on, and what is left to do for it |
//! | [`Channels`] | bounded queues of messages |
//!
//! # What holds
//!
//! - A guest waits for one other guest at a time. The last guest of a cycle of waits is refused.
//! - A callee that has returned leads back to no caller.
//! - A call survives its caller. A caller that is dropped loses its windows on what it lent.
//! - A lender goes on only when its lends are over, even if the callee died after it lent on.
//! - If a callee dies, first its store goes, then its lends end, then its next incarnation
//!   takes calls, and only then its callers are told.
//!
//! # Features
//!
//! `shuttle` replaces locks and channels by those of the model checker of this name. It is for
//! tests only.
#![forbid(unsafe_code)]

mod call;
mod channel;
mod guest_id;
mod guests;
mod idle;
mod inbox;
mod mailbox;
mod outgoing;
mod request;
mod server;
mod sync;
mod waits;

pub use call::Broken;
pub use channel::{
    Carried, Channel, ChannelCounts, ChannelError, ChannelSettings, Channels, Member, Message,
    Readable, ReceiverEnd, SenderEnd, Unsent, Writable,
};
pub use guest_id::GuestId;
pub use guests::{CallFailure, Callee, Guests, Work};
pub use inbox::Inbox;
pub use mailbox::Mailbox;
pub use outgoing::{CallRefused, Lender, LentCall, Outgoing, Returned, SentCall, SentLentCall};
pub use request::{Request, SentRequest};
pub use waits::LentRegions;
