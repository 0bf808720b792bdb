//! Logging to stderr.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::uptime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::failure::CommandFailure;
use super::rate_limit::RateLimit;
use super::stderr::{self, Stderr};

/// The environment variable that selects events.
const VARIABLE: &str = "TOMBOLO_LOG";

/// Starts to log events to stderr: those that `TOMBOLO_LOG` selects, or warnings, and with
/// `verbose` also Tombolo's own at level `debug`. Repeated warnings are counted.
pub(super) fn init(verbose: bool, rate_limit: RateLimit) -> Result<(), CommandFailure> {
    let filter = match std::env::var(VARIABLE) {
        Ok(directives) if !directives.is_empty() => directives,
        _ => directives(verbose).to_owned(),
    };
    let filter = EnvFilter::try_new(&filter).map_err(|error| {
        CommandFailure::new(anyhow::Error::new(error).context(format!(
            "the environment variable {VARIABLE} is not a valid filter: `{filter}`"
        )))
        .hint(format!("write a filter such as `{VARIABLE}=tombolo=debug`"))
    })?;
    let events = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Stderr::default)
        // It would print to stderr itself, and panic if that fails.
        .log_internal_errors(false)
        .with_ansi(stderr::has_colours())
        .with_target(false);
    // Times matter only in a full log.
    let set = if verbose {
        events
            .with_timer(uptime())
            .finish()
            .with(rate_limit)
            .try_init()
    } else {
        events.without_time().finish().with(rate_limit).try_init()
    };
    set.map_err(|error| CommandFailure::msg(format!("cannot log events: {error}")))
}

fn directives(verbose: bool) -> &'static str {
    match verbose {
        false => "warn",
        true => "warn,tombolo=debug",
    }
}
