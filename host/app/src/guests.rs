//! The guests of this crate, as types of `tombolo-exchange`.

/// The guests that run in stores of wasmtime.
pub(super) enum AppGuests {}

pub(super) type Mailbox = tombolo_exchange::Mailbox<AppGuests>;
pub(super) type Inbox = tombolo_exchange::Inbox<AppGuests>;
pub(super) type Broken = tombolo_exchange::Broken<AppGuests>;
pub(super) type CallFailure = tombolo_exchange::CallFailure<AppGuests>;
pub(super) type Outgoing = tombolo_exchange::Outgoing<AppGuests>;
pub(super) type Task = tombolo_exchange::Task<AppGuests>;
pub(super) type TaskServer = tombolo_exchange::TaskServer<AppGuests>;
pub(super) type TaskPause = tombolo_exchange::TaskPause<AppGuests>;
