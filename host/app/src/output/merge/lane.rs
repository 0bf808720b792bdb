//! One lane: its waiting bytes, and how many of them may be written.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use crate::output::lines;

/// The most bytes in a lane, including those being written.
pub(crate) const BUFFER: usize = 64 << 10;

/// The most bytes of a lane per turn, unless a line is longer. It is small, so that the other
/// lanes have their turn soon.
pub(super) const CHUNK: usize = 16 << 10;

/// The time after which an unfinished line is written to a terminal.
pub(super) const REST_OF_LINE: Duration = Duration::from_millis(100);

/// The origin of a lane's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A guest whose bytes are written unchanged.
    Guest,
    /// A guest whose name precedes each line. Lines are escaped.
    Named(String),
    /// The program, which adds whole lines.
    Program,
}

/// The bytes of a lane, and what is known of its user.
#[derive(Debug)]
pub(super) struct LaneBuffer {
    pub(super) identity: u64,
    pub(super) source: Source,
    /// The bytes that are not yet being written.
    pub(super) waiting: VecDeque<u8>,
    /// The number of bytes being written.
    pub(super) in_flight: usize,
    /// The number of waiting bytes up to the last line break.
    pub(super) lines: usize,
    /// The number of waiting bytes that may be written even if they end inside a line.
    pub(super) released: usize,
    /// The time at which the unfinished line began.
    pub(super) part_since: Option<Instant>,
    /// Whether the last byte added was a line break.
    pub(super) at_line_start: bool,
    /// Whether the next bytes are the first of the guest's next incarnation.
    pub(super) new_incarnation: bool,
    /// Whether the lane has no user any more.
    pub(super) left: bool,
    /// The error by which bytes were lost, until it is reported.
    pub(super) failed: Option<io::Error>,
    /// The number of lines of the program that did not fit.
    pub(super) lost: u64,
    /// The tasks that wait for space, or until everything is written.
    wakers: Vec<Waker>,
}

impl LaneBuffer {
    pub(super) fn new(identity: u64, source: Source) -> LaneBuffer {
        LaneBuffer {
            identity,
            source,
            waiting: VecDeque::new(),
            in_flight: 0,
            lines: 0,
            released: 0,
            part_since: None,
            at_line_start: true,
            new_incarnation: false,
            left: false,
            failed: None,
            lost: 0,
            wakers: Vec::new(),
        }
    }

    pub(super) fn room(&self) -> usize {
        BUFFER.saturating_sub(self.waiting.len() + self.in_flight)
    }

    pub(super) fn add(&mut self, bytes: &[u8], now: Instant) {
        let Some(last) = bytes.last() else { return };
        if std::mem::take(&mut self.new_incarnation) && !self.at_line_start {
            self.waiting.push_back(b'\n');
            self.lines = self.waiting.len();
        }
        let before = self.waiting.len();
        self.waiting.extend(bytes);
        self.at_line_start = *last == b'\n';
        if let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') {
            self.lines = before + end + 1;
            self.part_since = None;
        }
        if !self.at_line_start {
            self.part_since.get_or_insert(now);
        }
    }

    /// Returns the number of bytes that may be written now.
    pub(super) fn ready(&self, alone: bool, terminal: bool, now: Instant) -> usize {
        let late = || {
            self.part_since
                .is_some_and(|since| now.saturating_duration_since(since) >= REST_OF_LINE)
        };
        let all = self.waiting.len();
        let ready = match self.lines.max(self.released) {
            _ if alone || self.left || (terminal && late()) => all,
            // The line is longer than the buffer.
            0 if self.room() == 0 => all,
            ready => ready,
        };
        // An incomplete character cannot be printed.
        match self.source {
            Source::Named(_) if ready == all && !self.left && self.room() > 0 => {
                ready - lines::cut_character(&self.waiting)
            }
            _ => ready,
        }
    }

    /// Returns how many of the `ready` bytes are written in one turn: whole lines, if possible.
    pub(super) fn first(&self, ready: usize) -> usize {
        if ready <= CHUNK {
            return ready;
        }
        let newline = |byte: &u8| *byte == b'\n';
        let mut head = self.waiting.range(..CHUNK);
        if let Some(end) = head.rposition(newline) {
            return end + 1;
        }
        let mut rest = self.waiting.range(CHUNK..ready);
        rest.position(newline).map_or(ready, |end| CHUNK + end + 1)
    }

    pub(super) fn take(&mut self, count: usize) -> Vec<u8> {
        self.lines = self.lines.saturating_sub(count);
        self.released = self.released.saturating_sub(count);
        self.in_flight = count;
        let bytes = self.waiting.drain(..count).collect();
        if self.waiting.len() == self.lines {
            self.part_since = None;
        }
        bytes
    }

    pub(super) fn is_drained(&self) -> bool {
        self.waiting.is_empty() && self.in_flight == 0
    }

    pub(super) fn wake(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }

    pub(super) fn wait(&mut self, context: &Context<'_>) {
        if !self.wakers.iter().any(|it| it.will_wake(context.waker())) {
            self.wakers.push(context.waker().clone());
        }
    }
}
