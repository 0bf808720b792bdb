use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tombolo_guest::channels::{Message, Receiver, Sender};
use tombolo_guest::{GRANULE, Region};

use crate::images::Image;
use crate::message::{Header, Kind};
use crate::stage::{Failure, file_name};

/// Decodes images into regions of a pool, sends them round, and keeps count.
pub struct Source {
    out: Sender,
    done: Receiver,
    /// Regions that nothing is in.
    pool: Vec<Region>,
    /// Frames that were sent and are not back.
    outstanding: BTreeSet<u32>,
    /// How many regions there are at most.
    regions: usize,
    /// How large each is, in bytes.
    size: u64,
    /// The marker that was sent last, and whether it is back.
    marker: u32,
    marked: bool,
    /// The first frame that was not sent before that marker.
    behind: u32,
    /// The first frame that was not sent.
    next: u32,
    back: u32,
}

impl Source {
    /// A source with so many regions, of so many bytes each.
    ///
    /// # Errors
    ///
    /// If its channels were not granted.
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

    /// How many frames came back.
    #[must_use]
    pub fn back(&self) -> u32 {
        self.back
    }

    /// Sends a frame, once there is a region for it.
    ///
    /// # Errors
    ///
    /// If the image cannot be decoded, which costs this frame alone; or if a stage
    /// has ended for good, which is [`Gone`].
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

    /// A region that nothing is in, as soon as there is one.
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

    /// Sends a marker behind all frames.
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

    /// Takes what has come already.
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
                // Frames overtake none: those before it will not come.
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
                // What was sent before it and is not back will not come.
                self.outstanding = self.outstanding.split_off(&self.behind);
            }
            Kind::Marker => {}
            // A stage has crashed, maybe, and lost a frame, or a marker.
            Kind::Hello => self.mark()?,
        }
        Ok(())
    }
}

/// A stage has ended for good.
#[derive(Debug)]
pub struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a stage of the pipeline has ended for good")
    }
}

impl std::error::Error for Gone {}

/// The frames, of so many, that were not written into the directory.
#[must_use]
pub fn lost(directory: &Path, frames: u32) -> Vec<u32> {
    (0..frames)
        .filter(|number| !directory.join(file_name(*number)).exists())
        .collect()
}

/// How far the source had come when it last ran: it is started again after a crash,
/// too.
pub struct Progress(PathBuf);

impl Progress {
    /// Kept in a directory.
    #[must_use]
    pub fn new(directory: &Path) -> Progress {
        Progress(directory.join("progress"))
    }

    /// The next frame; 0 at the beginning.
    #[must_use]
    pub fn next(&self) -> u32 {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Notes the next frame.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn note(&self, next: u32) -> Result<(), Failure> {
        Ok(fs::write(&self.0, format!("{next}\n"))?)
    }
}
