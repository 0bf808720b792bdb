use std::fmt::Display;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use png::{ColorType, DecodingError, Reader, Transformations};

/// The number of bytes in a pixel: red, green, blue and alpha.
pub(crate) const PIXEL: usize = 4;

/// A PNG image whose header was read.
pub(crate) struct Image {
    reader: Reader<BufReader<File>>,
}

impl Image {
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| says(path, error))?;
        let mut decoder = png::Decoder::new(BufReader::new(file));
        // Any format is converted to 8 bits for each component, with alpha.
        decoder
            .set_transformations(Transformations::normalize_to_color8() | Transformations::ALPHA);
        let reader = decoder.read_info().map_err(|error| says(path, error))?;
        Ok(Self { reader })
    }

    /// Returns the size of the pixels in bytes.
    pub(crate) fn size(&self) -> u64 {
        let (width, height) = self.reader.info().size();
        u64::from(width) * u64::from(height) * PIXEL as u64
    }

    /// Decodes the pixels into a buffer of exactly their size.
    pub(crate) fn decode(mut self, pixels: &mut [u8]) -> Result<(), DecodingError> {
        match self.reader.output_color_type().0 {
            ColorType::Rgba => {
                self.reader.next_frame(pixels)?;
            }
            // Grey and alpha take half of the buffer, and are expanded from there.
            _ => {
                let mut grey = vec![0; pixels.len() / 2];
                self.reader.next_frame(&mut grey)?;
                let (grey, _) = grey.as_chunks();
                let (pixels, _) = pixels.as_chunks_mut();
                for (pixel, &[grey, alpha]) in pixels.iter_mut().zip(grey) {
                    *pixel = [grey, grey, grey, alpha];
                }
            }
        }
        Ok(())
    }
}

/// Lists the PNG images in a directory, by name.
pub(crate) fn list(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let list = || {
        let mut files = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|it| it.eq_ignore_ascii_case("png"))
            {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    };
    list().map_err(|error: std::io::Error| {
        says(
            directory,
            format!("{error}; grant a directory, as with `--dir pictures::/images`"),
        )
    })
}

/// Returns the text of an error about a file.
pub(crate) fn says(path: &Path, error: impl Display) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes an image of two pixels, and decodes it.
    fn decoded(color: ColorType, bytes: &[u8]) -> Vec<u8> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.png");
        let mut encoder = png::Encoder::new(File::create(&path).expect("a file"), 2, 1);
        encoder.set_color(color);
        let mut writer = encoder.write_header().expect("written");
        writer.write_image_data(bytes).expect("written");
        writer.finish().expect("written");
        assert_eq!(
            list(directory.path()).expect("listed"),
            std::slice::from_ref(&path)
        );
        let image = Image::open(&path).expect("it is an image");
        let mut pixels = vec![0; usize::try_from(image.size()).expect("small")];
        image.decode(&mut pixels).expect("it is whole");
        pixels
    }

    #[test]
    fn every_format_becomes_four_bytes_a_pixel() {
        let kinds: [(ColorType, &[u8], [u8; 8]); 4] = [
            (ColorType::Grayscale, &[1, 2], [1, 1, 1, 255, 2, 2, 2, 255]),
            (
                ColorType::GrayscaleAlpha,
                &[1, 2, 3, 4],
                [1, 1, 1, 2, 3, 3, 3, 4],
            ),
            (
                ColorType::Rgb,
                &[1, 2, 3, 4, 5, 6],
                [1, 2, 3, 255, 4, 5, 6, 255],
            ),
            (
                ColorType::Rgba,
                &[1, 2, 3, 4, 5, 6, 7, 8],
                [1, 2, 3, 4, 5, 6, 7, 8],
            ),
        ];
        for (color, bytes, pixels) in kinds {
            assert_eq!(decoded(color, bytes), pixels, "{color:?}");
        }
    }

    #[test]
    fn error_names_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("song.png");
        fs::write(&path, b"RIFF").expect("written");
        let error = Image::open(&path).err().expect("it is a song");
        assert!(error.contains("song.png: "), "{error}");
    }
}
