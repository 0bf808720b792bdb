use std::path::{Path, PathBuf};

use tombolo_guest::{Error, Pinned, Region, Rights};

use crate::bindings::tombolo_examples::cache::viewing::{self, Failure};
use crate::image::{self, Image};

/// Decoded images, each in a region of its own. Only the image in use is pinned, so the
/// host may purge all others.
pub(crate) struct Cache {
    entries: Vec<Entry>,
    decoded: u64,
}

struct Entry {
    file: PathBuf,
    pixels: Region,
    /// The checksum of the first decoding. The viewer must always see the same one.
    checksum: u32,
}

/// The result of a view.
pub(crate) struct Seen {
    /// Whether the image was lost, and had to be decoded again.
    pub(crate) lost: bool,
}

impl Cache {
    /// Decodes all images once. If the memory does not suffice for all, the first images
    /// are lost before the last ones are decoded.
    pub(crate) fn fill(files: Vec<PathBuf>) -> Result<Self, String> {
        let mut cache = Self {
            entries: Vec::with_capacity(files.len()),
            decoded: 0,
        };
        for file in files {
            let image = Image::open(&file)?;
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let size = image.size();
            let refused = |error| refused(&file, size, &error);
            // The region uses no memory until it is pinned.
            let pixels = Region::create_unpinned(&name, size).map_err(refused)?;
            // Nothing can be lost yet.
            pixels.pin(..).map_err(refused)?.into_inner();
            let checksum = decode(image, &file, &pixels)?;
            pixels.unpin(..).map_err(refused)?;
            cache.decoded += size;
            cache.entries.push(Entry {
                file,
                pixels,
                checksum,
            });
        }
        Ok(cache)
    }

    /// Returns the number of images.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the size of all decoded images in bytes, in whole granules.
    pub(crate) fn bytes(&self) -> u64 {
        self.taken().sum()
    }

    /// Returns the size of the largest image in bytes. All of it is pinned at a time.
    pub(crate) fn largest(&self) -> u64 {
        self.taken().max().unwrap_or_default()
    }

    fn taken(&self) -> impl Iterator<Item = u64> {
        let sizes = self.entries.iter().map(|entry| entry.pixels.size());
        sizes.map(|size| size.next_multiple_of(tombolo_guest::GRANULE))
    }

    /// Returns the number of bytes that were decoded so far.
    pub(crate) fn decoded(&self) -> u64 {
        self.decoded
    }

    /// Shows an image to the viewer and checks its answer. Decodes the image again if it
    /// was lost.
    pub(crate) fn view(&mut self, number: usize) -> Result<Seen, String> {
        let Entry {
            file,
            pixels,
            checksum,
        } = &self.entries[number];
        let refused = |error| refused(file, pixels.size(), &error);

        let lost = match pixels.pin(..).map_err(refused)? {
            Pinned::Intact(()) => false,
            Pinned::Lost(()) => {
                let again = decode(Image::open(file)?, file, pixels)?;
                self.decoded += pixels.size();
                check(file, "the file has changed", *checksum, again)?;
                true
            }
        };

        // The viewer may only read.
        let lent = pixels.restrict(Rights::READ).map_err(refused)?;
        let seen = viewing::view(&lent).map_err(|failure| explain(file, &failure))?;
        drop(lent);
        check(
            file,
            "the viewer saw something else",
            *checksum,
            seen.checksum,
        )?;

        pixels.unpin(..).map_err(refused)?;
        Ok(Seen { lost })
    }
}

/// Decodes an image into a region, and returns the checksum of its pixels.
fn decode(image: Image, file: &Path, pixels: &Region) -> Result<u32, String> {
    let mut window = pixels
        .try_write(..)
        .map_err(|error| refused(file, pixels.size(), &error))?;
    image
        .decode(&mut window)
        .map_err(|error| image::says(file, error))?;
    Ok(crc32fast::hash(&window))
}

fn check(file: &Path, what: &str, before: u32, now: u32) -> Result<(), String> {
    match now == before {
        true => Ok(()),
        false => Err(image::says(
            file,
            format!("{what}: pixels of {now:08x}, and they were {before:08x}"),
        )),
    }
}

fn refused(file: &Path, size: u64, error: &Error) -> String {
    let name = file.display();
    match error {
        Error::Exhausted(why) => format!(
            "{name}: there is no room for its pixels, which take {size} bytes: {why}; raise the \
             limit, or take smaller or fewer images"
        ),
        other => format!("{name}: {other}"),
    }
}

fn explain(file: &Path, failure: &Failure) -> String {
    let text = match failure {
        Failure::BadArgument(text) => format!("the viewer cannot use it: {text}"),
        Failure::Refused(text) => format!("the viewer was refused the pixels: {text}"),
        Failure::PeerFailed(text) => format!("the viewer failed: {text}"),
    };
    image::says(file, text)
}
