//! Streams of WASI, into regions and out of them.
//!
//! The bytes do not pass through this guest's memory. Those that come in are copied once,
//! and those that go out are sent from where they are.
//!
//! Streams come from the bindings of a guest's own WIT, for example those of `wasi:http`.
//! One line makes regions take them:
//!
//! ```no_run
//! mod bindings {
//!     wit_bindgen::generate!({
//! #       path: "wit/deps/tombolo-memory",
//! #       inline: "
//! #           package example:streams;
//! #           world guest { import wasi:io/streams@0.2.0; }
//! #       ",
//! #       generate_all,
//!         // ... `path` and `world`, as usual ...
//!     });
//! }
//!
//! tombolo_guest::impl_streams!(bindings::wasi::io::streams);
//!
//! use bindings::wasi::io::streams::{InputStream, OutputStream};
//! use tombolo_guest::streams::StreamError;
//! use tombolo_guest::{GRANULE, Region};
//!
//! fn echo(input: &InputStream, output: &OutputStream) -> Result<(), StreamError> {
//!     let region = Region::create("body", 16 * GRANULE)?;
//!     let length = region.fill_from(input, ..)?;
//!     // ... lends it to another guest ...
//!     region.write_to(output, ..length)
//! }
//! # fn main() {}
//! ```
//!
//! This needs a host that offers the interface `tombolo:memory/streams`. Programs that embed
//! `tombolo` can. Guests of `tombolo run` do not have it.

use std::fmt;
use std::ops::{Range, RangeBounds};

use crate::bindings::streams::{self, Failure};
use crate::error::Error;
use crate::region::Region;
use crate::{range, sys};

/// A stream to read from, of any bindings; see [`impl_streams`](crate::impl_streams).
pub trait InputStream {
    /// Returns the number of the stream's handle.
    fn number(&self) -> u32;
}

/// A stream to write to, of any bindings; see [`impl_streams`](crate::impl_streams).
pub trait OutputStream {
    /// Returns the number of the stream's handle.
    fn number(&self) -> u32;
}

/// Implements [`InputStream`](crate::streams::InputStream) and
/// [`OutputStream`](crate::streams::OutputStream) for the streams of a guest's own bindings.
/// Takes the path of their module for `wasi:io/streams`, of any version 0.2.
#[macro_export]
macro_rules! impl_streams {
    ($($module:ident)::+) => {
        impl $crate::streams::InputStream for $($module)::+::InputStream {
            fn number(&self) -> u32 {
                self.handle()
            }
        }

        impl $crate::streams::OutputStream for $($module)::+::OutputStream {
            fn number(&self) -> u32 {
                self.handle()
            }
        }
    };
}

/// The reason why bytes did not pass between a stream and a region.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamError {
    /// The stream to write to has ended.
    Closed,
    /// The stream failed. The text is WASI's.
    Failed(String),
    /// The region refused.
    Region(Error),
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed: the stream has ended, and takes no more bytes"),
            Self::Failed(text) => write!(f, "failed: {text}"),
            Self::Region(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StreamError {}

impl From<Error> for StreamError {
    fn from(error: Error) -> Self {
        Self::Region(error)
    }
}

impl From<Failure> for StreamError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Closed => Self::Closed,
            Failure::Failed(error) => Self::Failed(error.to_debug_string()),
            Failure::Region(code) => Self::Region(code.into()),
        }
    }
}

/// Streams.
impl Region {
    /// Reads bytes of a stream into a part of the region. Waits until there are any. Returns
    /// their number, and 0 only if the stream has ended or the range is empty. Needs
    /// [`Rights::WRITE`](crate::Rights::WRITE).
    ///
    /// The range is in bytes, `..` for the whole region, and may begin and end anywhere. No
    /// lock is held during the wait. One call reads at most as many bytes as
    /// [`write_at`](Region::write_at) takes.
    ///
    /// # Errors
    ///
    /// [`StreamError::Failed`]; [`StreamError::Region`] with the errors of
    /// [`write_at`](Region::write_at). The stream has lost no bytes then, unless the error
    /// is [`Error::Exhausted`].
    pub fn read_from(
        &self,
        stream: &impl InputStream,
        range: impl RangeBounds<u64>,
    ) -> Result<u64, StreamError> {
        let Range { start, end } = range::bytes(range, self.size())?;
        let stream = sys::input_stream(stream.number());
        if start == end {
            return Ok(0);
        }
        loop {
            match streams::read_into(&stream, self.as_handle(), start, end - start) {
                Ok(0) => stream.subscribe().block(),
                Ok(count) => return Ok(count),
                Err(Failure::Closed) => return Ok(0),
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    /// Reads bytes of a stream into a part of the region as [`read_from`](Region::read_from)
    /// does, until the part is full or the stream has ended. Returns their number.
    ///
    /// # Errors
    ///
    /// Those of [`read_from`](Region::read_from). Bytes that were read before stay in the
    /// region.
    pub fn fill_from(
        &self,
        stream: &impl InputStream,
        range: impl RangeBounds<u64>,
    ) -> Result<u64, StreamError> {
        let Range { start, end } = range::bytes(range, self.size())?;
        let mut at = start;
        while at < end {
            match self.read_from(stream, at..end)? {
                0 => break,
                count => at += count,
            }
        }
        Ok(at - start)
    }

    /// Writes a part of the region to a stream, and waits until the stream has taken all of
    /// it. Does not flush. Needs [`Rights::READ`](crate::Rights::READ).
    ///
    /// The range is in bytes, `..` for the whole region, and may begin and end anywhere.
    ///
    /// The bytes are not copied. So this can return before they are passed on, for example
    /// to the client of an HTTP request, and until then they stay locked: other windows may
    /// only read them. Meanwhile the region can be neither lent nor moved, nor these bytes
    /// be unpinned. Dropping the region is possible. Bytes of a region that this guest was
    /// lent are copied instead.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`]; [`StreamError::Failed`]; [`StreamError::Region`] with the
    /// errors of [`read_at`](Region::read_at). A part of the bytes may have been written.
    pub fn write_to(
        &self,
        stream: &impl OutputStream,
        range: impl RangeBounds<u64>,
    ) -> Result<(), StreamError> {
        let Range { start, end } = range::bytes(range, self.size())?;
        let stream = sys::output_stream(stream.number());
        let mut at = start;
        while at < end {
            match streams::write_from(&stream, self.as_handle(), at, end - at)? {
                0 => stream.subscribe().block(),
                count => at += count,
            }
        }
        Ok(())
    }
}
