//! The filters, on pixels of four bytes: red, green, blue, alpha. In place, and in
//! whole numbers, so that they come to the same bytes everywhere.

/// Replaces each colour of each pixel by the median of the 3 × 3 pixels around it,
/// which takes single specks away and keeps edges. Alpha stays as it is.
///
/// # Panics
///
/// Panics if there are not as many pixels as `width` and `height` say.
pub fn denoise(pixels: &mut [u8], width: usize, height: usize) {
    around(pixels, width, height, |_, mut nine| {
        *nine.select_nth_unstable(4).1
    });
}

/// Sharpens: adds to each colour one and a half times by how much it differs from
/// the mean of the 3 × 3 pixels around it. Alpha stays as it is.
///
/// # Panics
///
/// Panics if there are not as many pixels as `width` and `height` say.
pub fn sharpen(pixels: &mut [u8], width: usize, height: usize) {
    around(pixels, width, height, |own, nine| {
        let mean = nine.iter().map(|it| i32::from(*it)).sum::<i32>() / 9;
        let own = i32::from(own);
        let sharp = own + (own - mean) * 3 / 2;
        u8::try_from(sharp.clamp(0, 255)).expect("clamped")
    });
}

/// Sets each colour to what `filter` makes of it and of the nine around it, itself
/// included; at the edges, the outermost pixels stand for what is missing.
fn around(pixels: &mut [u8], width: usize, height: usize, filter: impl Fn(u8, [u8; 9]) -> u8) {
    assert_eq!(
        pixels.len(),
        4 * width * height,
        "{width} x {height} pixels"
    );
    let row = 4 * width;
    // The rows as they were: the one above, this one, and the one below.
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
    fn specks_go_and_edges_stay() {
        let mut pixels = grey(&[0, 0, 0, 9, 9, 9, 0, 255, 0, 9, 9, 9, 0, 0, 0, 9, 9, 9]);
        denoise(&mut pixels, 6, 3);
        let expected = grey(&[0, 0, 0, 9, 9, 9, 0, 0, 0, 9, 9, 9, 0, 0, 0, 9, 9, 9]);
        assert_eq!(pixels, expected);
    }

    #[test]
    fn edges_get_steeper_and_plains_stay() {
        let mut pixels = grey(&[10, 10, 100, 100]);
        sharpen(&mut pixels, 4, 1);
        assert_eq!(pixels, grey(&[10, 0, 145, 100]));
    }

    #[test]
    fn one_pixel_has_itself_around_it() {
        let mut pixels = grey(&[7]);
        denoise(&mut pixels, 1, 1);
        sharpen(&mut pixels, 1, 1);
        assert_eq!(pixels, grey(&[7]));
    }

    #[test]
    #[should_panic(expected = "2 x 2 pixels")]
    fn wrong_size_is_a_bad_frame() {
        denoise(&mut [0; 12], 2, 2);
    }
}
