//! Conversion between PNG images and pixels of four bytes.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use png::{BitDepth, ColorType, Decoder, Encoder, Transformations};

/// An image that was opened. Its pixels are not read yet.
pub struct Image {
    reader: png::Reader<BufReader<File>>,
}

impl Image {
    /// Opens an image, and reads its size.
    ///
    /// # Errors
    ///
    /// Returns a line that names the file.
    pub fn open(path: &Path) -> Result<Image, String> {
        let file = File::open(path).map_err(|error| named(path, &error))?;
        let mut decoder = Decoder::new(BufReader::new(file));
        decoder
            .set_transformations(Transformations::normalize_to_color8() | Transformations::ALPHA);
        let reader = decoder.read_info().map_err(|error| named(path, &error))?;
        Ok(Image { reader })
    }

    /// Returns the width and the height in pixels.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        let info = self.reader.info();
        (info.width, info.height)
    }

    /// Reads the pixels, of four bytes each.
    ///
    /// # Errors
    ///
    /// Returns a line that names the defect of the image.
    ///
    /// # Panics
    ///
    /// Panics if the buffer does not have exactly the size of the pixels.
    pub fn read(mut self, pixels: &mut [u8]) -> Result<(), String> {
        let (color, _) = self.reader.output_color_type();
        let (width, height) = self.size();
        assert_eq!(pixels.len(), 4 * width as usize * height as usize);
        match color {
            ColorType::Rgba => {
                let read = self.reader.next_frame(pixels);
                read.map_err(|error| error.to_string())?;
            }
            // Images without colour have two bytes for each pixel.
            ColorType::GrayscaleAlpha => {
                let mut grey = vec![0; pixels.len() / 2];
                let read = self.reader.next_frame(&mut grey);
                read.map_err(|error| error.to_string())?;
                for (pixel, grey) in pixels.chunks_exact_mut(4).zip(grey.chunks_exact(2)) {
                    pixel.copy_from_slice(&[grey[0], grey[0], grey[0], grey[1]]);
                }
            }
            other => return Err(format!("a colour type that was not asked for: {other:?}")),
        }
        Ok(())
    }
}

/// Encodes pixels of four bytes.
///
/// # Errors
///
/// Returns a line that names the file.
pub fn write(path: &Path, pixels: &[u8], width: u32, height: u32) -> Result<(), String> {
    let write = || {
        let file = BufWriter::new(File::create(path)?);
        let mut encoder = Encoder::new(file, width, height);
        encoder.set_color(ColorType::Rgba);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(pixels)?;
        writer.finish()
    };
    write().map_err(|error| named(path, &error))
}

/// Lists the PNG images of a directory, in the order of their names.
///
/// # Errors
///
/// Returns a line that names the directory.
pub fn list(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(directory).map_err(|error| named(directory, &error))?;
    let mut images = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| named(directory, &error))?.path();
        if path
            .extension()
            .is_some_and(|it| it.eq_ignore_ascii_case("png"))
        {
            images.push(path);
        }
    }
    images.sort_unstable();
    Ok(images)
}

/// Makes images of soft colours, with specks for the filters to remove.
///
/// # Errors
///
/// Returns a line that names the file.
pub fn make(directory: &Path, count: u32, width: u32, height: u32) -> Result<(), String> {
    for number in 0..count {
        let mut random = fastrand::Rng::with_seed(number.into());
        let mut pixels = Vec::with_capacity(4 * (width * height) as usize);
        for y in 0..height {
            for x in 0..width {
                let shade = |at: u32, of: u32| u8::try_from(255 * at / of).expect("at most 255");
                let pixel = match random.u8(..) {
                    0 => [255, 255, 255, 255],
                    1 => [0, 0, 0, 255],
                    _ => [
                        shade(x, width),
                        shade(y, height),
                        shade((x + y + 16 * number) % 256, 256),
                        255,
                    ],
                };
                pixels.extend(pixel);
            }
        }
        write(
            &directory.join(format!("made-{number:03}.png")),
            &pixels,
            width,
            height,
        )?;
    }
    Ok(())
}

fn named(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_survive_a_round_trip() {
        let directory = std::env::temp_dir().join(format!("frames-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        make(&directory, 2, 5, 3).unwrap();
        let images = list(&directory).unwrap();
        assert_eq!(images.len(), 2);
        let image = Image::open(&images[1]).unwrap();
        assert_eq!(image.size(), (5, 3));
        let mut pixels = vec![0; 60];
        image.read(&mut pixels).unwrap();
        let copy = directory.join("copy.png");
        write(&copy, &pixels, 5, 3).unwrap();
        assert_eq!(fs::read(&copy).unwrap(), fs::read(&images[1]).unwrap());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn error_names_the_file() {
        let error = Image::open(Path::new("nowhere.png")).err().unwrap();
        assert!(error.starts_with("nowhere.png: "), "{error}");
        let error = list(Path::new("nowhere")).unwrap_err();
        assert!(error.starts_with("nowhere: "), "{error}");
    }
}
