//! Shows what the library logs.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::uptime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::failure::Failure;
use super::repeats::Repeats;
use super::say::Stderr;

/// The environment variable that says what to show.
const VARIABLE: &str = "TOMBOLO_LOG";

/// Shows events on stderr: warnings, or more of Tombolo's own with each
/// `verbose`, or what the environment says. Repeated warnings are counted.
pub(super) fn show(verbose: u8, repeats: Repeats) -> Result<(), Failure> {
    let filter = match std::env::var(VARIABLE) {
        Ok(directives) if !directives.is_empty() => directives,
        _ => directives(verbose).to_owned(),
    };
    let filter = EnvFilter::try_new(&filter).map_err(|error| {
        Failure::new(anyhow::Error::new(error).context(format!(
            "the environment variable {VARIABLE} says `{filter}`, which is no filter"
        )))
        .hint(format!("a filter is as in `{VARIABLE}=tombolo=debug`"))
    })?;
    let events = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Stderr::default)
        // It would say it on stderr, and panic where that fails.
        .log_internal_errors(false)
        .with_ansi(super::fancy())
        .with_target(false);
    // When something happened matters only to those who follow it all.
    let set = if verbose == 0 {
        events.without_time().finish().with(repeats).try_init()
    } else {
        events
            .with_timer(uptime())
            .finish()
            .with(repeats)
            .try_init()
    };
    set.map_err(|error| Failure::says(format!("cannot show events: {error}")))
}

fn directives(verbose: u8) -> &'static str {
    match verbose {
        0 => "warn",
        1 => "warn,tombolo=debug",
        _ => "info,tombolo=trace",
    }
}
