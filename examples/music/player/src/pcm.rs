use hound::{SampleFormat, WavSpec};

/// The sample format in the region, as small as the recording allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pcm {
    /// For 8 and 16 bits.
    Int16,
    /// For 24 and 32 bits, and floats. A float has 24 significant bits, so the last 8 of 32
    /// are rounded away.
    Float32,
}

impl Pcm {
    pub(crate) fn of(spec: WavSpec) -> Self {
        if spec.sample_format == SampleFormat::Int && spec.bits_per_sample <= 16 {
            Self::Int16
        } else {
            Self::Float32
        }
    }

    /// Returns the size of a sample in bytes.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Int16 => 2,
            Self::Float32 => 4,
        }
    }
}
