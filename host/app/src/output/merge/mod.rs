//! Merges lanes of bytes into one destination, line by line.
//!
//! Pure logic, without threads and without a destination. Lanes take turns, each with at most
//! 16 KiB of whole lines. An unfinished line is held back until one of these happens:
//!
//! - its guest reads standard input or ends ([`Merge::release`], [`Merge::end_incarnation`]);
//! - its lane is full;
//! - it has waited for 100 ms, on a terminal.
//!
//! Bytes of a guest that has the destination to itself are never held back.

mod lane;

#[cfg(test)]
mod tests;

use std::io;
use std::task::Context;
use std::time::{Duration, Instant};

pub(super) use self::lane::{BUFFER, Source};
use self::lane::{LaneBuffer, REST_OF_LINE};
use super::lines;

/// The lanes of one destination.
#[derive(Debug)]
pub(super) struct Merge {
    lanes: Vec<Option<LaneBuffer>>,
    /// The index of the lane that has the next turn.
    turn: usize,
    /// The identity of the lane whose last line was written without its end.
    open: Option<u64>,
    /// The identity of the next lane.
    next_identity: u64,
    /// Whether the destination is closed.
    closed: bool,
    terminal: bool,
}

/// Bytes to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) lane: usize,
    pub(super) bytes: Vec<u8>,
}

impl Merge {
    pub(super) fn new(terminal: bool) -> Merge {
        Merge {
            lanes: Vec::new(),
            turn: 0,
            open: None,
            next_identity: 0,
            closed: false,
            terminal,
        }
    }

    /// Adds a lane and returns its index.
    pub(super) fn enter(&mut self, source: Source) -> usize {
        let identity = self.next_identity;
        self.next_identity += 1;
        let lane = Some(LaneBuffer::new(identity, source));
        match self.lanes.iter().position(Option::is_none) {
            Some(free) => {
                self.lanes[free] = lane;
                free
            }
            None => {
                self.lanes.push(lane);
                self.lanes.len() - 1
            }
        }
    }

    /// Marks a lane as left by its user. Its bytes are still written.
    pub(super) fn leave(&mut self, lane: usize) {
        self.lane(lane).left = true;
        self.remove_if_done(lane);
    }

    fn remove_if_done(&mut self, lane: usize) {
        let lane = &mut self.lanes[lane];
        if lane.as_ref().is_some_and(|it| it.left && it.is_drained()) {
            *lane = None;
        }
    }

    fn lane(&mut self, lane: usize) -> &mut LaneBuffer {
        self.lanes[lane]
            .as_mut()
            .expect("a lane stays while it has a user")
    }

    /// Returns the free space in bytes; 0 if the lane is full.
    ///
    /// # Errors
    ///
    /// The destination is closed, or it refused bytes since the last call.
    pub(super) fn room(&mut self, lane: usize) -> io::Result<usize> {
        let closed = self.closed;
        let lane = self.lane(lane);
        match lane.failed.take() {
            Some(error) => Err(error),
            None if closed => Err(io::ErrorKind::BrokenPipe.into()),
            None => Ok(lane.room()),
        }
    }

    /// Adds bytes, which must fit.
    pub(super) fn add(&mut self, lane: usize, bytes: &[u8], now: Instant) {
        if !self.closed {
            self.lane(lane).add(bytes, now);
        }
    }

    /// Adds whole lines if they fit, and counts them as lost otherwise.
    pub(super) fn add_or_lose(&mut self, lane: usize, lines: &[u8], now: Instant) {
        if self.closed {
            return;
        }
        let lane = self.lane(lane);
        let note = match lane.lost {
            0 => String::new(),
            lost => format!("({lost} log lines were lost here, because nothing read stderr)\n"),
        };
        if note.len() + lines.len() > lane.room() {
            lane.lost += lines.iter().filter(|byte| **byte == b'\n').count() as u64;
            return;
        }
        lane.lost = 0;
        lane.add(note.as_bytes(), now);
        lane.add(lines, now);
    }

