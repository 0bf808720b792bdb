//! Shared memory between WebAssembly sandboxes, safe by construction.
//!
//! A *region* is an `RwLock<[u8]>` that spans sandboxes. Guests map it into their own linear
//! memories, by windows that read or windows that write. The host program takes part by guards.
//! Regions are lent and moved from guest to guest like any argument of a call. Nothing is
//! copied.
//!
//! A program that embeds wasmtime adds regions as it adds any WASI interface:
//!
//! ```
//! use tombolo::wasmtime::component::Linker;
//! use tombolo::wasmtime::{Config, Engine, Store};
//! use tombolo::{RegionCtx, RegionHost, RegionView, Rights};
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
//! // Before the process creates its first engine.
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
//! // The host program fills a region in place ...
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
//! | topic | items |
//! |---|---|
//! | engines | [`prepare`], [`is_prepared`] |
//! | stores | [`RegionHost`], [`RegionCtx`], [`RegionView`], [`add_to_linker`], [`Limits`] |
//! | stores with data of any type | [`add_to_linker_with`], [`guest_in`], [`AsGuest`] |
//! | the host program as a holder | [`Region`], [`ReadGuard`], [`WriteGuard`] |
//! | calls of a guest's exports, in one step | [`Session`] |
//! | functions of the host program that take `borrow<region>` | [`Region::borrow`] |
//! | regions in and out of one guest | [`Region::lend`], [`Region::give`], [`Region::take`] |
//! | guests that write to read-only windows | [`attach`], [`WriteViolation`] |
//! | calls from store to store | [`Parcel`], [`Lending`], [`Borrowed`] |
//! | live windows, in stores that take turns | [`Strand`], [`RegionCtxBuilder::live_within`] |
//! | waiting for windows | [`Region::read`], [`Region::write`], [`add_waits_to_linker`] |
//! | memory pressure | [`pressure`], [`RegionHost::watch_pressure`], [`RegionHost::keep_margin`], [`add_pressure_to_linker`] |
//! | streams of WASI into and out of regions | [`add_streams_to_linker`] |
//! | apps of guests that Tombolo runs | the crate `tombolo-app` |
//!
//! Functions do not block, unless their documentation says so. The interfaces for guests are
//! documented in `wit/memory`. Guests in Rust use the crate `tombolo-guest`. In the repository,
//! `docs/design.md` describes how all of this works, and `docs/security.md` why it is sound and
//! what it does not defend against.
//!
//! # Features
//!
//! All but `component-model-async` are enabled by default.
//!
//! | feature | effect |
//! |---|---|
//! | `cranelift` | engines compile; without it they only load code that was compiled elsewhere |
//! | `parallel-compilation` | engines compile on several threads |
//! | `component-model-async` | the package `tombolo:memory-async`, in which guests wait by async functions; enables wasmtime's feature |
//! | `wasi-io` | the interfaces `waits` and `pressure`, in which guests wait by `wasi:io/poll`, and `streams` |
#![deny(unsafe_code)]

mod config;
mod ctx;
mod error;
mod guest;
mod handover;
mod host;
mod identity;
#[doc(hidden)]
pub mod internal;
mod limits;
mod loan;
#[cfg(feature = "parallel-compilation")]
mod parallel;
#[cfg(feature = "component-model-async")]
mod places;
mod prepared;
pub mod pressure;
mod region_table;
pub mod regions;
mod session;
mod sys;
mod time;
mod transfer;
mod violation;
mod walk;
mod window;
mod wit;
mod within;

pub use config::{PrepareError, prepare};
pub use ctx::{RegionCtx, RegionCtxBuilder, RegionView, Strand};
pub use error::RegionError;
pub use guest::{AsGuest, GuestIn, attach, check, guest_in};
pub use handover::{GiveError, LentRegion};
pub use host::{
    HostCounts, IncomingRegion, MarginKeeper, PressureChanges, PressureMonitor, ReadGuard, Region,
    RegionHost, RegionPool, RegionUsage, ShortOfMemory, WriteGuard,
};
pub use identity::RegionId;
pub use limits::{HostLimits, Limits};
pub use loan::{HeldLoan, Loan, LoanGuard, MaskedLoan};
pub use prepared::{NotPrepared, is_prepared};
pub use session::{Call, CallError, CallFailure, Called, Session};
pub use tombolo_region::{BudgetUsage, Exhausted, GRANULE, NameError, Pinned, Rights, SpanError};
pub use transfer::{Borrowed, Lending, PackError, Parcel, Recipient, Transfer};
pub use violation::WriteViolation;
#[cfg(feature = "component-model-async")]
pub use wit::{add_async_to_linker, add_async_to_linker_with};
#[cfg(feature = "wasi-io")]
pub use wit::{
    add_pressure_to_linker, add_pressure_to_linker_with, add_streams_to_linker,
    add_streams_to_linker_with, add_waits_to_linker, add_waits_to_linker_with,
};
pub use wit::{add_to_linker, add_to_linker_with};

pub use wasmtime;
#[cfg(feature = "wasi-io")]
pub use wasmtime_wasi_io;

#[cfg(test)]
mod refusal_tests;
