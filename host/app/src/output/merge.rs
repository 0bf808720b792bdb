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

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::lines;

/// The most bytes in a lane, including those being written.
pub(super) const BUFFER: usize = 64 << 10;

/// The most bytes of a lane per turn, unless a line is longer. It is small, so that the other
/// lanes have their turn soon.
const CHUNK: usize = 16 << 10;

/// The time after which an unfinished line is written to a terminal.
const REST_OF_LINE: Duration = Duration::from_millis(100);

/// The origin of a lane's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A guest whose bytes are written unchanged.
    Guest,
    /// A guest whose name precedes each line. Lines are escaped.
    Named(String),
    /// The program, which adds whole lines.
    Program,
}

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

#[derive(Debug)]
struct LaneBuffer {
    identity: u64,
    source: Source,
    /// The bytes that are not yet being written.
    waiting: VecDeque<u8>,
    /// The number of bytes being written.
    in_flight: usize,
    /// The number of waiting bytes up to the last line break.
    lines: usize,
    /// The number of waiting bytes that may be written even if they end inside a line.
    released: usize,
    /// The time at which the unfinished line began.
    part_since: Option<Instant>,
    /// Whether the last byte added was a line break.
    at_line_start: bool,
    /// Whether the next bytes are the first of the guest's next incarnation.
    new_incarnation: bool,
    /// Whether the lane has no user any more.
    left: bool,
    /// The error by which bytes were lost, until it is reported.
    failed: Option<io::Error>,
    /// The number of lines of the program that did not fit.
    lost: u64,
    /// The tasks that wait for space, or until everything is written.
    wakers: Vec<Waker>,
}

/// Bytes to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) lane: usize,
    pub(super) bytes: Vec<u8>,
}

impl LaneBuffer {
    fn room(&self) -> usize {
        BUFFER.saturating_sub(self.waiting.len() + self.in_flight)
    }

