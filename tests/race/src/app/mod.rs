//! Guests that call each other and send each other messages.

pub mod calls;
pub mod channel_actors;
pub mod plan;
mod stop;
mod stores;
mod watch;
