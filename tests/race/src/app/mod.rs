//! Guests that call each other and send each other messages.

pub mod calls;
#[expect(dead_code, reason = "not all of it is needed here")]
#[path = "../../../../host/app/src/channel.rs"]
mod channel;
pub mod channel_actors;
#[path = "../../../../host/app/src/guest_id.rs"]
mod guest_id;
mod report;
mod spec;
mod stop;
#[expect(dead_code, reason = "not all of it is needed here")]
#[path = "../../../../host/app/src/waits.rs"]
mod waits;
