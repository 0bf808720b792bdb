//! Shared memory regions for WebAssembly guests in Rust: the guest side of Tombolo.
//!
//! A region is an `RwLock<[u8]>` that spans sandboxes. A guest accesses its bytes through
//! a *window*: a slice of the guest's own memory, which is also a guard of the lock. To
//! hand a buffer to another guest, one guest unmaps it and the other maps it. Nothing is
//! copied.
//!
//! ```no_run
//! use tombolo_guest::{Error, Region};
//!
//! mod bindings {
//!     wit_bindgen::generate!({
//!         path: "wit", // a folder with a copy of Tombolo's WIT
//!         inline: r#"
//!             package example:sound;
//!
//!             interface mixer {
//!                 use tombolo:memory/regions@0.1.0.{region};
//!
//!                 /// Doubles the samples, in place.
//!                 amplify: func(samples: borrow<region>) -> result<_, string>;
//!             }
//!
//!             world app {
//!                 import mixer;
//!             }
//!         "#,
//!         // This line makes the bindings use the types of this crate.
//!         with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
//!     });
//! }
//! use bindings::example::sound::mixer;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let region = Region::create("samples", 4 * 44_100)?;
//!
//!     // Fill it in place. The window is a slice of this guest's memory.
//!     let mut window = region.try_write(..)?;
//!     window.as_mut_slice_of::<f32>().fill(0.25);
//!
//!     // Lend it. The window stays mapped, and cannot be used during the call.
//!     mixer::amplify(&window.lend())?;
//!
//!     // The samples are those that the other guest wrote.
//!     assert_eq!(window.as_slice_of::<f32>()[0], 0.5);
//!     Ok(())
//! }
//! ```
//!
//! The page `docs/guests.md` of the repository leads from `cargo new` to a running guest.
//!
//! # Lending
//!
//! Passing `&region` for a `borrow<region>` lends the region for the length of that call.
//! The callee may map it, within the rights of the handle. Everything that it makes through
//! the handle ends with the call. Passing `region` by value moves it for good, which needs
//! [`Rights::SHARE`].
//!
//! The callee may write, so no slice of this guest's windows may be alive during the call.
//! Either drop the windows first, or keep them mapped with [`Window::lend`], or
//! [`Region::lend`] for several. These return a value that borrows the windows mutably and
//! stands in for `&Region`. Lending a plain `&Region` while windows of its claim are in use
//! panics, as a `RefCell` does:
//!
//! ```no_run
//! # use tombolo_guest::{Error, Region};
//! # fn process(region: &Region) { region.handle(); }
//! # fn example() -> Result<(), Error> {
//! let region = Region::create("samples", 65536)?;
//! let window = region.try_write(..)?;
//! process(&region); // panics: `window` is in use
//! println!("{}", window[0]);
//! # Ok(())
//! # }
//! ```
//!
//! Windows to read stay usable while a handle without [`Rights::WRITE`] is lent, because
//! the callee can then only read. [`Region::restrict`] makes such a handle.
//!
//! A component that was composed of several counts as one guest, and its parts call each
//! other without the host. Between them, [`Window::lend_within`] lends: its result stands in
//! for `&Region` until it is dropped.
//!
//! # Live windows
//!
//! Guests of one strand take turns, so they may share bytes without the lock, through a
//! [`LiveWindow`]. It has no slices, but values to get and set, as a `Cell` has.
//! [`Region::try_live_read`] and [`Region::try_live_write`] make one. Between strands live
//! windows are refused.
//!
//! # Pins
//!
//! A guest unpins bytes that it does not need at the moment. The host may then purge them
//! when memory is needed elsewhere. A claim that pins bytes again learns whether they are
//! intact. [`Window::unpin`] turns a window into one without slices, and [`Unpinned::pin`]
//! returns it as [`Pinned::Intact`] or [`Pinned::Lost`]. Without a window, use
//! [`Region::pin`] and [`Region::unpin`].
//!
//! # Waiting
//!
//! Methods with the prefix `try_` refuse at once: [`Error::WouldBlock`]. Methods without it
//! wait: [`Region::read`], [`Region::write`], [`Region::live_read`] and
//! [`Region::live_write`]. Turns come in the order of the requests. To wait for several
//! events, use a [`Pollable`], such as that of [`Region::writable`].
//!
//! A wait for a window that only this guest itself could end is refused with
//! [`Error::Deadlock`]: the guest has a conflicting window of its own.
//! [`channels::Receiver::receive`] is not checked in this way.
//!
//! # Async functions
//!
//! With the feature `async`, methods that end in `_async` wait while other tasks of this guest
//! run: [`Region::read_async`], [`channels::Receiver::receive_async`] and others. Their
//! futures are those of wit-bindgen's feature `async`, so they run in functions that the guest
//! exports as `async func`, and in tasks that these spawn.
//!
//! Dropping a future cancels what it waits for, and has no other effect: no message is lost.
//! Two methods take objects that are dropped with the future:
//! [`channels::Sender::send_async`] and [`Window::lend_async`].
//!
//! [`Window::lend_async`] lends by an async function while the window stays mapped. A plain
//! [`Window::lend`] is for plain functions.
//!
//! # Messages, names and signals
//!
//! [`channels`] carry messages with regions from guest to guest, and [`scopes`] let guests
//! find regions by name. [`lifecycle`] tells a guest that the app is to stop, and
//! [`pressure`] that memory is short.
//!
//! # Streams
//!
//! In programs that offer it, [`streams`] read WASI's streams into regions and write regions
//! to them, for example the bodies of `wasi:http`.
//!
//! # Why this is sound
//!
//! A [`ReadWindow`] is a `&[u8]` and a [`WriteWindow`] is a `&mut [u8]`, over memory that
//! other guests map as well. This crate must ensure that nobody writes the bytes while such
//! a slice lives, and for a mutable slice that nobody else reads them.
//!
//! *Other guests and the host.* The host keeps the lock: many `read` windows or one `write`
//! window on a granule. The lock covers all guests, and the host's own guards and copies. It
//! is enforced by page protection and by checks in each call, so it does not depend on the
//! behaviour of other guests. Lends are the one exception.
//!
//! *Live windows.* Other guests write to these bytes while this guest sees them: during a
//! call to the host, and in the middle of any loop, because the host preempts guests. So
//! there is no reference to the bytes, only [`LiveCells`], which read and write each value
//! with one volatile access. The compiler may neither assume that such a value is unchanged,
//! nor omit a write. The types that are read accept any bits, even a mixture of old and new
//! ones; the types that are written have no padding. A slice never covers such bytes: the
//! host grants a live window only where no other window of this guest is, of any claim, and
//! grants no other window afterwards.
//!
//! *Unpinning.* The memory of an unpinned window shows private zeros until the bytes are
//! pinned again. Pins belong to the claim, so this affects all windows of the claim on these
//! bytes, and no others. The crate unpins only bytes that no window of the claim shows.
//! [`Window::unpin`] consumes the window, so that no slice of it lives, and refuses if
//! another window shows the bytes. [`Region::unpin`] refuses if any window does. An
//! [`Unpinned`] window shows nothing. No other guest changes the claim's pins, because a lent
//! handle cannot.
//!
//! *Lends.* A lend sets the lender's windows of that claim aside for the length of the call,
//! so that the callee may map the same bytes. There is one way to lend a handle: generated
//! bindings ask [`Region`] for its number, to lower a `borrow`. At this point the crate
//! compares two sets of windows of the claim: those that this guest has, and those that this
//! very value sets aside. It panics if one remains that could see a change. That is any
//! `write` window, and any `read` window unless the handle lacks [`Rights::WRITE`]. Rights
//! only shrink, and everything that is re-lent derives from this handle. So nothing is
//! written through a handle that was lent without `write`.
//!
//! The windows set aside are exactly those that a living [`Lent`] borrows mutably, so no
//! slice of them lives. Live windows do not count, because the callee may do no more than any
//! guest of the strand. Forgetting a [`Lent`] is harmless, because the value itself holds its
//! count. A forgotten window counts for good, which only refuses more.
//!
//! *Lends within a component.* The host sets aside all windows of the claim that are not
//! live, until the lent handle is dropped. They show private zeros meanwhile. So
//! [`Region::lend_within`] refuses unless a [`LentWithin`] borrows all of them mutably. Windows
//! that are mapped later stay visible: the lock keeps them apart from those of the borrower.
//! The lent handle counts as a claim of its own. A forgotten [`LentWithin`] leaves its windows
//! masked for good, with private bytes of this guest that nobody else has.
//!
//! The parts of a component have one account, and the host does not tell them apart. A part
//! that was passed a handle which is not lent can unpin the bytes or lend them, and so change
//! what the windows of its caller show. It cannot do that with a [`LentWithin`].
//!
//! *Claims.* The claim of a handle is known if [`Region::create`], [`Region::duplicate`] or
//! [`scopes::open`] made it, and [`Region::restrict`] keeps it. Two received handles may
//! belong to one claim, so all that were received for one region are treated as one claim. A
//! handle that was made here can come back as a received one of the same claim: because it
//! was moved and passed on, or because a message with it was not sent. Then none of its
//! windows remains here (see *Moves*). A lent handle does not come back while this guest uses
//! it: the host refuses a call that leads back to a guest which waits in a call of its own.
//!
//! *Plain calls.* Between the lowering of a borrow and the end of the lend, this guest runs
//! only to allocate, so it makes no slice.
//!
//! *Async calls.* This guest runs on while it lends. Windows that it maps meanwhile take part
//! in the lock, like those of other guests. The windows that it had must be set aside until
//! the lend has ended, and that is not when the future ends: safe code can forget the future
//! of a call that runs. So `lend_async` takes the windows by value. If its future is dropped
//! or forgotten, no slice of them can be made again. It returns them only after it has dropped
//! a handle that it made for the call. The component model traps if that handle is still
//! borrowed, so no call that was begun inside of `lend_async` runs on. The host shows the
//! windows again before it ends such a call.
//!
//! *Moves.* A move, in a call or in a message, takes the windows of the claim along. It takes
//! the [`Region`] by value. Windows and [`Restricted`] handles borrow from it, so none of
//! them remains. [`Restricted`] and [`Lent`] never give out a [`Region`] by value. So a
//! handle that shares its claim with another one is not moved, not even between the
//! components of one store, where the host sees no calls.
//!
//! *Publishing* in a scope duplicates. A guest that opens the name has a claim of its own,
//! which sets nothing aside.
//!
//! *The end of a lend* unmaps the callee's windows. Bindings pass an exported function a
//! `&Region` that lives for the call, and windows borrow from it.
//!
//! *The memory* under a window is allocated for it, in whole granules, aligned to a granule.
//! (From 2 MiB on, its address and its offset in the region agree modulo 2 MiB, so that the
//! kernel can use huge pages.) It belongs to the window alone until the window is unmapped.
//! So a window covers no other data of this guest, and the allocator never writes into a
//! region. Nothing reads or writes the memory before `map`, which gives it the region's
//! bytes; `map` takes a raw pointer. If a window is forgotten, its memory is leaked with it.
//!
//! *Threads.* Windows are neither `Send` nor `Sync`.
//!
//! Safe code outside of this crate can break this in two ways only.
//!
//! - Bindings that a guest generates for `tombolo:memory/windows` itself can map over any of
//!   its memory, through a function that Rust considers safe. Use this crate's bindings
//!   instead.
//! - An async function accepts any `&Region`. A [`Lent`] is borrowed from its windows: if the
//!   future of such a call is forgotten while the call runs, the borrow ends too early. And
//!   the host may hide windows to read for the length of such a call, even if the handle lacks
//!   [`Rights::WRITE`]. Use [`Region::lend_async`] for async functions, with all windows that
//!   this guest has on the region. It panics if one is missing.

