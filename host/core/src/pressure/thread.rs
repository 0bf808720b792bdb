//! A thread that waits for the kernel.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// A thread that waits for the kernel, until this is dropped.
pub(crate) struct Thread {
    stop: Arc<OwnedFd>,
    handle: Option<JoinHandle<()>>,
}

/// Waits on behalf of such a thread, also for the request to stop.
pub(crate) struct Poller(Arc<OwnedFd>);

impl Thread {
    pub(crate) fn start(
        name: &str,
        run: impl FnOnce(Poller) + Send + 'static,
    ) -> io::Result<Thread> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let stop = Arc::new(stop);
        let poller = Poller(stop.clone());
        let handle = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || run(poller))?;
        Ok(Thread {
            stop,
            handle: Some(handle),
        })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // A first write to an eventfd does not fail.
        let told = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        debug_assert_eq!(told, Ok(8));
        let Some(handle) = self.handle.take() else {
            return;
        };
        // A reaction to pressure may drop the source, on this very thread.
        if handle.thread().id() != std::thread::current().id() && handle.join().is_err() {
            tracing::error!("the thread that watches memory pressure panicked");
        }
    }
}

impl Poller {
    /// Waits until one of the descriptors has any of `events`, or an error. Returns the events of
    /// each: none at all if `until` came first. `None` if it is time to stop.
    pub(crate) fn wait(
        &self,
        descriptors: &[BorrowedFd<'_>],
        events: PollFlags,
        until: Option<Instant>,
    ) -> io::Result<Option<Vec<PollFlags>>> {
        let mut all = vec![PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
        all.extend(
            descriptors
                .iter()
                .map(|descriptor| PollFd::from_borrowed_fd(*descriptor, events)),
        );
        loop {
            let left = until.map(|until| {
                Timespec::try_from(until.saturating_duration_since(Instant::now()))
                    .expect("levels last for seconds")
            });
            match poll(&mut all, left.as_ref()) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        let mut flags = all.iter().map(PollFd::revents);
        Ok(match flags.next() {
            Some(stop) if stop.is_empty() => Some(flags.collect()),
            _ => None,
        })
    }
}
