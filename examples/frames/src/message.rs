use bytemuck::{Pod, Zeroable};

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A frame, whose pixels are in the region that comes with it.
    Frame,
    /// Passed on by every stage: when it is back, so is all that was sent before it,
    /// or it is lost.
    Marker,
    /// A stage says that it has started, maybe after a crash.
    Hello,
}

/// The bytes of a message.
#[derive(Clone, Copy, Debug, Pod, Zeroable, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    kind: u32,
    /// Of the frame, or of the marker.
    pub number: u32,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

impl Header {
    /// The header of a frame.
    #[must_use]
    pub fn frame(number: u32, width: u32, height: u32) -> Header {
        Header {
            kind: 0,
            number,
            width,
            height,
        }
    }

    /// A marker.
    #[must_use]
    pub fn marker(number: u32) -> Header {
        Header {
            kind: 1,
            number,
            width: 0,
            height: 0,
        }
    }

    /// A greeting.
    #[must_use]
    pub fn hello() -> Header {
        Header {
            kind: 2,
            number: 0,
            width: 0,
            height: 0,
        }
    }

    /// What the message is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.kind {
            0 => Kind::Frame,
            1 => Kind::Marker,
            _ => Kind::Hello,
        }
    }

    /// Reads the bytes of a message.
    ///
    /// # Errors
    ///
    /// If they are none of this pipeline's.
    pub fn read(bytes: &[u8]) -> Result<Header, String> {
        bytemuck::try_pod_read_unaligned(bytes)
            .map_err(|error| format!("a message of {} bytes: {error}", bytes.len()))
    }

    /// The bytes of a message.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        bytemuck::bytes_of(self)
    }

    /// How many bytes the pixels of a frame have: four for each.
    #[must_use]
    pub fn size(&self) -> u64 {
        4 * u64::from(self.width) * u64::from(self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_were_written() {
        for header in [Header::frame(3, 40, 50), Header::marker(9), Header::hello()] {
            assert_eq!(Header::read(header.bytes()), Ok(header));
        }
        assert_eq!(Header::frame(3, 40, 50).kind(), Kind::Frame);
        assert_eq!(Header::marker(3).kind(), Kind::Marker);
        assert!(Header::read(b"short").unwrap_err().contains("5 bytes"));
    }
}