// Refusals return the objects that they refuse. In a guest these are half as large as on a
// 64-bit host.
#![allow(clippy::result_large_err)]

mod access;
mod bindings;
pub mod channels;
mod error;
mod granule;
mod ledger;
mod lend;
#[cfg(feature = "async")]
mod lend_async;
pub mod lifecycle;
mod live;
mod pins;
mod pollable;
pub mod pressure;
mod range;
mod refused;
mod region;
pub mod regions;
pub mod scopes;
pub mod streams;
mod sys;
mod unpinned;
mod view;
mod window;

pub use access::{Access, Read, Write};
pub use error::Error;
pub use granule::GRANULE;
pub use lend::{Lent, LentWithin, Windows};
#[cfg(feature = "async")]
pub use lend_async::OwnedWindows;
pub use live::{LiveCells, LiveReadWindow, LiveWindow, LiveWriteWindow};
pub use pins::Pinned;
pub use pollable::Pollable;
pub use refused::Refused;
pub use region::{Region, Restricted};
pub use regions::Rights;
pub use unpinned::Unpinned;
pub use window::{ReadWindow, Window, WriteWindow};

/// The crate for typed views of windows, for views that [`Window::as_slice_of`] does not
/// cover. For example, a struct at the beginning of a window:
/// `bytemuck::from_bytes(&window[..size_of::<Header>()])`.
pub use bytemuck;
