//! A limiter with look-ahead.
//!
//! Each frame has a gain that it needs to stay under the ceiling; for most it is 1. The
//! applied gain must not be higher, and must change slowly, because sudden changes are
//! audible. Three steps achieve both:
//!
//! 1. *Hold*: the lowest needed gain of the last `LOOK_AHEAD` frames. So a peak counts for
//!    as long as the fall before it takes.
//! 2. *Release*: falls at once, rises slowly.
//! 3. *Smooth*: the mean of the last `LOOK_AHEAD` frames. So the fall is a ramp.
//!
//! A frame gets the gain that results `LOOK_AHEAD` frames later. Each value in that mean is
//! at most the frame's own needed gain, because hold included it and release only lowered
//! it. So the mean is not higher either.

use std::collections::VecDeque;

use crate::sample::Sample;

/// The largest amplitude after the limiter: -1 dBFS.
pub(crate) const CEILING: f32 = 0.891_250_9;

/// The look-ahead, in seconds.
const LOOK_AHEAD: f64 = 0.005;

/// The time until 63 % of the gain has returned, in seconds.
const RELEASE: f64 = 0.1;

/// Amplifies interleaved samples, and keeps them under the ceiling. All channels of a frame
/// get the same gain, so that the stereo image is stable.
///
/// Returns the maximum reduction by the limiter, in dB.
pub(crate) fn limit<S: Sample>(
    input: &[S],
    output: &mut [S],
    channels: usize,
    rate: u32,
    gain: f32,
) -> f64 {
    let mut envelope = Envelope::new(rate);
    let needed = input.chunks_exact(channels).map(|frame| {
        let peak = frame
            .iter()
            .fold(0.0_f32, |peak, sample| peak.max(sample.to_f32().abs()));
        // This holds for a peak that overflows, too: its gain is 0.
        (CEILING / (peak * gain)).min(1.0)
    });
    // The envelope is ahead of its frames. Behind the last frame nothing needs limiting.
    let mut applied = needed
        .chain(std::iter::repeat(1.0))
        .map(|needed| envelope.next(needed))
        .skip(envelope_delay(rate));

    let mut least = 1.0_f32;
    for (input, output) in input
        .chunks_exact(channels)
        .zip(output.chunks_exact_mut(channels))
    {
        let limited = applied.next().unwrap_or(1.0);
        least = least.min(limited);
        for (input, output) in input.iter().zip(output) {
            // Rounding can make the mean too high in its last digits.
            let value = (input.to_f32() * (gain * limited)).clamp(-CEILING, CEILING);
            *output = S::from_f32(value);
        }
    }
    20.0 * f64::from(least).recip().log10()
}

/// Returns the number of frames of look-ahead, at least one.
fn look_ahead(rate: u32) -> usize {
    ((f64::from(rate) * LOOK_AHEAD) as usize).max(1)
}

/// Returns the number of frames by which the envelope is ahead.
fn envelope_delay(rate: u32) -> usize {
    look_ahead(rate) - 1
}

/// The state of hold, release and smooth.
struct Envelope {
    length: usize,
    now: usize,
    /// The candidates for the lowest gain, in descending order. An older value that is
    /// higher than a newer one can never be the lowest again.
    held: VecDeque<(usize, f32)>,
    // As `f64`, because the steps of a slow release are too small for `f32`.
    released: f64,
    release: f64,
    recent: VecDeque<f64>,
    sum: f64,
    /// The number of values in `recent` that are not 1.
    limiting: usize,
}

impl Envelope {
    fn new(rate: u32) -> Self {
        let length = look_ahead(rate);
        Self {
            length,
            now: 0,
            held: VecDeque::new(),
            released: 1.0,
            release: 1.0 - (-1.0 / (RELEASE * f64::from(rate))).exp(),
            recent: VecDeque::with_capacity(length),
            sum: 0.0,
            limiting: 0,
        }
    }

