//! How guests call each other and send each other messages, as pure logic.
//!
//! *Guests* are WebAssembly sandboxes, each in a store of its own, that lend and move regions of
//! shared memory to each other. This crate takes the steps of their calls in the right order,
//! on both sides. It does not know stores or values: those are types of an [`ExchangeTypes`]. So
//! model checkers can run it. The crate `tombolo-app` gives it wasmtime's.
//!
//! | type | role |
//! |---|---|
//! | [`Outgoing`], [`LentCall`], [`SentLentCall`], [`Returned`] | a call, step by step, on the caller's side |
//! | [`IdleCallee`], [`LentIdleCallee`], [`InlineCall`] | the same with a callee that is idle, on the caller's thread |
//! | [`Lender`] | a caller's store while it lends |
//! | [`Mailbox`], [`Inbox`] | an incarnation of a guest, as its callers reach it |
//! | [`Callee`], [`Work`] | a callee's store, and what it does in one call |
//! | [`Request`], [`SentRequest`] | work in types of its own, with its answer |
//! | [`Broken`] | a guest that cannot go on, and what is left to do for it |
//! | [`TaskServer`], [`Task`], [`TaskWork`] | a callee that answers several calls at a time |
//! | [`Turn`], [`StrandTask`] | a strand, whose guests never run at once |
//! | [`Channels`] | bounded queues of messages |
//! | [`BridgeWriter`], [`BridgeReader`] | the two ends of a stream or future from one store to another |
//!
//! # Guarantees
//!
//! - A plain call suspends its guest, which waits for one other guest at a time. A guest that
//!   answers several calls at a time may await others in each of them. The last guest of a cycle
//!   of waits is refused.
//! - Before a caller gets its reply, the wait for its callee ends. So a call that the callee makes
//!   next closes no cycle through that caller.
//! - A call survives its caller. A caller that is dropped loses its windows on what it lent.
//! - A lender goes on only when its lends are over, even if the callee died after it re-lent a
//!   region.
//! - If a callee dies, its store is dropped first, then the lends to it end, then its next
//!   incarnation takes calls. Only then are its callers told.
//!
//! # Features
//!
//! `shuttle` replaces locks and channels by those of the model checker of this name, and `loom`
//! replaces locks. They are for tests only.
#![forbid(unsafe_code)]

mod bridge;
mod call;
mod channel;
mod guest_id;
mod guests;
mod idle;
mod inbox;
mod inline;
mod mailbox;
mod outgoing;
mod request;
mod server;
mod sync;
mod task;
mod tasks;
mod turn;
mod waits;

pub use bridge::{
    BridgeItem, BridgeReader, BridgeWriter, LEAST_BYTES, MOST_BYTES, OVERHEAD_BYTES, bridge,
};
pub use call::Broken;
pub use channel::{
    Channel, ChannelCounts, ChannelError, ChannelSettings, ChannelTypes, Channels, Member, Message,
    Readable, ReceiverEnd, SenderEnd, Unsent, Writable,
};
pub use guest_id::GuestId;
pub use guests::{CallFailure, Callee, ExchangeTypes, Work};
pub use inbox::Inbox;
pub use inline::{IdleCallee, InlineCall, LentIdleCallee};
pub use mailbox::Mailbox;
pub use outgoing::{CallRefused, Lender, LentCall, Outgoing, Returned, SentCall, SentLentCall};
pub use request::{Request, SentRequest};
pub use task::{Task, TaskRequest, TaskTypes, TaskWork};
pub use tasks::{TaskPause, TaskServer};
pub use turn::{HeldTurn, StrandTask, Turn};
pub use waits::{LentRegions, WaitCanceller};
