use bytemuck::{Pod, Zeroable};

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A frame. The message carries a region with its pixels.
    Frame,
    /// A marker, which every stage passes on. When it is back, each message that was sent
    /// before it is back or lost.
    Marker,
    /// A greeting: a stage has started, possibly after a crash.
    Hello,
}

/// The bytes of a message.
#[derive(Clone, Copy, Debug, Pod, Zeroable, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    kind: u32,
    /// The number of the frame, or of the marker.
    pub number: u32,
    /// The width in pixels.
    pub width: u32,
    /// The height in pixels.
    pub height: u32,
}

impl Header {
    /// Returns the header of a frame.
    #[must_use]
    pub fn frame(number: u32, width: u32, height: u32) -> Header {
        Header {
            kind: 0,
            number,
            width,
            height,
        }
    }

    /// Returns a marker.
    #[must_use]
    pub fn marker(number: u32) -> Header {
        Header {
            kind: 1,
            number,
            width: 0,
            height: 0,
        }
    }

    /// Returns a greeting.
    #[must_use]
    pub fn hello() -> Header {
        Header {
            kind: 2,
            number: 0,
            width: 0,
            height: 0,
        }
    }

    /// Returns the kind of the message.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.kind {
            0 => Kind::Frame,
            1 => Kind::Marker,
            _ => Kind::Hello,
        }
    }

    /// Parses the bytes of a message.
    ///
    /// # Errors
    ///
    /// Fails if this pipeline has no such message.
    pub fn read(bytes: &[u8]) -> Result<Header, String> {
        bytemuck::try_pod_read_unaligned(bytes)
            .map_err(|error| format!("a message of {} bytes: {error}", bytes.len()))
    }

    /// Returns the bytes of a message.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        bytemuck::bytes_of(self)
    }

    /// Returns the size of the frame in bytes: four for each pixel.
    #[must_use]
    pub fn size(&self) -> u64 {
        4 * u64::from(self.width) * u64::from(self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_a_round_trip() {
        for header in [Header::frame(3, 40, 50), Header::marker(9), Header::hello()] {
            assert_eq!(Header::read(header.bytes()), Ok(header));
        }
        assert_eq!(Header::frame(3, 40, 50).kind(), Kind::Frame);
        assert_eq!(Header::marker(3).kind(), Kind::Marker);
        assert!(Header::read(b"short").unwrap_err().contains("5 bytes"));
    }
}