    fn add(&mut self, bytes: &[u8], now: Instant) {
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
    fn ready(&self, alone: bool, terminal: bool, now: Instant) -> usize {
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
    fn first(&self, ready: usize) -> usize {
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

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.lines = self.lines.saturating_sub(count);
        self.released = self.released.saturating_sub(count);
        self.in_flight = count;
        let bytes = self.waiting.drain(..count).collect();
        if self.waiting.len() == self.lines {
            self.part_since = None;
        }
        bytes
    }

    fn is_drained(&self) -> bool {
        self.waiting.is_empty() && self.in_flight == 0
    }

    fn wake(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }

    fn wait(&mut self, context: &Context<'_>) {
        if !self.wakers.iter().any(|it| it.will_wake(context.waker())) {
            self.wakers.push(context.waker().clone());
        }
    }
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
        let lane = Some(LaneBuffer {
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
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes everything that may be written, and returns it.
    fn text(merge: &mut Merge, now: Instant) -> String {
        let mut bytes = Vec::new();
        while let Some(chunk) = merge.take(now) {
            bytes.extend(chunk.bytes);
            merge.written(chunk.lane, Ok(()));
        }
        String::from_utf8(bytes).unwrap()
    }

    fn two(terminal: bool) -> (Merge, usize, usize, Instant) {
        let mut merge = Merge::new(terminal);
        let a = merge.enter(Source::Guest);
        let b = merge.enter(Source::Guest);
        (merge, a, b, Instant::now())
    }

    #[test]
    fn lines_of_two_guests_stay_whole() {
        let (mut merge, a, b, now) = two(false);
        merge.add(a, b"one ", now);
        merge.add(b, b"eins ", now);
        assert_eq!(text(&mut merge, now), "");
        merge.add(a, b"line\nand ", now);
        merge.add(b, b"Zeile\n", now);
        assert_eq!(text(&mut merge, now), "one line\neins Zeile\n");
        merge.add(a, b"more\n", now);
        assert_eq!(text(&mut merge, now), "and more\n");
    }

    #[test]
    fn bytes_of_one_guest_are_written_at_once() {
        let mut merge = Merge::new(false);
        let (program, a) = (merge.enter(Source::Program), merge.enter(Source::Guest));
        let now = Instant::now();
        merge.add(a, b"50 %\r", now);
        assert_eq!(text(&mut merge, now), "50 %\r");
        merge.add(program, b"warning\n", now);
        merge.add(a, b"100 %", now);
        assert_eq!(text(&mut merge, now), "\nwarning\n100 %");
    }

    #[test]
    fn prompt_is_written_when_released() {
        let (mut merge, a, b, now) = two(false);
        merge.add(a, b"name? ", now);
        assert_eq!(text(&mut merge, now), "");
        merge.release(a);
        assert_eq!(text(&mut merge, now), "name? ");
        // The other guest prints on a new line.
        merge.add(b, b"b\n", now);
        assert_eq!(text(&mut merge, now), "\nb\n");
    }

    #[test]
    fn terminal_gets_unfinished_lines_after_a_delay() {
        let (mut merge, a, _, now) = two(true);
        merge.add(a, b"name? ", now);
        assert_eq!(text(&mut merge, now), "");
        assert_eq!(merge.next_unfinished(now), Some(REST_OF_LINE));
        assert_eq!(text(&mut merge, now + REST_OF_LINE), "name? ");
        assert_eq!(merge.next_unfinished(now), None);
    }

    // rule 9
    #[test]
    fn endless_line_does_not_starve_other_guests() {
        let (mut merge, a, b, now) = two(false);
        let mut endless = 0;
        for round in 0..3 {
            let room = merge.room(a).unwrap();
            merge.add(a, &vec![b'x'; room], now);
            endless += room;
            merge.add(b, format!("{round}\n").as_bytes(), now);
            let written = text(&mut merge, now);
            assert!(written.contains(&format!("\n{round}\n")), "{round}");
        }
        assert_eq!(endless, 3 * BUFFER);
    }

    #[test]
    fn buffer_includes_bytes_being_written() {
        let (mut merge, a, _, now) = two(false);
        let line = [vec![b'x'; BUFFER - 1], vec![b'\n']].concat();
        merge.add(a, &line, now);
        assert_eq!(merge.room(a).unwrap(), 0);
        let chunk = merge.take(now).unwrap();
        assert_eq!(merge.room(a).unwrap(), 0);
        assert!(!merge.is_drained(a, None));
        merge.written(chunk.lane, Ok(()));
        assert_eq!(merge.room(a).unwrap(), BUFFER);
        assert!(merge.is_drained(a, None));
    }

    #[test]
    fn lanes_take_turns_by_chunks_of_lines() {
        let (mut merge, a, b, now) = two(false);
        let lines = |text: &str| text.repeat(BUFFER / text.len());
        merge.add(a, lines("aaaaaaa\n").as_bytes(), now);
        merge.add(b, lines("bbbbbbb\n").as_bytes(), now);
        let mut turns = Vec::new();
        while let Some(chunk) = merge.take(now) {
            assert!(chunk.bytes.len() <= CHUNK && chunk.bytes.ends_with(b"\n"));
            turns.push(chunk.lane);
            merge.written(chunk.lane, Ok(()));
        }
        assert_eq!(turns, [a, b].repeat(BUFFER / CHUNK));
    }

    #[test]
    fn next_incarnation_begins_on_a_new_line() {
        let (mut merge, a, _, now) = two(false);
        merge.add(a, b"cut sho", now);
        merge.end_incarnation(a, now);
        assert_eq!(text(&mut merge, now), "cut sho");
        merge.add(a, b"hello\n", now);
        assert_eq!(text(&mut merge, now), "\nhello\n");
    }

    #[test]
    fn lines_with_names_are_escaped() {
        let mut merge = Merge::new(false);
        let a = merge.enter(Source::Named("a".into()));
        merge.enter(Source::Guest);
        let now = Instant::now();
        merge.add(a, b"one\nb | two\r\x1b[2J\n\n", now);
        assert_eq!(
            text(&mut merge, now),
            "a | one\na | b | two\\r\\u{1b}[2J\na | \n"
        );
        merge.add(a, b"end", now);
        merge.end_incarnation(a, now);
        assert_eq!(text(&mut merge, now), "a | end\n");
    }

    #[test]
    fn incomplete_character_waits_for_its_rest() {
        let mut merge = Merge::new(false);
        let a = merge.enter(Source::Named("a".into()));
        let now = Instant::now();
        let umlaut = "ü".as_bytes();
        merge.add(a, &umlaut[..1], now);
        assert_eq!(text(&mut merge, now), "");
        merge.add(a, &umlaut[1..], now);
        assert_eq!(text(&mut merge, now), "a | ü");
        merge.add(a, &umlaut[..1], now);
        merge.leave(a);
        assert_eq!(text(&mut merge, now), "\\xc3");
    }

    #[test]
    fn lost_log_lines_are_counted() {
        let mut merge = Merge::new(false);
        let program = merge.enter(Source::Program);
        let now = Instant::now();
        let line = [vec![b'x'; BUFFER - 100], vec![b'\n']].concat();
        merge.add_or_lose(program, &line, now);
        merge.add_or_lose(program, &line, now);
        merge.add_or_lose(program, &line, now);
        text(&mut merge, now);
        merge.add_or_lose(program, b"on\n", now);
        let written = text(&mut merge, now);
        assert!(written.starts_with("(2 log lines were lost"), "{written}");
        assert!(written.ends_with("\non\n"), "{written}");
    }

    #[test]
    fn write_error_is_reported_once_closing_always() {
        let (mut merge, a, b, now) = two(false);
        merge.add(a, b"a\n", now);
        let chunk = merge.take(now).unwrap();
        let full = io::Error::from(io::ErrorKind::StorageFull);
        merge.written(chunk.lane, Err(full));
        let error = merge.room(a).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(merge.room(a).unwrap(), BUFFER);

        merge.add(a, b"a\n", now);
        merge.add(b, b"b\n", now);
        let chunk = merge.take(now).unwrap();
        merge.written(chunk.lane, Err(io::ErrorKind::BrokenPipe.into()));
        for lane in [a, b, a, b] {
            let error = merge.room(lane).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            assert!(merge.is_drained(lane, None));
        }
        assert_eq!(merge.take(now), None);
    }

    #[test]
    fn left_lane_is_written_and_reused() {
        let (mut merge, a, b, now) = two(false);
        merge.add(a, b"last words", now);
        merge.leave(a);
        assert_eq!(text(&mut merge, now), "last words");
        let c = merge.enter(Source::Guest);
        assert_eq!(c, a);
        merge.add(c, b"c\n", now);
        assert_eq!(text(&mut merge, now), "\nc\n");
        merge.leave(b);
    }
}
