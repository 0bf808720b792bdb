//! Levels of audio samples.

/// The levels of some samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Levels {
    peak: f32,
    squares: f64,
    count: u32,
}

impl Levels {
    /// Adds samples.
    pub fn add(&mut self, samples: &[f32]) {
        for sample in samples {
            self.peak = self.peak.max(sample.abs());
            self.squares += f64::from(*sample).powi(2);
            self.count += 1;
        }
    }

    /// Returns the largest sample, in dBFS.
    pub fn peak(&self) -> f64 {
        decibels(self.peak.into())
    }

    /// Returns the root mean square, in dBFS.
    pub fn rms(&self) -> f64 {
        decibels((self.squares / f64::from(self.count.max(1))).sqrt())
    }

    /// Returns the peak as a bar: one character for each 2 dB above -44 dBFS.
    pub fn bar(&self) -> String {
        let signs = ((self.peak() + 44.0) / 2.0).round().clamp(0.0, 22.0);
        "#".repeat(signs as usize)
    }
}

fn decibels(amplitude: f64) -> f64 {
    20.0 * amplitude.max(1e-5).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_span_silence_to_full_scale() {
        let mut levels = Levels::default();
        assert_eq!((levels.peak().round(), levels.bar().len()), (-100.0, 0));
        levels.add(&[0.0; 10]);
        assert_eq!(levels.rms().round(), -100.0);
        levels.add(&[-1.0; 10]);
        assert_eq!((levels.peak(), levels.bar().len()), (0.0, 22));
        assert_eq!((levels.rms() * 100.0).round(), -301.0);
    }
}
