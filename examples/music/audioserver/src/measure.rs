use ebur128::{EbuR128, Error, Mode};

use crate::bindings::exports::tombolo_examples::music::server::Level;
use crate::sample::Sample;

/// The number of frames that are deinterleaved at a time.
const BLOCK: usize = 4096;

/// Measures each channel of interleaved samples.
pub(crate) fn levels<S: Sample>(
    samples: &[S],
    channels: usize,
    rate: u32,
) -> Result<Vec<Level>, Error> {
    (0..channels)
        .map(|channel| level(samples, channels, channel, rate))
        .collect()
}

fn level<S: Sample>(
    samples: &[S],
    channels: usize,
    channel: usize,
    rate: u32,
) -> Result<Level, Error> {
    let mut meter = EbuR128::new(1, rate, Mode::I | Mode::SAMPLE_PEAK)?;
    let mut squares = 0.0;
    let mut mono = Vec::with_capacity(BLOCK);
    for block in samples.chunks(BLOCK * channels) {
        mono.clear();
        mono.extend(
            block
                .chunks_exact(channels)
                .map(|frame| frame[channel].to_f32()),
        );
        squares += mono.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        meter.add_frames_f32(&mono)?;
    }
    let frames = (samples.len() / channels) as f64;
    Ok(Level {
        peak: decibel(meter.sample_peak(0)?),
        rms: decibel((squares / frames).sqrt()),
        loudness: meter.loudness_global()?,
    })
}

fn decibel(amplitude: f64) -> f64 {
    20.0 * amplitude.log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 48_000;

    /// Three seconds of a sine of 997 Hz on the left, silence on the right.
    fn sine(amplitude: f32) -> Vec<f32> {
        (0..3 * RATE)
            .flat_map(|n| {
                let phase = n as f32 * 997.0 / RATE as f32;
                [
                    amplitude * (phase.fract() * std::f32::consts::TAU).sin(),
                    0.0,
                ]
            })
            .collect()
    }

    #[test]
    fn sine_has_the_levels_of_the_standard() {
        // EBU Tech 3341: a full-scale sine of 997 Hz in one front channel reads
        // -3.01 LUFS, so one at -20 dBFS reads -23.01.
        let levels = levels(&sine(0.1), 2, RATE).expect("48 kHz can be measured");
        assert!((levels[0].peak - -20.0).abs() < 0.01, "{levels:?}");
        assert!((levels[0].rms - -23.01).abs() < 0.01, "{levels:?}");
        assert!((levels[0].loudness - -23.01).abs() < 0.05, "{levels:?}");
    }

    #[test]
    fn silence_is_minus_infinity() {
        let levels = levels(&sine(0.1), 2, RATE).expect("48 kHz can be measured");
        assert_eq!(levels[1].peak, f64::NEG_INFINITY);
        assert_eq!(levels[1].rms, f64::NEG_INFINITY);
        assert_eq!(levels[1].loudness, f64::NEG_INFINITY);
    }

    #[test]
    fn integers_and_floats_have_equal_levels() {
        let floats = sine(0.5);
        let integers: Vec<i16> = floats.iter().map(|&x| i16::from_f32(x)).collect();
        let (a, b) = (
            levels(&floats, 2, RATE).expect("48 kHz can be measured"),
            levels(&integers, 2, RATE).expect("48 kHz can be measured"),
        );
        assert!((a[0].loudness - b[0].loudness).abs() < 0.01);
        assert!((a[0].peak - b[0].peak).abs() < 0.01);
    }

    #[test]
    fn nan_is_silence() {
        let levels = levels(&[f32::NAN, f32::INFINITY, 0.5], 1, RATE).expect("48 kHz");
        assert!((levels[0].peak - decibel(0.5)).abs() < 1e-6);
    }

    #[test]
    fn impossible_rate_is_refused() {
        assert!(levels(&[0.0_f32; 8], 1, 3).is_err());
    }
}
