//! Guests that call each other and send each other messages.

pub mod calls;
#[expect(dead_code, reason = "not all of it is needed here")]
#[path = "../../../../host/app/src/channel.rs"]
mod channel;
#[path = "../../../../host/app/src/guest_id.rs"]
mod guest_id;
pub mod post;
mod report;
mod spec;
mod told;
#[expect(dead_code, reason = "not all of it is needed here")]
#[path = "../../../../host/app/src/waits.rs"]
mod waits;
