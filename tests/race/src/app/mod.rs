//! Guests that call each other and send each other messages.

pub mod calls;
#[expect(dead_code, reason = "not all of it is needed here")]
#[path = "../../../../host/app/src/channel.rs"]
mod channel;
#[expect(dead_code, reason = "not all of it is needed here")]
#[path = "../../../../host/app/src/cycle.rs"]
mod cycle;
pub mod post;
mod report;
mod spec;
mod told;
