use std::time::{Duration, Instant};

use tombolo_guest::Region;

use crate::bindings::tombolo_examples::music::server;
use crate::explain;

/// The maximum and the minimum number of measurements.
const ROUNDS: [usize; 2] = [15, 3];

/// The time after which a slow method has been measured often enough.
const PATIENCE: Duration = Duration::from_secs(2);

/// The size of each list, in bytes. Hosts limit the length of lists, for example to 128 MiB.
const LIST: usize = 32 << 20;

/// The cost of handing the same samples over, with each method.
pub(crate) struct Handover {
    /// Lending, mapping and unmapping.
    pub(crate) region: Duration,
    /// Copying, list by list.
    pub(crate) lists: Duration,
}

/// Hands the samples over repeatedly, and does nothing else with them.
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
