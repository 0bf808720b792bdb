//! Shared memory regions for WebAssembly guests in Rust: the guest side of
//! Tombolo.
//!
//! A region is an `RwLock<[u8]>` that spans sandboxes. A guest sees its bytes
//! through a *window*: a slice in the guest's own memory, which is the guard of
//! the lock at the same time. Handing a buffer to another guest is letting go
//! of it here and mapping it there; nothing is copied.
//!
//! ```no_run
//! use tombolo_guest::{Error, Region};
//!
//! mod bindings {
//!     wit_bindgen::generate!({
//!         path: "wit", // where a copy of Tombolo's WIT is
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
//!         // The one line that makes the bindings use the types of this crate.
//!         with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
//!     });
//! }
//! use bindings::example::sound::mixer;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let region = Region::create("samples", 4 * 44_100)?;
//!
//!     // Fill it in place: the window is a slice of this guest's memory.
//!     let mut window = region.try_write(..)?;
//!     window.as_mut_slice_of::<f32>().fill(0.25);
//!
//!     // Lend it. The window stays mapped, but cannot be used during the call.
//!     mixer::amplify(&window.lend())?;
//!
//!     // What the other guest wrote is there.
//!     assert_eq!(window.as_slice_of::<f32>()[0], 0.5);
//!     Ok(())
//! }
//! ```
//!
//! The page `docs/guests.md` of the repository leads from `cargo new` to a
//! running guest.
//!
//! # Lending
//!
//! Passing `&region` where WIT says `borrow<region>` lends the region for the
//! length of that call: the receiver may map it, within the rights of the
//! handle, and everything it made ends with the call. Passing `region` by value
//! moves it, for good.
//!
//! The receiver may write, so no slice of this guest's windows may be alive
//! meanwhile. Either drop the windows first, or keep them mapped with
//! [`Window::lend`], or [`Region::lend`] for several: what these return borrows
//! the windows mutably and stands in for `&Region`. A `&Region` that is lent
//! while windows of its claim are in use panics, as a `RefCell` does:
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
//! A handle without [`Rights::WRITE`] goes together with windows to read, which
//! stay usable: the receiver can then only read, too. [`Region::restrict`]
//! makes such a handle.
//!
//! # Live windows
//!
//! Guests of one strand take turns, and may share bytes without the lock: by a
//! [`LiveWindow`], of which there are no slices, but values to get and to set, as of a
//! `Cell`. [`Region::try_live_read`] and [`Region::try_live_write`] make one.
//! Between strands they are refused.
//!
//! # Pins
//!
//! A guest that does not need some bytes at the moment, but may later, unpins
//! them. The host can then take their memory when it is needed elsewhere, and
//! whoever pins them again is told whether they are still there. [`Window::unpin`]
//! turns a window into one of which there are no slices, [`Unpinned::pin`] gives
//! it back as [`Pinned::Intact`] or [`Pinned::Lost`]. [`Region::pin`] and
//! [`Region::unpin`] do the same where there is no window.
//!
//! # Waiting
//!
//! Who meets [`Error::WouldBlock`] can wait for its turn:
//! [`Region::read`], [`Region::write`], or, beside
//! other things, by the event of [`Region::writable`]. Turns come in the order
//! in which they were asked for.
//!
//! # Beside the calls
//!
//! [`channels`] carry messages with regions from guest to guest, [`scopes`] let
//! guests find regions by name, [`lifecycle`] tells that the app ends, and
//! [`pressure`] that memory is short. What they wait for is an [`Pollable`].
//!
//! # Why this is sound
//!
//! A [`ReadWindow`] is a `&[u8]` and a [`WriteWindow`] a `&mut [u8]`, over
//! memory that other guests map as well. This crate has to show that while such
//! a slice lives, nobody writes its bytes, or for a mutable one sees them.
//!
//! *Other guests and the host.* The host keeps the lock: many `read` windows or
//! one `write` window on a granule, over all guests, the host's own guards and
//! copies included. It enforces that with page protection and checks each call,
//! so it does not depend on what other guests do. The one exception that it
//! makes is a lend.
//!
//! *Live windows* are what other guests write to while this one sees it: at a call
//! to the host, and in the middle of any loop, since the host ends turns at its own
//! time. So there is no reference to what they show, only [`LiveCells`], which read
//! and write each value with one volatile access. No compiler may take such a value
//! to be as it was, or leave a write out. Any bits are a value of the types that are
//! read, whichever half of them is new; those that are written have no padding. A
//! slice never lies over such bytes: the host gives out a live window only where no
//! other window of this guest is, of whatever claim, and none after it.
//!
//! *Unpinning* changes what is seen at the addresses of a window: private zeros
//! stand there, until the bytes are pinned again. It is the claim that unpins, so
//! this concerns all windows of the claim on these bytes, and no others. The crate
//! unpins only what no window of the claim shows: [`Window::unpin`] consumes the
//! window, so that no slice of it lives, and refuses if there is another one
//! there; [`Region::unpin`] refuses if there is any. An [`Unpinned`] window is none
//! of those. Nobody else changes the claim's pins: a lent handle may not.
//!
//! *A lend* sets the lender's windows of that claim aside for the length of the
//! call, so that the receiver may map what the lender has mapped. A handle is lent
//! in one way: generated bindings ask [`Region`] for its number, to lower a
//! `borrow`. There the crate compares the windows of that
//! claim which this guest has with those which this very value sets aside, and
//! panics if one is left that could see a change: any `write` window, and any
//! `read` window unless the handle lacks [`Rights::WRITE`]. Rights only shrink,
//! and all that is lent on comes from this handle, so nothing lent without
//! `write` is written. Set aside are exactly the windows that a living [`Lent`]
//! borrows mutably, of which no slice can live. Live windows do not count: what the
//! receiver does is what any guest of the strand may do. A [`Lent`] that is forgotten
//! changes nothing: its count is in the value itself. A window that is
//! forgotten counts for ever, which only refuses more.
//!
//! *Which claim* a handle belongs to is known for what [`Region::create`] and
//! [`Region::duplicate`] made, and [`Region::restrict`] keeps it. Two handles
//! that were received may stand for one claim; all that were received for one
//! region are taken for one. A handle made here can come back as a received one of
//! the same claim: it was moved, and came round by others, or a message with it was
//! not sent. Then nothing here is left of what it was (see below on moves). Lent, it
//! does not come back while this guest uses it: the host refuses a call that leads
//! back to a guest which waits in a call of its own.
//!
//! *Calls* are synchronous: this guest does not run between the lowering of a
//! borrow and the end of the lend, except to allocate, so no slice is made
//! meanwhile. Guests cannot pass regions to functions that bindings import as
//! `async`; the host does not offer them.
//!
//! *A move*, in a call or in a message, takes the claim's windows along. It takes
//! the [`Region`] by value; windows and [`Restricted`] handles borrow from it, so
//! none of them is left. [`Restricted`] and [`Lent`] never give a [`Region`] by value,
//! so what shares its claim with another handle is not moved, not even between
//! the components of one store, where the host sees no calls.
//!
//! *Publishing* in a scope duplicates: whoever opens the name has a claim of its
//! own, with which nothing is set aside.
//!
//! *The end of a lend* in the receiver unmaps what it made. Bindings hand an
//! exported function a `&Region` that lives for the call, and windows borrow
//! from it.
//!
//! *The memory* under a window is allocated for it, whole granules on a
//! granule (from 2 MiB on, as far from a multiple of that as its place in the region,
//! so that the kernel can use huge pages), and belongs to the window alone until after that is unmapped, so
//! nothing of this guest's own is ever covered, and the allocator never writes
//! into a region. It is never written before `map`, which gives it its bytes,
//! and `map` gets a raw pointer to it. Should a window be forgotten, its memory
//! is leaked with it.
//!
//! *No threads*: windows are neither `Send` nor `Sync`.
//!
//! Safe code outside of this crate can undo this only where it could do without
//! it, too: bindings that a guest generates for `tombolo:memory/windows` by
//! itself map over any of its memory, by a function that Rust takes for safe.
//! Use this crate's instead.

// What is refused is given back. In a guest it is half as large as it is natively.
#![allow(clippy::result_large_err)]

mod access;
mod bindings;
pub mod channels;
mod error;
mod ledger;
mod lend;
pub mod lifecycle;
mod live;
mod pins;
mod pollable;
pub mod pressure;
mod region;
pub mod regions;
pub mod scopes;
mod sys;
mod window;

pub use access::{Access, Read, Write};
pub use error::Error;
pub use lend::{Lent, Windows};
pub use live::{LiveCells, LiveReadWindow, LiveWindow, LiveWriteWindow};
pub use pins::{Pinned, Unpinned};
pub use pollable::Pollable;
pub use region::{Region, Restricted};
pub use regions::Rights;
pub use window::{ReadWindow, Refused, Window, WriteWindow};

/// The crate that makes typed views of windows, for what
/// [`Window::as_slice_of`] does not cover, such as one struct at the beginning:
/// `bytemuck::from_bytes(&window[..size_of::<Header>()])`.
pub use bytemuck;

/// The bytes in a granule, the unit of windows, on every host.
pub const GRANULE: u64 = 65536;
