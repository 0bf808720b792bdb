//! Streams and futures from one guest to another.
//!
//! A guest passes the readable end of a stream or future as an argument or a result. wasmtime
//! has it in the store of the guest that passes it, where the writer is, and the receiver reads in
//! its own store. So a [bridge](tombolo_exchange::bridge) lies between the two:
//!
//! ```text
//!   writer's store                                 reader's store
//!   stream.write -> WriterEnd --- bridge, in the host ---> ReaderEnd -> stream.read
//! ```
//!
//! Both ends are polled by wasmtime, each while its store runs. Nothing else is spawned, and no
//! end touches the other's store. So an end may be dropped at any time, with its store or
//! without, and the other end learns of it by a waker.
//!
//! # Types
//!
//! wasmtime 48 gives the host an item only as a static type: its dynamic `Val` can be neither
//! lifted from a stream nor lowered to one. So the types of items are [a list](carried), and
//! linking refuses all others. Regions move: see [`item`].
//!
//! # Passing on
//!
//! A guest that passes on a stream which it got from another guest leaves the chain. Its end of
//! the bridge moves to the receiver's store. wasmtime does not allow this for futures. They pass
//! through the store of the guest between, for as long as it lives.
//!
//! # Memory
//!
//! The caller pays for a bridge, in both directions, as for arguments and results. Regions in a
//! bridge are charged to the receiver.

mod carried;
mod ends;
mod item;
#[cfg(test)]
mod tests;

pub(crate) use self::carried::{CarriedStreams, StreamRoute};
