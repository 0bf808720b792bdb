//! Destinations of the guests' output.
//!
//! # Buffers and destinations
//!
//! On a strand's thread, the host makes no system call for a guest that may block, except to close
//! a file or to reopen a granted directory.
//!
//! Each guest has a buffer of 64 KiB for each destination that it prints to. Each destination has
//! one thread, which merges the buffers line by line (see `merge`). A guest whose buffer is full
//! waits as in any host call. If standard output and standard error are the same file, they are
//! one destination, which keeps their order. The program's log and report go the same way, through
//! a buffer of their own. A log line that does not fit is counted, and the count is logged later.
//!
//! A command that has returned counts as running until its output is written. So a slow reader
//! loses nothing, and `run-time` and SIGTERM end the wait. Output of other guests, and of ended
//! guests, is written before the program ends, unless its destination takes nothing for a second.
//!
//! # Names
//!
//! The operator can trace each line to its guest. With `--prefix`, the guest's name precedes the
//! line, and control characters are escaped. `auto` decides for each stream. If there are several
//! guests, a terminal, the journal and a file opened for appending get names. A pipe or another
//! file may be the input of another program, and gets the bytes as guests print them. With
//! `--log-dir`, each guest has a file.

mod lines;
mod merge;
mod stream;

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use self::merge::{BUFFER, Chunk, Merge, Source};
pub(super) use self::stream::{GuestStdin, Printer};

/// A destination for the output of guests, which several guests can share.
///
/// Each guest has its own buffer of [`Output::BUFFER`] bytes. Each destination has one thread,
/// which writes the contents of the buffers. So a destination that takes nothing stops only the
/// guests that print to it. A guest whose buffer is full waits as in any host call: its deadlines
/// hold, and it can be ended.
///
/// Lines of guests that share a destination are never interleaved. An unfinished line is held
/// back until its guest reads standard input, ends, or has filled the buffer; on a terminal, for
/// at most 100 ms. Bytes of a guest that has the destination to itself are written at once.
///
/// A guest gets an error of the destination when it prints next. If the writer panics, the
/// destination is closed, like a pipe without a reader.
#[derive(Clone)]
pub struct Output {
    destination: Arc<Destination>,
    named: bool,
}

impl Output {
    /// The most bytes of a guest that wait to be written to a destination: 64 KiB. If standard
    /// output and standard error are one destination, they share the buffer.
    pub const BUFFER: usize = BUFFER;

    /// Creates a destination. `writer` is used by one thread, and may block. It is dropped when
    /// the destination has no user any more, and everything is written.
    ///
    /// The thread starts with the first app that has a guest which prints here.
    pub fn new(writer: impl Write + Send + 'static) -> Output {
        Output {
            destination: Destination::new(Box::new(writer), false),
            named: false,
        }
    }

    /// Returns the standard output of this process.
    ///
    /// Writes go directly to it, past the buffer of [`std::io::stdout`].
    #[must_use]
    pub fn stdout() -> Output {
        Output {
            destination: standard().0.clone(),
            named: false,
        }
    }

    /// Returns the standard error of this process. If it is the same file as standard output, it
    /// is the same destination, which keeps the order of the output.
    #[must_use]
    pub fn stderr() -> Output {
        Output {
            destination: standard().1.clone(),
            named: false,
        }
    }

    /// Returns the same destination with the guest's name before each line, as in
    /// `player | hello`.
    ///
    /// No line can be mistaken for another guest's. Invalid UTF-8 and control characters are
    /// escaped, including those that colour text or move the cursor.
    #[must_use]
    pub fn named(self) -> Output {
        Output {
            named: true,
            ..self
        }
    }

    /// Adds a lane for a guest.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub(super) fn guest(&self, name: &str) -> io::Result<Lane> {
        self.lane(match self.named {
            true => Source::Named(name.to_owned()),
            false => Source::Guest,
        })
    }

    /// Adds a lane for lines of the program.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub(crate) fn program(&self) -> io::Result<Lane> {
        self.lane(Source::Program)
    }

    fn lane(&self, source: Source) -> io::Result<Lane> {
        self.destination.start()?;
        let index = self.destination.shared.merge().enter(source);
        let lane = LaneEnd {
            destination: self.destination.clone(),
            index,
            named: self.named,
        };
        Ok(Lane(Arc::new(lane)))
    }

    /// Returns whether both are the same destination.
    fn is(&self, other: &Output) -> bool {
        Arc::ptr_eq(&self.destination, &other.destination)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("named", &self.named)
            .finish_non_exhaustive()
    }
}

