//! Apps: components that run as guests, each in a store of its own, and call each other.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use tombolo_app::{App, GuestSpec};
//!
//! let guest = |name: &str| -> std::io::Result<GuestSpec> {
//!     let wasm = std::fs::read(format!("{name}.wasm"))?;
//!     Ok(GuestSpec { inherit_stdio: true, ..GuestSpec::new(name, wasm) })
//! };
//! let app = App::builder()
//!     .guest(guest("player")?)
//!     .guest(guest("audioserver")?)
//!     .start()
//!     .await?;
//! let outcome = app.run().await;
//! println!("{:?}", outcome.end);
//! # Ok(())
//! # }
//! ```
//!
//! [`AppBuilder::start`] must run on a tokio runtime with time and I/O enabled, which must live
//! until the app has ended. It blocks while it compiles; other functions do not block, unless
//! their documentation says so.
//!
//! By default every guest may call every other: restrict that with [`AppBuilder::may_call`].
//! Components compile in this process unless [`AppBuilder::compiler`] names another.
//!
//! # Async functions
//!
//! A guest that imports or exports async functions answers up to
//! [`Limits::tasks`](tombolo::Limits::tasks) calls at a time, its plain functions one at a time.
//! While such a guest lends a region by an async function, its own windows on it show zero pages,
//! because its other tasks run on. If it cancels the call, they end, and the callee goes on.
//!
//! Of WASI 0.3, guests have `cli`, `clocks` and `random`, and a command may export
//! `wasi:cli/run@0.3.0`. Files are those of WASI 0.2.
//!
//! # Guests that are ended
//!
//! A guest ends by its own fault, or by [`AppHandle`]: because the operator wants it, because
//! memory is short, or because the whole app stops. Callers of such a guest learn its name
//! and the reason. They get it as a value if the function's result type is `result<_, E>`,
//! and `E` is `string` or a variant with a case `peer-failed(string)`. Otherwise they trap.
//!
//! # Features
//!
//! - `serde`: [`Report`] and its parts implement `serde::Serialize`.
#![forbid(unsafe_code)]

mod async_interfaces;
mod awaited;
mod builder;
mod bundle;
mod bytes;
mod call;
mod call_stats;
mod channel;
mod check;
mod clock;
mod compile;
mod exit;
mod files;
mod filesystem;
mod grants;
mod guest;
mod guests;
mod handle;
mod import;
mod incarnation;
mod instance_size;
mod interfaces;
#[doc(hidden)]
pub mod internal;
mod limiter;
mod link;
mod mailbox;
mod near;
mod oom;
mod oom_policy;
mod outcome;
mod output;
mod parting;
mod pressure_task;
mod proxy;
mod random;
mod report;
mod run;
mod scope;
mod signals;
mod slot_import;
mod slots;
mod spec;
mod start;
mod state;
mod status;
mod strand;
mod streams;
mod supervisor;
mod table;
mod task_table;
mod tasks;
mod template;
mod text;
mod ticker;
mod timers;
mod values;
mod wasi;
mod work;

pub use self::builder::{AppBuilder, Concurrency};
pub use self::check::{Findings, NamedBy, StartError};
pub use self::compile::{CompileLimits, CompilerProcess};
pub use self::handle::{AppHandle, NoSuchGuest};
pub use self::link::{
    Difference, Export, Import, Interfaces, LinkError, LinkErrors, LinkWarning, NearestExport,
    Provider, UnsupportedImport,
};
pub use self::oom_policy::{Candidate, OnPressure, Verdict};
pub use self::outcome::{CommandExit, Outcome};
pub use self::output::Output;
pub use self::report::{
    CallReport, ChannelReport, GuestEnd, GuestReport, KillReport, Report, RestartReport,
    WindowAccess, WindowReport,
};
pub use self::run::App;
pub use self::spec::{
    Backoff, CallSpec, ChannelSpec, CommandSpec, Grant, GuestSpec, Restart, ScopeSpec,
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Embedders move these between threads and share handles. That it compiles is the test.
    #[test]
    fn public_types_cross_threads() {
        fn is_send<T: Send>() {}
        fn is_shared<T: Send + Sync>() {}
        is_send::<AppBuilder>();
        is_send::<App>();
        is_shared::<AppHandle>();
        is_shared::<Outcome>();
        is_shared::<Report>();
        is_shared::<StartError>();
        is_shared::<NoSuchGuest>();
        is_shared::<GuestSpec>();
    }
}
#[cfg(test)]
mod test_engine;