    fn next(&mut self, needed: f32) -> f32 {
        while self.held.back().is_some_and(|&(_, gain)| gain >= needed) {
            self.held.pop_back();
        }
        self.held.push_back((self.now, needed));
        if self
            .held
            .front()
            .is_some_and(|&(at, _)| at + self.length <= self.now)
        {
            self.held.pop_front();
        }
        let held = self.held.front().map_or(1.0, |&(_, gain)| gain);

        // Close to 1 it would rise for ever more slowly, so it becomes 1.
        let risen = self.released + (1.0 - self.released) * self.release;
        let risen = if risen > 0.999_99 { 1.0 } else { risen };
        self.released = risen.min(f64::from(held));

        if self.recent.len() == self.length {
            self.leave();
        }
        self.recent.push_back(self.released);
        self.sum += self.released;
        self.limiting += usize::from(self.released < 1.0);
        self.now += 1;

        if self.limiting == 0 {
            // Exactly 1, so that frames that need no limiting are unchanged, and rounding
            // errors do not accumulate.
            self.sum = self.recent.len() as f64;
            return 1.0;
        }
        (self.sum / self.recent.len() as f64) as f32
    }

    fn leave(&mut self) {
        if let Some(oldest) = self.recent.pop_front() {
            self.sum -= oldest;
            self.limiting -= usize::from(oldest < 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 44_100;

    /// A deterministic signal with quiet and loud parts and sudden peaks.
    fn signal(frames: usize) -> Vec<f32> {
        let mut state = 1_u32;
        (0..frames)
            .map(|n| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
                let loud = if (n / 7000) % 2 == 0 { 0.2 } else { 1.0 };
                if n % 9973 == 5000 { 3.0 } else { noise * loud }
            })
            .collect()
    }

    #[test]
    fn output_stays_under_the_ceiling() {
        let input = signal(60_000);
        for gain in [1.0, 4.0, 100.0] {
            let mut output = vec![0.0_f32; input.len()];
            let limited = limit(&input, &mut output, 2, RATE, gain);
            assert!(output.iter().all(|x| x.abs() <= CEILING));
            assert!(limited > 0.0);
        }
    }

    #[test]
    fn envelope_alone_respects_the_ceiling() {
        // Without the clamp, this would hold only approximately.
        let input = signal(60_000);
        let mut envelope = Envelope::new(RATE);
        let needed = |x: f32| (CEILING / (x.abs() * 4.0)).min(1.0);
        let delay = envelope_delay(RATE);
        let gains: Vec<f32> = input
            .iter()
            .map(|&x| needed(x))
            .chain(std::iter::repeat_n(1.0, delay))
            .map(|gain| envelope.next(gain))
            .skip(delay)
            .collect();
        assert_eq!(gains.len(), input.len());
        for (&x, &gain) in input.iter().zip(&gains) {
            assert!(gain <= needed(x) * 1.000_001);
        }
    }

    #[test]
    fn gain_ramps_instead_of_jumping() {
        let mut input = vec![0.1_f32; 4410];
        input[2000] = 4.0;
        let mut output = vec![0.0_f32; input.len()];
        limit(&input, &mut output, 1, RATE, 1.0);
        let steps = output.windows(2).take(1999);
        let steepest = steps.fold(0.0_f32, |most, pair| most.max((pair[1] - pair[0]).abs()));
        assert!(steepest < 0.1 / 200.0, "{steepest}");
    }

    #[test]
    fn quiet_signal_is_unchanged() {
        let input: Vec<i16> = (0..20_000)
            .map(|n| ((n * 37) % 20_000 - 10_000) as i16)
            .collect();
        let mut output = vec![0; input.len()];
        assert_eq!(limit(&input, &mut output, 2, RATE, 1.0), 0.0);
        assert_eq!(input, output);
    }

    #[test]
    fn signal_recovers_after_a_peak() {
        let mut input = vec![0.25_f32; 3 * RATE as usize];
        input[100] = 2.0;
        let mut output = vec![0.0_f32; input.len()];
        limit(&input, &mut output, 1, RATE, 1.0);
        assert_ne!(output[200], 0.25);
        assert_eq!(output[input.len() - 1], 0.25);
    }

    #[test]
    fn signal_may_be_shorter_than_look_ahead() {
        let mut output = [0.0_f32; 2];
        limit(&[1.0, -1.0], &mut output, 1, RATE, 2.0);
        assert!(output.iter().all(|x| x.abs() <= CEILING && x.abs() > 0.8));
        limit::<f32>(&[], &mut [], 2, RATE, 2.0);
        limit(&[1.0], &mut output, 1, 1, 2.0);
    }
}
