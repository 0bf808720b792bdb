use crate::bindings::exports::tombolo_examples::cache::viewing::{Colour, Impression};

/// The number of bytes in a pixel.
pub(crate) const PIXEL: usize = 4;

/// The number of steps from black to white.
const STEPS: usize = 8;

/// Analyses pixels. Returns `None` if they are incomplete, or if there are none.
pub(crate) fn at(bytes: &[u8]) -> Option<Impression> {
    let (pixels, []) = bytes.as_chunks::<PIXEL>() else {
        return None;
    };
    let mut sums = [0_u64; 3];
    let mut histogram = vec![0; STEPS];
    for &[red, green, blue, _] in pixels {
        for (sum, part) in sums.iter_mut().zip([red, green, blue]) {
            *sum += u64::from(part);
        }
        histogram[step(red, green, blue)] += 1;
    }
    let count = pixels.len() as u64;
    let mean = |sum: u64| u8::try_from(sum.checked_div(count)?).ok();
    Some(Impression {
        checksum: crc32fast::hash(bytes),
        mean: Colour {
            red: mean(sums[0])?,
            green: mean(sums[1])?,
            blue: mean(sums[2])?,
        },
        histogram,
    })
}

/// Returns the step of a colour by its perceived brightness.
fn step(red: u8, green: u8, blue: u8) -> usize {
    let bright = 299 * usize::from(red) + 587 * usize::from(green) + 114 * usize::from(blue);
    bright * STEPS / (1000 * 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_spans_black_to_white() {
        let seen = at(&[0, 0, 0, 255, 255, 255, 255, 255, 254, 255, 255, 0]).unwrap();
        assert_eq!(seen.histogram, [1, 0, 0, 0, 0, 0, 0, 2]);
        let Colour { red, green, blue } = seen.mean;
        assert_eq!((red, green, blue), (169, 170, 170));
    }

    #[test]
    fn checksum_is_crc32_of_png_and_zip() {
        // The usual test vector is "123456789". Here the length must be that of whole
        // pixels.
        assert_eq!(at(b"12345678").unwrap().checksum, 0x9ae0_daaf);
    }

    #[test]
    fn incomplete_pixel_is_refused() {
        assert!(at(&[0; 7]).is_none());
        assert!(at(&[]).is_none());
    }
}