/// A destination, as its users see it. When it is dropped, its thread writes everything, and ends.
struct Destination {
    shared: Arc<DestinationState>,
    /// The writer, until the thread takes it.
    writer: Mutex<Option<Box<dyn Write + Send>>>,
    terminal: bool,
}

/// The state that the users of a destination share with its thread.
struct DestinationState {
    merge: Mutex<Merge>,
    /// Signalled when there may be something to write.
    work: Condvar,
    /// Signalled when bytes were written.
    written: Condvar,
    /// Whether the destination has no user any more. Set while `merge` is locked.
    over: AtomicBool,
    /// The number of chunks that were written or refused.
    chunks: AtomicU64,
}

impl DestinationState {
    fn merge(&self) -> MutexGuard<'_, Merge> {
        self.merge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for bytes to write. Returns `None` if there will be none.
    fn next(&self) -> Option<Chunk> {
        let mut merge = self.merge();
        loop {
            let now = Instant::now();
            if let Some(chunk) = merge.take(now) {
                return Some(chunk);
            }
            if self.over.load(Ordering::Relaxed) {
                return None;
            }
            merge = match merge.next_unfinished(now) {
                Some(wait) => {
                    let waited = self.work.wait_timeout(merge, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .work
                    .wait(merge)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn write(&self, mut writer: Box<dyn Write + Send>) {
        while let Some(chunk) = self.next() {
            let write = || writer.write_all(&chunk.bytes).and_then(|()| writer.flush());
            // After a panic the destination is closed, so the writer is not used again.
            let result = catch_unwind(AssertUnwindSafe(write))
                .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
            self.chunks.fetch_add(1, Ordering::Relaxed);
            self.merge().written(chunk.lane, result);
            self.written.notify_all();
        }
    }
}

impl Destination {
    fn new(writer: Box<dyn Write + Send>, terminal: bool) -> Arc<Destination> {
        Arc::new(Destination {
            shared: Arc::new(DestinationState {
                merge: Mutex::new(Merge::new(terminal)),
                work: Condvar::new(),
                written: Condvar::new(),
                over: AtomicBool::new(false),
                chunks: AtomicU64::new(0),
            }),
            writer: Mutex::new(Some(writer)),
            terminal,
        })
    }

    /// Starts the thread if it is not running.
    fn start(&self) -> io::Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_none() {
            return Ok(());
        }
        let shared = self.shared.clone();
        let (give, take) = std::sync::mpsc::sync_channel::<Box<dyn Write + Send>>(1);
        std::thread::Builder::new()
            .name("tombolo-output".into())
            .spawn(move || {
                if let Ok(writer) = take.recv() {
                    shared.write(writer);
                }
            })?;
        // It cannot fail: the thread waits for it.
        let _ = writer.take().map(|writer| give.send(writer));
        Ok(())
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        let _merge = self.shared.merge();
        self.shared.over.store(true, Ordering::Relaxed);
        self.shared.work.notify_all();
    }
}

/// The handle by which a guest, or the program, prints to a destination.
#[derive(Clone)]
pub struct Lane(Arc<LaneEnd>);

struct LaneEnd {
    destination: Arc<Destination>,
    index: usize,
    named: bool,
}

impl Drop for LaneEnd {
    fn drop(&mut self) {
        let shared = &self.destination.shared;
        shared.merge().leave(self.index);
        shared.work.notify_all();
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lane").field(&self.0.index).finish()
    }
}

impl Lane {
    fn shared(&self) -> &DestinationState {
        &self.0.destination.shared
    }

    /// Changes the lane, and wakes the thread.
    fn change<R>(&self, change: impl FnOnce(&mut Merge, usize) -> R) -> R {
        let changed = change(&mut self.shared().merge(), self.0.index);
        self.shared().work.notify_one();
        changed
    }

    /// Returns whether the guest prints to a terminal, without a prefix.
    fn is_terminal(&self) -> bool {
        self.0.destination.terminal && !self.0.named
    }

    /// Returns the free space in bytes; 0 if the buffer is full.
    fn room(&self) -> io::Result<usize> {
        self.shared().merge().room(self.0.index)
    }

    /// Prints bytes, which must fit.
    fn add(&self, bytes: &[u8]) {
        self.change(|merge, index| merge.add(index, bytes, Instant::now()));
    }

    /// Is ready when there is space, or an error to report.
    fn poll_writable(&self, context: &Context<'_>) -> Poll<()> {
        match self.shared().merge().is_writable(self.0.index, context) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Lets an unfinished line be written.
    fn release(&self) {
        self.change(Merge::release);
    }

    /// Marks the end of an incarnation of the guest.
    fn end_incarnation(&self) {
        self.change(|merge, index| merge.end_incarnation(index, Instant::now()));
    }

    /// Waits until everything is written, or the destination is closed.
    async fn drained(&self) {
        std::future::poll_fn(|context| {
            let mut merge = self.shared().merge();
            match merge.is_drained(self.0.index, Some(context)) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Prints whole lines, or counts them as lost if they do not fit.
    pub fn add_or_lose(&self, lines: &[u8]) {
        self.change(|merge, index| merge.add_or_lose(index, lines, Instant::now()));
    }

    /// Prints, and blocks until everything in this lane is written. Returns `false` if the
    /// destination took nothing for as long as `patience`.
    pub fn write_all_within(&self, mut bytes: &[u8], patience: Duration) -> bool {
        let mut merge = self.shared().merge();
        loop {
            match merge.room(self.0.index) {
                // Reports an earlier failure. Later bytes may still be written.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return false,
                Err(_) => continue,
                Ok(room) => {
                    let (now, later) = bytes.split_at(room.min(bytes.len()));
                    merge.add(self.0.index, now, Instant::now());
                    merge.release(self.0.index);
                    bytes = later;
                }
            }
            self.shared().work.notify_one();
            if bytes.is_empty() && merge.is_drained(self.0.index, None) {
                return true;
            }
            let waited = self.shared().written.wait_timeout(merge, patience);
            let (back, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            merge = back;
            if timeout.timed_out() {
                return false;
            }
        }
    }
}

/// The destinations of one guest, for all its incarnations.
#[derive(Clone, Debug, Default)]
pub(super) struct Stdio {
    stdout: Option<Lane>,
    stderr: Option<Lane>,
}

impl Stdio {
    /// Adds the guest to its destinations.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub(super) fn new(
        name: &str,
        stdout: Option<&Output>,
        stderr: Option<&Output>,
    ) -> io::Result<Stdio> {
        let out = stdout.map(|output| output.guest(name)).transpose()?;
        let err = match (stdout, stderr) {
            // One lane keeps the order in which the guest prints.
            (Some(stdout), Some(stderr)) if stdout.is(stderr) => out.clone(),
            _ => stderr.map(|output| output.guest(name)).transpose()?,
        };
        Ok(Stdio {
            stdout: out,
            stderr: err,
        })
    }

    pub(super) fn stdout(&self) -> Option<Printer> {
        self.stdout.clone().map(Printer)
    }

    pub(super) fn stderr(&self) -> Option<Printer> {
        self.stderr.clone().map(Printer)
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.stdout.iter().chain(&self.stderr)
    }

    /// Lets unfinished lines be written, because the guest waits for input.
    fn release(&self) {
        self.lanes().for_each(Lane::release);
    }

    /// Marks the end of an incarnation of the guest.
    pub(super) fn end_incarnation(&self) {
        self.lanes().for_each(Lane::end_incarnation);
    }

    /// Waits until all output of the guest is written, or its destinations are closed.
    pub(super) async fn drained(&self) {
        self.release();
        for lane in self.lanes() {
            lane.drained().await;
        }
    }

    /// Waits as [`drained`](Stdio::drained) does. Returns `false` if a destination takes nothing
    /// for as long as `patience`.
    pub(super) async fn drained_within(&self, patience: Duration) -> bool {
        let chunks = |lane: &Lane| lane.shared().chunks.load(Ordering::Relaxed);
        self.release();
        for lane in self.lanes() {
            loop {
                let before = chunks(lane);
                match tokio::time::timeout(patience, lane.drained()).await {
                    Ok(()) => break,
                    Err(_) if chunks(lane) == before => return false,
                    Err(_) => {}
                }
            }
        }
        true
    }
}

/// Standard output and standard error of this process.
fn standard() -> &'static (Arc<Destination>, Arc<Destination>) {
    static STANDARD: OnceLock<(Arc<Destination>, Arc<Destination>)> = OnceLock::new();
    STANDARD.get_or_init(|| {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let same = is_same(stdout.as_fd(), stderr.as_fd());
        let (out_terminal, err_terminal) = (stdout.is_terminal(), stderr.is_terminal());
        let out = Destination::new(Box::new(Standard(stdout)), out_terminal);
        let err = match same {
            true => out.clone(),
            false => Destination::new(Box::new(Standard(stderr)), err_terminal),
        };
        (out, err)
    })
}

/// Returns whether two descriptors refer to the same file.
fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    match (rustix::fs::fstat(one), rustix::fs::fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// A standard stream, without the standard library's buffer and lock. So other threads that print
/// do not wait while this one blocks.
struct Standard<F>(F);

impl<F: AsFd> Write for Standard<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(&self.0, bytes) {
                // Another process that shares the file made it non-blocking.
                Err(rustix::io::Errno::AGAIN) => {
                    poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None)?;
                }
                written => return Ok(written?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
