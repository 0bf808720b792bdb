use std::path::{Path, PathBuf};

use tombolo_guest::{Error, Pinned, Region, Rights};

use crate::bindings::tombolo_examples::cache::viewing::{self, Failure};
use crate::image::{self, Image};

/// Decoded images, each in a region of its own. None is pinned but for the one
/// that is looked at, so the host may take the memory of all others.
pub(crate) struct Cache {
    entries: Vec<Entry>,
    decoded: u64,
}

struct Entry {
    file: PathBuf,
    pixels: Region,
    /// Of what was decoded first: what the viewer has to see ever after.
    checksum: u32,
}

/// What it was like to look at an image.
pub(crate) struct Seen {
    /// It was in the cache no more, and had to be decoded again.
    pub(crate) lost: bool,
}

impl Cache {
    /// Decodes all images once. Where memory does not suffice for all of them,
    /// the first ones are gone when the last ones come.
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
            // It costs nothing until it is pinned.
            let pixels = Region::create_unpinned(&name, size).map_err(refused)?;
            // There is nothing yet that could be lost.
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

    /// How many images there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that all images take, decoded: whole granules.
    pub(crate) fn bytes(&self) -> u64 {
        self.taken().sum()
    }

    /// Bytes that the largest image takes, all of which are pinned at a time.
    pub(crate) fn largest(&self) -> u64 {
        self.taken().max().unwrap_or_default()
    }

    fn taken(&self) -> impl Iterator<Item = u64> {
        let sizes = self.entries.iter().map(|entry| entry.pixels.size());
        sizes.map(|size| size.next_multiple_of(tombolo_guest::GRANULE))
    }

    /// Bytes that were decoded so far.
    pub(crate) fn decoded(&self) -> u64 {
        self.decoded
    }

    /// Has the viewer look at an image, which is decoded again if it is lost, and
    /// checks what it saw.
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

        // The viewer may look, and nothing else.
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

/// Decodes an image into a region, and gives the checksum of its pixels.
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
