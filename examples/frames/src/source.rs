use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tombolo_guest::channels::{Message, Receiver, Sender};
use tombolo_guest::{GRANULE, Region};

use crate::images::Image;
use crate::message::{Header, Kind};
use crate::stage::{Failure, file_name};

/// A source that decodes images into regions of a pool, sends them around the ring, and
/// counts them.
pub struct Source {
    out: Sender,
    done: Receiver,
    /// The regions that are empty.
    pool: Vec<Region>,
    /// The frames that were sent and are not back.
    outstanding: BTreeSet<u32>,
    /// The maximum number of regions.
    regions: usize,
    /// The size of each region, in bytes.
    size: u64,
    /// The last marker, and whether it is back.
    marker: u32,
    marked: bool,
    /// The first frame that was sent after that marker.
    behind: u32,
    /// The first frame that was not sent.
    next: u32,
    back: u32,
}

impl Source {
    /// Returns a source with `regions` regions of `size` bytes each.
    ///
    /// # Errors
    ///
    /// Fails if its channels were not granted.
    pub fn new(regions: usize, size: u64) -> Result<Source, Failure> {
        Ok(Source {
            out: Sender::open("decoded")?,
            done: Receiver::open("done")?,
            pool: Vec::new(),
            outstanding: BTreeSet::new(),
            regions,
            size: size.next_multiple_of(GRANULE),
            marker: 0,
            marked: true,
            behind: 0,
            next: 0,
            back: 0,
        })
    }

    /// Returns the number of frames that came back.
    #[must_use]
    pub fn back(&self) -> u32 {
        self.back
    }

    /// Sends a frame, and waits for an empty region if necessary.
    ///
    /// # Errors
    ///
    /// Fails if the image cannot be decoded, which loses this frame only; and with [`Gone`]
    /// if a stage has ended for good.
    pub fn send(&mut self, number: u32, image: Image) -> Result<(), Failure> {
        let (width, height) = image.size();
        let header = Header::frame(number, width, height);
        let region = self.region()?;
        let decoded = {
            let mut pixels = region.try_write(..)?;
            image.read(&mut pixels[..usize::try_from(header.size())?])
        };
        if let Err(error) = decoded {
            self.pool.push(region);
            return Err(error.into());
        }
        self.outstanding.insert(number);
        self.next = number + 1;
        self.out
            .send(header.bytes(), vec![region])
            .map_err(|_| Gone)?;
        Ok(())
    }

    /// Returns an empty region, and waits for one if necessary.
    fn region(&mut self) -> Result<Region, Failure> {
        loop {
            if let Some(region) = self.pool.pop() {
                return Ok(region);
            }
            if self.marked && self.outstanding.len() < self.regions {
                return Ok(Region::create("frame", self.size)?);
            }
            self.hear()?;
        }
    }

    /// Waits until every frame is back, or known to be lost.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub fn settle(&mut self) -> Result<(), Failure> {
        self.mark()?;
        while !self.marked {
            self.hear()?;
        }
        Ok(())
    }

    /// Sends a marker after all frames.
    fn mark(&mut self) -> Result<(), Failure> {
        self.marker += 1;
        self.marked = false;
        self.behind = self.next;
        let marker = Header::marker(self.marker);
        self.out.send(marker.bytes(), vec![]).map_err(|_| Gone)?;
        Ok(())
    }

    /// Waits for a message.
    fn hear(&mut self) -> Result<(), Failure> {
        let message = self.done.receive()?.ok_or(Gone)?;
        self.take(message)
    }

    /// Handles the messages that have already arrived.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub fn catch_up(&mut self) -> Result<(), Failure> {
        while self.done.readable().is_ready() {
            self.hear()?;
        }
        Ok(())
    }

    fn take(&mut self, mut message: Message) -> Result<(), Failure> {
        let header = Header::read(&message.bytes)?;
        match header.kind() {
            Kind::Frame => {
                self.back += 1;
                // Frames arrive in order, so the earlier ones are lost.
                self.outstanding = self.outstanding.split_off(&(header.number + 1));
                if let Some(region) = message.regions.pop()
                    && self.pool.len() + self.outstanding.len() < self.regions
                    && region.size() == self.size
                {
                    self.pool.push(region);
                }
            }
            Kind::Marker if header.number == self.marker => {
                self.marked = true;
                // Messages that were sent before the marker and are not back are lost.
                self.outstanding = self.outstanding.split_off(&self.behind);
            }
            Kind::Marker => {}
            // A stage may have crashed, and lost a frame or a marker.
            Kind::Hello => self.mark()?,
        }
        Ok(())
    }
}

/// The error that a stage has ended for good.
#[derive(Debug)]
pub struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a stage of the pipeline has ended for good")
    }
}

impl std::error::Error for Gone {}

/// Returns those of the first `frames` frames that were not written into the directory.
#[must_use]
pub fn lost(directory: &Path, frames: u32) -> Vec<u32> {
    (0..frames)
        .filter(|number| !directory.join(file_name(*number)).exists())
        .collect()
}

/// The progress of the source, which outlives a crash.
pub struct Progress(PathBuf);

impl Progress {
    /// The directory of the file.
    #[must_use]
    pub fn new(directory: &Path) -> Progress {
        Progress(directory.join("progress"))
    }

    /// Returns the next frame, which is 0 in the beginning.
    #[must_use]
    pub fn next(&self) -> u32 {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Stores the next frame.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub fn note(&self, next: u32) -> Result<(), Failure> {
        Ok(fs::write(&self.0, format!("{next}\n"))?)
    }
}
