use std::time::{Duration, Instant};

use tombolo_guest::Region;

use crate::bindings::tombolo_examples::music::server;
use crate::explain;

/// How often each way is timed at most, and at least.
const ROUNDS: [usize; 2] = [15, 3];

/// After this long, a way that is slow has been timed often enough.
const PATIENCE: Duration = Duration::from_secs(2);

/// Samples go into lists of so many bytes: hosts refuse longer ones, of more
/// than 128 MiB say.
const LIST: usize = 32 << 20;

/// What it costs to hand the same samples over, in either way.
pub(crate) struct Handover {
    /// Lend, map, unmap.
    pub(crate) region: Duration,
    /// Copy, list by list.
    pub(crate) lists: Duration,
}

/// Hands the samples over again and again, without doing anything with them.
pub(crate) fn measure(samples: &Region) -> Result<Handover, String> {
    let region = median(|| server::touch(samples).map_err(|failure| explain(&failure)))?;
    let window = samples.try_read(..).map_err(|error| error.to_string())?;
    let lists = median(|| {
        for list in window.chunks(LIST) {
            server::touch_bytes(list)?;
        }
        Ok(())
    })?;
    Ok(Handover { region, lists })
}

fn median(mut call: impl FnMut() -> Result<(), String>) -> Result<Duration, String> {
    let [most, least] = ROUNDS;
    let begin = Instant::now();
    let mut times = Vec::with_capacity(most);
    while times.len() < least || (times.len() < most && begin.elapsed() < PATIENCE) {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
