use std::fs;
use std::path::Path;

use tombolo_guest::Region;
use tombolo_guest::channels::{ChannelError, Receiver, Sender};

use crate::images;
use crate::message::{Header, Kind};

/// Why a stage cannot go on.
pub type Failure = Box<dyn std::error::Error>;

/// Takes frames from one channel, has `work` change their pixels in place, and
/// passes them on to another one, until no more come.
///
/// # Errors
///
/// If a channel was not granted, or a message makes no sense.
pub fn filter(
    from: &str,
    to: &str,
    mut work: impl FnMut(&mut [u8], &Header),
) -> Result<(), Failure> {
    let (input, output) = (Receiver::open(from)?, Sender::open(to)?);
    let done = Sender::open("done")?;
    if !pass(&done, Header::hello().bytes(), vec![])? {
        return Ok(());
    }
    while let Some(message) = input.receive()? {
        let header = Header::read(&message.bytes)?;
        if let (Kind::Frame, [region]) = (header.kind(), &message.regions[..]) {
            let mut pixels = region.try_write(..)?;
            let size = usize::try_from(header.size())?;
            work(&mut pixels[..size], &header);
        }
        if !pass(&output, &message.bytes, message.regions)? {
            break;
        }
    }
    Ok(())
}

/// Takes frames from a channel, and writes each as an image into a directory:
/// under another name first, so that there are none but whole ones. Sends the
/// regions back.
///
/// # Errors
///
/// If a channel was not granted, or an image cannot be written.
pub fn sink(from: &str, directory: &Path) -> Result<(), Failure> {
    let input = Receiver::open(from)?;
    let done = Sender::open("done")?;
    // What it had in its hand before, if it is started again, is lost.
    if !pass(&done, Header::hello().bytes(), vec![])? {
        return Ok(());
    }
    while let Some(message) = input.receive()? {
        let header = Header::read(&message.bytes)?;
        if let (Kind::Frame, [region]) = (header.kind(), &message.regions[..]) {
            let pixels = region.try_read(..)?;
            let size = usize::try_from(header.size())?;
            let part = directory.join("unfinished");
            images::write(&part, &pixels[..size], header.width, header.height)?;
            fs::rename(&part, directory.join(file_name(header.number)))?;
        }
        if !pass(&done, &message.bytes, message.regions)? {
            break;
        }
    }
    Ok(())
}

/// The name of the file that a frame is written to.
pub(crate) fn file_name(number: u32) -> String {
    format!("{number:06}.png")
}

/// Sends a message. `false` if whoever would receive it has ended for good, and so
/// nobody wants any more.
fn pass(to: &Sender, bytes: &[u8], regions: Vec<Region>) -> Result<bool, Failure> {
    match to.send(bytes, regions) {
        Ok(()) => Ok(true),
        Err(unsent) if unsent.why == ChannelError::Closed => Ok(false),
        Err(unsent) => Err(unsent.into()),
    }
}
