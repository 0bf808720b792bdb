use crate::bindings::exports::tombolo_examples::cache::viewing::{Colour, Impression};

/// Bytes in a pixel.
pub(crate) const PIXEL: usize = 4;

/// Steps from black to white.
const STEPS: usize = 8;

/// Looks at pixels. Nothing if they are not whole, or there are none.
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

/// The step that a colour is on, by what the eye makes of its parts.
fn step(red: u8, green: u8, blue: u8) -> usize {
    let bright = 299 * usize::from(red) + 587 * usize::from(green) + 114 * usize::from(blue);
    bright * STEPS / (1000 * 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn black_and_white_are_at_the_ends() {
        let seen = at(&[0, 0, 0, 255, 255, 255, 255, 255, 254, 255, 255, 0]).unwrap();
        assert_eq!(seen.histogram, [1, 0, 0, 0, 0, 0, 0, 2]);
        let Colour { red, green, blue } = seen.mean;
        assert_eq!((red, green, blue), (169, 170, 170));
    }

    #[test]
    fn checksum_is_that_of_png_and_zip() {
        // As of "1234567890 " in every table; here it has to be whole pixels.
        assert_eq!(at(b"12345678").unwrap().checksum, 0x9ae0_daaf);
    }

    #[test]
    fn parts_of_pixels_are_refused() {
        assert!(at(&[0; 7]).is_none());
        assert!(at(&[]).is_none());
    }
}
