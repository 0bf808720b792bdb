//! The packages that cargo does not build by default: guests, and what needs features of
//! its own.

/// Those of the guests that have tests which run natively, where a debugger can see them.
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
