use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};

use crate::riff::{self, Riff};

/// The minimal header that `Riff` makes, followed by the samples.
type Source = io::Chain<Cursor<Vec<u8>>, io::Take<BufReader<File>>>;

/// A WAV file whose samples can be read.
pub(crate) struct Wav {
    reader: WavReader<Source>,
}

impl Wav {
    /// Opens a file, and checks everything that can be checked before its samples are read.
    ///
    /// # Errors
    ///
    /// Returns the defect of the file, to be printed after its name.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let mut file = File::open(path).map_err(|error| {
            format!(
                "cannot be opened: {error}; give a path in a directory that the player may read"
            )
        })?;
        let metadata = file.metadata().map_err(|error| riff::unreadable(&error))?;
        if metadata.is_dir() {
            return Err("is a directory; give a WAV file in it".to_owned());
        }
        let riff = Riff::read(&mut file, metadata.len())?;
        file.seek(SeekFrom::Start(riff.data_at))
            .map_err(|error| riff::unreadable(&error))?;
        let samples = BufReader::with_capacity(1 << 18, file).take(riff.data_len.into());
        let reader = WavReader::new(Cursor::new(riff.plain_header()).chain(samples))
            .map_err(|error| unsupported(&error))?;
        Ok(Self { reader })
    }

    pub(crate) fn spec(&self) -> WavSpec {
        self.reader.spec()
    }

    /// Returns the number of samples in each channel.
    pub(crate) fn frames(&self) -> u32 {
        self.reader.duration()
    }

    /// Reads the samples of a file with up to 16 bits.
    pub(crate) fn decode_int16(mut self, samples: &mut [i16]) -> Result<(), String> {
        let missing = 16 - self.spec().bits_per_sample;
        for (to, from) in samples.iter_mut().zip(self.reader.samples::<i16>()) {
            *to = from.map_err(|error| unsupported(&error))? << missing;
        }
        Ok(())
    }

    /// Reads the samples of a file with floats, or more bits. NaN becomes silence.
    pub(crate) fn decode_float32(mut self, samples: &mut [f32]) -> Result<(), String> {
        let spec = self.spec();
        match spec.sample_format {
            SampleFormat::Float => {
                for (to, from) in samples.iter_mut().zip(self.reader.samples::<f32>()) {
                    let from = from.map_err(|error| unsupported(&error))?;
                    *to = if from.is_finite() { from } else { 0.0 };
                }
            }
            SampleFormat::Int => {
                let scale = full_scale(spec).recip();
                for (to, from) in samples.iter_mut().zip(self.reader.samples::<i32>()) {
                    let from = from.map_err(|error| unsupported(&error))?;
                    *to = (f64::from(from) * scale) as f32;
                }
            }
        }
        Ok(())
    }
}

/// Writes samples that `decode_int16` has read.
pub(crate) fn encode_int16(
    file: impl Write + Seek,
    spec: WavSpec,
    samples: &[i16],
) -> hound::Result<()> {
    let surplus = 16 - spec.bits_per_sample;
    let largest = i16::MAX >> surplus;
    let half = (1 << surplus) >> 1;
    let mut writer = WavWriter::new(file, spec)?;
    for &sample in samples {
        writer.write_sample((sample.saturating_add(half) >> surplus).min(largest))?;
    }
    writer.finalize()
}

/// Writes samples that `decode_float32` has read.
pub(crate) fn encode_float32(
    file: impl Write + Seek,
    spec: WavSpec,
    samples: &[f32],
) -> hound::Result<()> {
    let mut writer = WavWriter::new(file, spec)?;
    match spec.sample_format {
        SampleFormat::Float => {
            for &sample in samples {
                writer.write_sample(sample)?;
            }
        }
        SampleFormat::Int => {
            let scale = full_scale(spec);
            for &sample in samples {
                let scaled = (f64::from(sample) * scale).round();
                writer.write_sample(scaled.clamp(-scale, scale - 1.0) as i32)?;
            }
        }
    }
    writer.finalize()
}

