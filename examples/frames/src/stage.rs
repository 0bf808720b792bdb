use std::fs;
use std::path::Path;

use tombolo_guest::Region;
use tombolo_guest::channels::{ChannelError, Receiver, Sender};

use crate::images;
use crate::message::{Header, Kind};

/// The error that ends a stage.
pub type Failure = Box<dyn std::error::Error>;

/// Receives frames from one channel, changes their pixels in place with `work`, and sends
/// them to another channel. Returns when the input is closed.
///
/// # Errors
///
/// Fails if a channel was not granted, or if a message is invalid.
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

/// Receives frames from a channel, and writes each as an image into a directory. Each file
/// is renamed when it is complete, so no partial image appears. Sends the regions back.
///
/// # Errors
///
/// Fails if a channel was not granted, or if an image cannot be written.
pub fn sink(from: &str, directory: &Path) -> Result<(), Failure> {
    let input = Receiver::open(from)?;
    let done = Sender::open("done")?;
    // If this guest was restarted, the frame that it held before is lost.
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

/// Returns the file name of a frame.
pub(crate) fn file_name(number: u32) -> String {
    format!("{number:06}.png")
}

/// Sends a message. Returns `false` if the receiver has ended for good.
fn pass(to: &Sender, bytes: &[u8], regions: Vec<Region>) -> Result<bool, Failure> {
    match to.send(bytes, regions) {
        Ok(()) => Ok(true),
        Err(unsent) if unsent.why == ChannelError::Closed => Ok(false),
        Err(unsent) => Err(unsent.into()),
    }
}
