use std::fmt::Write;
use std::time::Duration;

use crate::Samples;
use crate::args::Args;
use crate::bindings::tombolo_examples::music::server::{Level, Played, Sample};
use crate::timing::Handover;

/// The final output of the player.
pub(crate) fn text(samples: &Samples, args: &Args, played: &Played, handover: &Handover) -> String {
    let mut text = String::new();
    let size = samples.samples.size();
    let format = samples.format;
    let stored = match format.sample {
        Sample::Int16 => "16-bit integers",
        Sample::Float32 => "32-bit floats",
    };
    let frame = size_of_frame(format.sample, format.channels);
    let seconds = (size / frame) as f64 / f64::from(format.rate);

    // Writing to a `String` cannot fail.
    let _ = writeln!(
        text,
        "{}: {seconds:.1} s, {} Hz, channels: {}, {} bytes of {stored}\n",
        samples.name,
        format.rate,
        format.channels,
        grouped(size),
    );
    let _ = writeln!(
        text,
        "{:<14}{:>10}{:>10}{:>12}",
        "channel", "peak", "RMS", "loudness"
    );
    let _ = writeln!(text, "{:<14}{:>10}{:>10}{:>12}", "", "dBFS", "dBFS", "LUFS");
    rows(&mut text, &played.before);
    let _ = writeln!(
        text,
        "after a gain of {:+.1} dB, of which the limiter took back up to {:.1} dB",
        args.gain, played.limited
    );
    rows(&mut text, &played.after);

    let times = handover.lists.as_secs_f64() / handover.region.as_secs_f64();
    let _ = writeln!(
        text,
        "\nhanding over {} bytes, untouched (median)",
        grouped(size)
    );
    let _ = writeln!(
        text,
        "  {:<12}{:>12}",
        "as region",
        duration(handover.region)
    );
    let _ = writeln!(
        text,
        "  {:<12}{:>12}, {} times as long",
        "as list<u8>",
        duration(handover.lists),
        grouped(times.round() as u64)
    );
    if let Some(path) = &args.output {
        let _ = writeln!(text, "\nwritten to {}", path.display());
    }
    text
}

fn rows(text: &mut String, levels: &[Level]) {
    for (number, level) in levels.iter().enumerate() {
        let _ = writeln!(
            text,
            "{:<14}{:>10.2}{:>10.2}{:>12.2}",
            channel(number, levels.len()),
            level.peak,
            level.rms,
            level.loudness
        );
    }
}

/// Returns the channel's place, in the order of WAV files.
fn channel(number: usize, channels: usize) -> String {
    const SURROUND: [&str; 6] = ["left", "right", "center", "low", "back left", "back right"];
    match (channels, SURROUND.get(number)) {
        (1, _) => "mono".to_owned(),
        (2 | 6, Some(place)) => (*place).to_owned(),
        _ => format!("channel {}", number + 1),
    }
}

fn size_of_frame(sample: Sample, channels: u16) -> u64 {
    let sample = match sample {
        Sample::Int16 => 2,
        Sample::Float32 => 4,
    };
    sample * u64::from(channels)
}

/// Returns the number with commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns the duration in a suitable unit.
fn duration(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    if micros < 1000.0 {
        format!("{micros:.1} us")
    } else if micros < 1e6 {
        format!("{:.2} ms", micros / 1e3)
    } else {
        format!("{:.2} s", micros / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units_and_commas() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(100), "100");
        assert_eq!(grouped(10_584_000), "10,584,000");
        assert_eq!(duration(Duration::from_nanos(3_140)), "3.1 us");
        assert_eq!(duration(Duration::from_micros(1_654)), "1.65 ms");
        assert_eq!(duration(Duration::from_millis(1_554)), "1.55 s");
    }

    #[test]
    fn silence_keeps_the_columns() {
        let mut text = String::new();
        let silent = Level {
            peak: f64::NEG_INFINITY,
            rms: -20.0,
            loudness: f64::NEG_INFINITY,
        };
        rows(&mut text, &[silent]);
        assert_eq!(text, "mono                -inf    -20.00        -inf\n");
    }
}
