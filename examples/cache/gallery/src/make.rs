//! Makes pictures, so that the example needs no files: Julia sets, each with another
//! constant. They are the same in every run.

use std::f64::consts::TAU;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;

use png::{BitDepth, ColorType, EncodingError};

use crate::image::{self, PIXEL};

/// The width and the height in pixels. A picture has 1 MiB.
const SIDE: u32 = 512;

/// The number of steps after which a point is considered to stay.
const STEPS: u32 = 96;

/// Writes `count` pictures into a directory.
pub(crate) fn pictures(directory: &Path, count: u32) -> Result<(), String> {
    for number in 0..count {
        let name = format!("picture-{number:03}.png");
        let path = directory.join(&name);
        // The file is renamed when it is complete. So an interrupted run leaves no
        // half-written image behind.
        let part = directory.join(format!(".{name}.part"));
        write(&part, &draw(number))
            .and_then(|()| Ok(fs::rename(&part, &path)?))
            .map_err(|error| image::says(&path, error))?;
    }
    Ok(())
}

fn write(path: &Path, pixels: &[u8]) -> Result<(), EncodingError> {
    let file = BufWriter::new(File::create(path)?);
    let mut encoder = png::Encoder::new(file, SIDE, SIDE);
    encoder.set_color(ColorType::Rgba);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()
}

fn draw(number: u32) -> Vec<u8> {
    // Around the main body of the Mandelbrot set, at a different place each time.
    let angle = (f64::from(number) * 0.618_033_988_75).fract() * TAU;
    let (sin, cos) = angle.sin_cos();
    let constant = (
        0.51 * cos - 0.255 * (2.0 * angle).cos(),
        0.51 * sin - 0.255 * (2.0 * angle).sin(),
    );
    let hue = angle / TAU;

    let mut pixels = Vec::with_capacity((SIDE * SIDE) as usize * PIXEL);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let steps = escape((place(x), place(y)), constant);
            pixels.extend(colour(steps, hue));
        }
    }
    pixels
}

/// From -1.5 to 1.5.
fn place(pixel: u32) -> f64 {
    3.0 * f64::from(pixel) / f64::from(SIDE) - 1.5
}

/// Returns the number of steps until a point is far away, or `None` if it stays. The number
/// has a fraction, which makes the colours smooth.
fn escape((mut re, mut im): (f64, f64), constant: (f64, f64)) -> Option<f64> {
    for step in 0..STEPS {
        let square = re * re + im * im;
        if square > 256.0 {
            return Some(f64::from(step) - square.ln().log2() + 3.0);
        }
        (re, im) = (re * re - im * im + constant.0, 2.0 * re * im + constant.1);
    }
    None
}

fn colour(steps: Option<f64>, hue: f64) -> [u8; PIXEL] {
    let Some(steps) = steps else {
        return [0, 0, 0, 255];
    };
    let part = |shift: f64| {
        let wave = (TAU * (steps / 24.0 + hue + shift)).cos();
        (127.5 + 127.5 * wave) as u8
    };
    [part(0.0), part(0.15), part(0.35), 255]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_have_one_mebibyte_and_differ() {
        let (first, second) = (draw(0), draw(1));
        assert_eq!(first.len(), 1 << 20);
        assert_ne!(first, second);
        assert_eq!(first, draw(0));
        // The picture is neither uniform nor noise.
        let black = first.chunks(PIXEL).filter(|it| it[..3] == [0; 3]).count();
        assert!(black < first.len() / PIXEL / 2, "{black}");
    }

    #[test]
    fn decoded_picture_equals_the_drawn_one() {
        let directory = tempfile::tempdir().expect("a directory");
        pictures(directory.path(), 2).expect("written");
        let files = image::list(directory.path()).expect("listed");
        assert_eq!(files.len(), 2);
        let mut pixels = vec![0; 1 << 20];
        let picture = image::Image::open(&files[1]).expect("it is an image");
        picture.decode(&mut pixels).expect("it is whole");
        assert!(pixels == draw(1));
    }
}
