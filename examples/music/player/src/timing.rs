use std::time::{Duration, Instant};

use tombolo_guest::Region;

use crate::bindings::tombolo_examples::music::server::{self, Failure};
use crate::explain;

/// How often each way is timed.
pub(crate) const ROUNDS: usize = 15;

/// What it costs to hand the same samples over, in either way.
pub(crate) struct Handover {
    /// Lend, map, unmap.
    pub(crate) region: Duration,
    /// Copy into a list.
    pub(crate) list: Duration,
}

/// Hands the samples over again and again, without doing anything with them.
pub(crate) fn measure(samples: &Region) -> Result<Handover, String> {
    let region = median(|| server::touch(samples))?;
    let window = samples.read_window(..).map_err(|error| error.to_string())?;
    let list = median(|| server::touch_bytes(&window).map(drop))?;
    Ok(Handover { region, list })
}

fn median(mut call: impl FnMut() -> Result<(), Failure>) -> Result<Duration, String> {
    let mut times = [Duration::ZERO; ROUNDS];
    for time in &mut times {
        let start = Instant::now();
        call().map_err(|failure| explain(&failure))?;
        *time = start.elapsed();
    }
    times.sort_unstable();
    Ok(times[ROUNDS / 2])
}
