use tombolo_guest::bytemuck::Pod;

/// A sample as a region stores it.
pub(crate) trait Sample: Pod {
    /// Returns the sample with full scale at 1.0. NaN becomes silence, because another
    /// guest fills the region.
    fn to_f32(self) -> f32;

    /// Returns the nearest sample that can be stored.
    fn from_f32(value: f32) -> Self;
}

impl Sample for i16 {
    fn to_f32(self) -> f32 {
        f32::from(self) / 32768.0
    }

    fn from_f32(value: f32) -> Self {
        // The cast saturates.
        (value * 32768.0).round() as i16
    }
}

impl Sample for f32 {
    fn to_f32(self) -> f32 {
        if self.is_finite() { self } else { 0.0 }
    }

    fn from_f32(value: f32) -> Self {
        value
    }
}
