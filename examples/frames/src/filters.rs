//! The filters, on pixels of four bytes: red, green, blue, alpha. They work in place and
//! with integers, so that the result is the same everywhere.

/// Replaces each colour of each pixel by the median of the 3 × 3 pixels around it. This
/// removes single specks and preserves edges. Alpha is unchanged.
///
/// # Panics
///
/// Panics if the number of pixels is not `width` × `height`.
pub fn denoise(pixels: &mut [u8], width: usize, height: usize) {
    around(pixels, width, height, |_, mut nine| {
        *nine.select_nth_unstable(4).1
    });
}

/// Sharpens the image: adds to each colour one and a half times its difference from the
/// mean of the 3 × 3 pixels around it. Alpha is unchanged.
///
/// # Panics
///
/// Panics if the number of pixels is not `width` × `height`.
pub fn sharpen(pixels: &mut [u8], width: usize, height: usize) {
    around(pixels, width, height, |own, nine| {
        let mean = nine.iter().map(|it| i32::from(*it)).sum::<i32>() / 9;
        let own = i32::from(own);
        let sharp = own + (own - mean) * 3 / 2;
        u8::try_from(sharp.clamp(0, 255)).expect("clamped")
    });
}

/// Sets each colour to the result of `filter` for itself and the nine colours around it,
/// including itself. At the edges, the outermost pixels are repeated.
fn around(pixels: &mut [u8], width: usize, height: usize, filter: impl Fn(u8, [u8; 9]) -> u8) {
    assert_eq!(
        pixels.len(),
        4 * width * height,
        "{width} x {height} pixels"
    );
    let row = 4 * width;
    // The original rows: the one above, this one, and the one below.
    let mut above = pixels[..row.min(pixels.len())].to_vec();
    let mut here = above.clone();
    for y in 0..height {
        let next = (y + 1).min(height - 1);
        let below = pixels[next * row..][..row].to_vec();
        for x in 0..width {
            let left = 4 * x.saturating_sub(1);
            let right = 4 * (x + 1).min(width - 1);
            for colour in 0..3 {
                let columns = [left + colour, 4 * x + colour, right + colour];
                let mut nine = [0; 9];
                for (part, line) in nine.chunks_exact_mut(3).zip([&above, &here, &below]) {
                    part.iter_mut()
                        .zip(columns)
                        .for_each(|(it, column)| *it = line[column]);
                }
                pixels[y * row + columns[1]] = filter(here[columns[1]], nine);
            }
        }
        above = std::mem::replace(&mut here, below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(values: &[u8]) -> Vec<u8> {
        values.iter().flat_map(|it| [*it, *it, *it, 200]).collect()
    }

    #[test]
    fn denoise_removes_specks_and_keeps_edges() {
        let mut pixels = grey(&[0, 0, 0, 9, 9, 9, 0, 255, 0, 9, 9, 9, 0, 0, 0, 9, 9, 9]);
        denoise(&mut pixels, 6, 3);
        let expected = grey(&[0, 0, 0, 9, 9, 9, 0, 0, 0, 9, 9, 9, 0, 0, 0, 9, 9, 9]);
        assert_eq!(pixels, expected);
    }

    #[test]
    fn sharpen_steepens_edges_only() {
        let mut pixels = grey(&[10, 10, 100, 100]);
        sharpen(&mut pixels, 4, 1);
        assert_eq!(pixels, grey(&[10, 0, 145, 100]));
    }

    #[test]
    fn single_pixel_is_its_own_neighbour() {
        let mut pixels = grey(&[7]);
        denoise(&mut pixels, 1, 1);
        sharpen(&mut pixels, 1, 1);
        assert_eq!(pixels, grey(&[7]));
    }

    #[test]
    #[should_panic(expected = "2 x 2 pixels")]
    fn wrong_size_panics() {
        denoise(&mut [0; 12], 2, 2);
    }
}
