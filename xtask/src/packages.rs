//! The packages that cargo does not build by default: guests, and what needs features of
//! its own.

/// The guests, which are compiled for `wasm32-wasip2`.
pub(crate) const GUESTS: &[&str] = &[
    "tombolo-guest",
    "tombolo-test-guests",
    "music-player",
    "music-audioserver",
    "cache-gallery",
    "cache-viewer",
    "frames",
    "meter",
    "embed-plugin",
    "proxy-guests",
];

/// The packages of guests that have tests which run natively, where a debugger can see them.
/// The tests of the host run the same code as guests.
pub(crate) const NATIVE_GUESTS: &[&str] = &[
    "tombolo-guest",
    "music-player",
    "music-audioserver",
    "cache-gallery",
    "cache-viewer",
    "frames",
    "meter",
];

/// The tests of how threads race. Each enables a feature that replaces locks and threads, so
/// each is built apart from the others and from the program.
pub(crate) const RACES: &[&str] = &["tombolo-loom-tests", "tombolo-race-tests"];

/// The commands of this repository, whose dependencies would change the features of
/// wasmtime.
pub(crate) const TOOLS: &str = "xtask";

/// The profile of these commands, which optimises nothing.
pub(crate) const TOOLS_PROFILE: &str = "xtask";

/// The benchmarks that count instructions.
pub(crate) const INSTRUCTIONS: &str = "tombolo-instruction-counts";

/// The tests of `tombolo-region`, which Miri interprets.
pub(crate) const REGION_TESTS: &str = "tombolo-region-tests";

/// The published crates that do not depend on wasmtime.
pub(crate) const WITHOUT_WASMTIME: &[&str] =
    &["tombolo-exchange", "tombolo-guest", "tombolo-region"];
