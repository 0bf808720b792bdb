//! Guests that call each other and send each other messages.

pub mod calls;
pub mod channel_actors;
mod stop;