    /// Lets a lane's bytes be written even if they end inside a line.
    pub(super) fn release(&mut self, lane: usize) {
        let lane = self.lane(lane);
        lane.released = lane.waiting.len();
    }

    /// Marks the end of an incarnation of the lane's guest. The next one begins on a new line.
    pub(super) fn end_incarnation(&mut self, lane: usize, now: Instant) {
        let lane = self.lane(lane);
        if matches!(lane.source, Source::Named(_)) && !lane.at_line_start {
            lane.add(b"\n", now);
        }
        lane.new_incarnation = true;
        lane.released = lane.waiting.len();
    }

    /// Returns whether a lane has nothing left to write, or its destination is closed. Otherwise
    /// the task is woken when that may have changed.
    pub(super) fn is_drained(&mut self, lane: usize, context: Option<&Context<'_>>) -> bool {
        let closed = self.closed;
        let lane = self.lane(lane);
        let drained = closed || lane.is_drained();
        if let (false, Some(context)) = (drained, context) {
            lane.wait(context);
        }
        drained
    }

    /// Returns whether a lane has space, or an error to report. Otherwise the task is woken when
    /// that may have changed.
    pub(super) fn is_writable(&mut self, lane: usize, context: &Context<'_>) -> bool {
        let closed = self.closed;
        let lane = self.lane(lane);
        let writable = closed || lane.failed.is_some() || lane.room() > 0;
        if !writable {
            lane.wait(context);
        }
        writable
    }

    /// Returns whether there is at most one guest, so that lines cannot be interleaved.
    fn alone(&self) -> bool {
        let guests = self.lanes.iter().flatten();
        guests.filter(|it| it.source != Source::Program).count() < 2
    }

    /// Takes the bytes to be written next, if any.
    pub(super) fn take(&mut self, now: Instant) -> Option<Chunk> {
        let (alone, terminal, count) = (self.alone(), self.terminal, self.lanes.len());
        for index in (self.turn..count).chain(0..self.turn.min(count)) {
            let Some(lane) = &mut self.lanes[index] else {
                continue;
            };
            let ready = lane.ready(alone, terminal, now);
            if ready == 0 {
                continue;
            }
            let taken = lane.take(lane.first(ready));
            let continues = self.open == Some(lane.identity);
            let mut bytes = Vec::with_capacity(taken.len() + 1);
            if self.open.is_some() && !continues {
                bytes.push(b'\n');
            }
            match &lane.source {
                Source::Named(name) => lines::name(&taken, name, continues, &mut bytes),
                Source::Guest | Source::Program => bytes.extend_from_slice(&taken),
            }
            self.open = (taken.last() != Some(&b'\n')).then_some(lane.identity);
            self.turn = index + 1;
            return Some(Chunk { lane: index, bytes });
        }
        None
    }

    /// Returns the time until the next unfinished line is written to a terminal.
    pub(super) fn next_unfinished(&self, now: Instant) -> Option<Duration> {
        let lanes = self.lanes.iter().flatten().filter(|_| self.terminal);
        let parts = lanes.filter_map(|lane| lane.part_since);
        let first = parts.min()? + REST_OF_LINE;
        Some(first.saturating_duration_since(now))
    }

    /// Notes the result of writing a lane's chunk.
    pub(super) fn written(&mut self, lane: usize, result: io::Result<()>) {
        let it = self.lane(lane);
        it.in_flight = 0;
        let closed = match result {
            Ok(()) => false,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => true,
            Err(error) => {
                it.failed = Some(error);
                false
            }
        };
        it.wake();
        self.remove_if_done(lane);
        if closed {
            self.close();
        }
    }

    /// Drops all waiting bytes, because the destination is closed.
    fn close(&mut self) {
        self.closed = true;
        for index in 0..self.lanes.len() {
            if let Some(lane) = &mut self.lanes[index] {
                lane.waiting.clear();
                (lane.lines, lane.released, lane.part_since) = (0, 0, None);
                lane.wake();
                self.remove_if_done(index);
            }
        }
    }
}
