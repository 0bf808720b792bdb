use std::ops::RangeBounds;

use crate::access::{Access, Read, Write};
use crate::bindings::waits;
use crate::error::Error;
use crate::event::Event;
use crate::region::{Region, span};
use crate::window::{ReadWindow, Window, WriteWindow};

/// Waiting for windows, in the queue that each region has.
impl Region {
    /// As [`read_window`](Region::read_window), but waits for its turn where that
    /// would block. Meanwhile other guests run, and this one takes no calls.
    ///
    /// Windows of this claim count, too: while this guest has one that conflicts, it
    /// waits until its time is up.
    ///
    /// # Errors
    ///
    /// As `read_window`, without [`Error::WouldBlock`].
    pub fn read_window_waiting(
        &self,
        range: impl RangeBounds<u64>,
    ) -> Result<ReadWindow<'_>, Error> {
        self.window_waiting::<Read>(range)
    }

    /// As [`write_window`](Region::write_window), but waits for its turn, which comes
    /// however many readers come and go; see
    /// [`read_window_waiting`](Region::read_window_waiting).
    ///
    /// # Errors
    ///
    /// As `write_window`, without [`Error::WouldBlock`].
    pub fn write_window_waiting(
        &self,
        range: impl RangeBounds<u64>,
    ) -> Result<WriteWindow<'_>, Error> {
        self.window_waiting::<Write>(range)
    }

    /// That a window to read can be had, which is then reserved for this claim for a
    /// tenth of a second; to be waited for with other things. A claim waits for one
    /// window at a time.
    ///
    /// # Errors
    ///
    /// As [`read_window`](Region::read_window), without [`Error::WouldBlock`].
    pub fn when_readable(&self, range: impl RangeBounds<u64>) -> Result<Event, Error> {
        let (start, len) = span(range, self.size())?;
        self.turn::<Read>(start, len)
    }

    /// That a window to write can be had; see [`when_readable`](Region::when_readable).
    ///
    /// # Errors
    ///
    /// As [`write_window`](Region::write_window), without [`Error::WouldBlock`].
    pub fn when_writable(&self, range: impl RangeBounds<u64>) -> Result<Event, Error> {
        let (start, len) = span(range, self.size())?;
        self.turn::<Write>(start, len)
    }

    fn turn<A: Access>(&self, start: u64, len: u64) -> Result<Event, Error> {
        let len = len.next_multiple_of(crate::GRANULE);
        let pollable = waits::subscribe(self.as_handle(), start, len, A::CODE)?;
        Ok(Event::new(pollable))
    }

    fn window_waiting<A: Access>(
        &self,
        range: impl RangeBounds<u64>,
    ) -> Result<Window<'_, A>, Error> {
        let (start, len) = span(range, self.size())?;
        loop {
            match self.window::<A>(start..start + len) {
                Err(Error::WouldBlock) => {}
                other => return other,
            }
            let turn = self.turn::<A>(start, len)?;
            turn.wait();
            // While the turn is kept, the window is reserved.
            match self.window::<A>(start..start + len) {
                Err(Error::WouldBlock) => {}
                other => return other,
            }
        }
    }
}