/// Returns the integer that represents 1.0.
fn full_scale(spec: WavSpec) -> f64 {
    f64::from(spec.bits_per_sample - 1).exp2()
}

fn unsupported(error: &hound::Error) -> String {
    match error {
        hound::Error::IoError(error) => riff::unreadable(error),
        error => format!(
            "has a format that the player does not read ({error}); \
             8, 16, 24 and 32 bits and 32-bit floats it does"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::Pcm;

    fn spec(channels: u16, bits_per_sample: u16, sample_format: SampleFormat) -> WavSpec {
        WavSpec {
            channels,
            sample_rate: 48_000,
            bits_per_sample,
            sample_format,
        }
    }

    /// Encodes, decodes, and encodes again.
    fn there_and_back(spec: WavSpec, name: &str) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(name);
        let file = || File::create(&path).expect("a file");
        let frames = 5;
        let len = frames * usize::from(spec.channels);
        match Pcm::of(spec) {
            Pcm::Int16 => {
                let step = 1 << (16 - spec.bits_per_sample);
                let samples: Vec<i16> = (0..len as i16).map(|n| (n - 4) * step).collect();
                encode_int16(file(), spec, &samples).expect("written");
                let wav = Wav::open(&path).expect("read");
                assert_eq!((wav.spec(), wav.frames() as usize), (spec, frames));
                let mut back = vec![0; len];
                wav.decode_int16(&mut back).expect("decoded");
                assert_eq!(samples, back);
            }
            Pcm::Float32 => {
                let samples: Vec<f32> = (0..len).map(|n| n as f32 / 64.0 - 0.25).collect();
                encode_float32(file(), spec, &samples).expect("written");
                let wav = Wav::open(&path).expect("read");
                assert_eq!((wav.spec(), wav.frames() as usize), (spec, frames));
                let mut back = vec![0.0; len];
                wav.decode_float32(&mut back).expect("decoded");
                assert_eq!(samples, back);
            }
        }
    }

    #[test]
    fn every_format_survives_a_round_trip() {
        for channels in [1, 2, 6] {
            for bits in [8, 16, 24, 32] {
                there_and_back(spec(channels, bits, SampleFormat::Int), "int.wav");
            }
            there_and_back(spec(channels, 32, SampleFormat::Float), "float.wav");
        }
    }

    #[test]
    fn loudest_samples_do_not_wrap() {
        let spec = spec(1, 8, SampleFormat::Int);
        let mut bytes = Cursor::new(Vec::new());
        encode_int16(&mut bytes, spec, &[i16::MAX, i16::MIN]).expect("written");
        assert!(bytes.into_inner().ends_with(&[255, 0]));

        let spec = WavSpec {
            bits_per_sample: 24,
            ..spec
        };
        let mut bytes = Cursor::new(Vec::new());
        encode_float32(&mut bytes, spec, &[2.0, -2.0]).expect("written");
        assert!(
            bytes
                .into_inner()
                .ends_with(&[0xff, 0xff, 0x7f, 0, 0, 0x80])
        );
    }

    #[test]
    fn truncated_file_is_refused_before_decoding() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("cut.wav");
        let file = File::create(&path).expect("a file");
        encode_int16(&file, spec(2, 16, SampleFormat::Int), &[1; 1000]).expect("written");
        file.set_len(1000).expect("cut");
        let error = Wav::open(&path).err().expect("refused");
        assert!(
            error.contains("promises 2000 bytes of samples, and there are"),
            "{error}"
        );
    }

    #[test]
    fn directory_and_missing_file_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let error = Wav::open(directory.path()).err().expect("refused");
        assert!(error.contains("is a directory"), "{error}");
        let error = Wav::open(&directory.path().join("none.wav"))
            .err()
            .expect("refused");
        assert!(error.contains("cannot be opened"), "{error}");
    }
}
