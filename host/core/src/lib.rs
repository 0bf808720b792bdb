//! RegionInner memory between WebAssembly sandboxes, safe by construction.
//!
//! A *region* is an `RwLock<[u8]>` that spans sandboxes: guests map it into
//! their own linear memories, by windows that read or windows that write, and
//! the host program takes part by guards. Regions are lent and moved from guest
//! to guest like any argument of a call; nothing is copied.
//!
//! A program that has wasmtime adds regions as it adds any WASI interface:
//!
//! ```
//! use tombolo::{RegionHost, RegionCtx, RegionView, Rights};
//! use wasmtime::component::Linker;
//! use wasmtime::{Config, Engine, Store};
//!
//! struct State {
//!     regions: RegionCtx,
//! }
//!
//! impl RegionView for State {
//!     fn region_ctx(&mut self) -> &mut RegionCtx {
//!         &mut self.regions
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Before the process makes its first engine.
//! let mut config = Config::new();
//! tombolo::prepare(&mut config)?;
//! let engine = Engine::new(&config)?;
//!
//! let mut linker: Linker<State> = Linker::new(&engine);
//! tombolo::add_to_linker(&mut linker)?;
//!
//! let host = RegionHost::new();
//! let regions = host.context("plugin").build();
//! let mut store = Store::new(&engine, State { regions });
//! tombolo::attach(&mut store);
//!
//! // The host program holds regions as well. It fills one in place ...
//! let body = host.create("body", 5)?;
//! body.try_write(..)?.copy_from_slice(b"hello");
//!
//! // ... and lends it to the guest, for one call of an export.
//! let lent = body.lend(&mut store, Rights::READ)?;
//! let returned = Ok(()); // ... `export.call(&mut store, (lent.resource(),))` ...
//! lent.end(&mut store, returned)?;
//! # Ok(())
//! # }
//! ```
//!
//! | for | there is |
//! |---|---|
//! | engines | [`prepare`] |
//! | stores | [`RegionHost`], [`RegionCtx`], [`RegionView`], [`add_to_linker`], [`Limits`] |
//! | the host program as a holder | [`Region`], [`ReadGuard`], [`WriteGuard`] |
//! | regions in and out of one guest | [`Region::lend`], [`Region::take`], [`Region::give`] |
//! | guests that wrote where they may not | [`attach`], [`WriteViolation`] |
//! | calls from store to store | [`Parcel`], [`Lending`], [`Borrowed`] |
//! | live windows, in stores that take turns | [`Strand`], [`RegionCtxBuilder::live_within`] |
//! | waiting for windows | [`Region::read`], [`Region::write`], [`add_waits_to_linker`] |
//! | memory pressure | [`pressure`], [`RegionHost::watch_pressure`], [`add_pressure_to_linker`] |
//! | apps of guests that Tombolo runs | the crate `tombolo-app` |
//!
//! What a guest sees is documented in `wit/*.wit`; guests in Rust use the
//! crate `tombolo-guest`. In the repository, `docs/design.md` says how all of
//! this works, and `docs/security.md` why it is sound and what it does not
//! defend against.
#![deny(unsafe_code)]

mod config;
mod ctx;
mod error;
mod handover;
mod host;
mod identity;
#[doc(hidden)]
pub mod internal;
mod limits;
mod notifying;
#[cfg(feature = "parallel-compilation")]
mod parallel;
pub mod pressure;
pub mod regions;
mod sync;
mod sys;
mod time;
mod transfer;
mod window;
mod wit;

pub use config::{PrepareError, prepare};
pub use ctx::{RegionCtx, RegionCtxBuilder, RegionView, Strand, WriteViolation, attach, check};
pub use error::RegionError;
pub use handover::{GiveError, LentRegion};
pub use host::{
    Counts, MarginKeeper, PressureChanges, PressureMonitor, ReadGuard, Region, RegionHost,
    RegionUsage, ShortOfMemory, WriteGuard,
};
pub use limits::{HostLimits, Limits};
pub use tombolo_region::{BudgetUsage, Exhausted, GRANULE, NameError, Pinned, Rights, SpanError};
pub use transfer::{Borrowed, Lending, PackError, Parcel, Recipient, Transfer};
pub use wit::add_to_linker;
#[cfg(feature = "wasi-io")]
pub use wit::{add_pressure_to_linker, add_waits_to_linker};

pub use wasmtime;
#[cfg(feature = "wasi-io")]
pub use wasmtime_wasi_io;

/// By the name that the tests' own guests know it by.
#[cfg(test)]
extern crate self as tombolo;

#[cfg(test)]
mod refusal_tests;

/// The README's examples, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct ReadmeDoctests;
