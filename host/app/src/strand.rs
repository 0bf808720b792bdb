//! Strands: guests that take turns.
//!
//! Each strand has a task, which polls its guests one after the other while it holds the strand's
//! [turn](Turn). A caller in another strand may take the turn to run an idle guest. So no two
//! guests of a strand ever run at once, on whichever thread. Different strands are different tasks.
//! They run in parallel if the runtime has several threads. No wait blocks inside a poll, so a
//! strand whose guest waits goes on with its other guests.
//!
//! # Why live windows are sound
//!
//! Live windows within a strand rely on this module. Guests of a strand are instantiated, polled
//! and dropped by the holder of the strand's turn. That is its task, or a guest of another strand
//! for the first poll of a call. Inside a poll, another guest is polled in one place only: in a
//! call to it, from the idle slot of its [mailbox](tombolo_exchange::Mailbox). That is an
//! asynchronous host function, which has the caller's store by `&mut`. A context's strand and its
//! guest's turn come from one value.
//!
//! Control leaves a guest where its fiber suspends, also at an epoch tick in wasm, or where it
//! waits for another guest. Everything that can suspend the fiber takes the store by `&mut`, even
//! the guest's `realloc` in the middle of a lowering. Wasmtime's slices borrow the store, so the
//! compiler rules out a live one. Functions of this crate that lift a `WasmList` are synchronous:
//! `map` uses the address alone, and `channels.send` copies at once. A new host function must not
//! keep guest memory across an await.
//!
//! A store has at most one live window per granule. With two, slices over different addresses of
//! one store would alias. Wasmtime relies on the opposite when it copies within a store, or between
//! components of one store.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use tombolo::Strand;
use tombolo_exchange::{GuestId, StrandTask, Turn};

use super::spec::GuestSpec;

/// The task of a guest, from its start to its end.
pub(super) type GuestTask<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A strand of an app.
#[derive(Clone)]
pub(super) struct AppStrand {
    /// The strand of its guests' contexts.
    pub(super) id: Strand,
    pub(super) turn: Arc<Turn>,
}

impl AppStrand {
    /// Makes a strand for this number of guests.
    fn new(guests: usize) -> AppStrand {
        AppStrand {
            id: Strand::new(),
            turn: Turn::new(guests),
        }
    }

    /// Makes the strand of each of these guests.
    pub(super) fn of_all(guests: &[GuestSpec]) -> Vec<AppStrand> {
        let mut named = BTreeMap::new();
        let names = guests.iter().filter_map(|guest| guest.strand.as_ref());
        names.for_each(|name| *named.entry(name).or_insert(0) += 1);
        let named: BTreeMap<_, _> = named
            .into_iter()
            .map(|(name, guests)| (name, AppStrand::new(guests)))
            .collect();
        let strand = |guest: &GuestSpec| match &guest.strand {
            Some(name) => named[name].clone(),
            None => AppStrand::new(1),
        };
        guests.iter().map(strand).collect()
    }
}

/// The strands of an app, as they run.
pub(super) struct Strands<T> {
    /// The way into the strand of each guest.
    enter: Vec<mpsc::UnboundedSender<GuestTask<T>>>,
    tasks: JoinSet<()>,
    ended: mpsc::UnboundedReceiver<T>,
    /// The number of guests that have entered and not ended.
    alive: usize,
    /// Whether the runtime dropped a task, and with it the guests in it.
    dropped: bool,
}

impl<T: Send + 'static> Strands<T> {
    /// Makes the strands of these guests. To be called on a tokio runtime.
    pub(super) fn new<'a>(guests: impl Iterator<Item = &'a AppStrand>) -> Strands<T> {
        let (tell, ended) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let mut made = BTreeMap::new();
        let mut make = |turn: &Arc<Turn>| {
            let (enter, entering) = mpsc::unbounded_channel();
            let guests = take_turns(entering, tell.clone());
            tasks.spawn(StrandTask::new(turn.clone(), guests));
            enter
        };
        let enter = guests
            .map(|AppStrand { id, turn }| made.entry(id).or_insert_with(|| make(turn)).clone())
            .collect();
        Strands {
            enter,
            tasks,
            ended,
            alive: 0,
            dropped: false,
        }
    }

    /// Starts the task of a guest in its strand.
    pub(super) fn enter(&mut self, guest: GuestId, task: GuestTask<T>) {
        // It fails only after the strand was aborted.
        if self.enter[guest.index()].send(task).is_ok() {
            self.alive += 1;
        }
    }

    /// Waits for a guest to end, and returns `None` when there is none left. Nothing is
    /// lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Option<T> {
        loop {
            if self.alive == 0 {
                return None;
            }
            let joined = tokio::select! {
                biased;
                Some(ended) = self.ended.recv() => {
                    self.alive -= 1;
                    return Some(ended);
                }
                joined = self.tasks.join_next() => joined,
            };
            match joined {
                // A panic of the host is a bug, which is not to be hidden.
                Some(Err(error)) if error.is_panic() => {
                    std::panic::resume_unwind(error.into_panic())
                }
                // If it was not aborted, the runtime that it was on is gone.
                Some(Err(_)) => self.dropped |= !self.enter.is_empty(),
                Some(Ok(())) => {}
                None => match self.ended.try_recv() {
                    Ok(ended) => {
                        self.alive -= 1;
                        return Some(ended);
                    }
                    Err(_) => self.alive = 0,
                },
            }
        }
    }

    /// Returns whether guests were dropped with the runtime that they were on.
    pub(super) fn were_dropped(&self) -> bool {
        self.dropped
    }

    /// Ends all strands where they are.
    pub(super) fn abort(&mut self) {
        self.enter.clear();
        self.tasks.abort_all();
    }
}

/// Polls guests one after the other, until no more can enter.
async fn take_turns<T>(
    mut entering: mpsc::UnboundedReceiver<GuestTask<T>>,
    ended: mpsc::UnboundedSender<T>,
) {
    let mut guests = FuturesUnordered::new();
    loop {
        tokio::select! {
            entered = entering.recv() => match entered {
                Some(guest) => guests.push(guest),
                None => break,
            },
            Some(end) = guests.next(), if !guests.is_empty() => drop(ended.send(end)),
        }
    }
    while let Some(end) = guests.next().await {
        let _ = ended.send(end);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts how many tasks that share a counter run at once, at most.
    async fn run(running: Arc<AtomicUsize>, most: Arc<AtomicUsize>) {
        for _ in 0..200 {
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            std::thread::yield_now();
            running.fetch_sub(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    }

    // rule 2
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn guests_of_a_strand_take_turns() {
        let strand = AppStrand::new(3);
        let mut strands = Strands::new([&strand; 3].into_iter());
        let (running, most) = (Arc::default(), Arc::<AtomicUsize>::default());
        for guest in 0..3 {
            strands.enter(
                GuestId::new(guest),
                Box::pin(run(Arc::clone(&running), most.clone())),
            );
        }
        let mut ended = 0;
        while strands.next().await.is_some() {
            ended += 1;
        }
        assert_eq!((ended, most.load(Ordering::SeqCst)), (3, 1));
    }

    #[test]
    fn guests_of_a_named_strand_share_its_turn() {
        let guest = |strand: Option<&str>| GuestSpec {
            strand: strand.map(str::to_owned),
            ..GuestSpec::new("guest", Vec::new())
        };
        let names = [Some("a"), None, Some("b"), Some("a"), None];
        let strands = AppStrand::of_all(&names.map(guest));
        let shared: Vec<bool> = strands.iter().map(|it| it.turn.is_shared()).collect();
        assert_eq!(shared, [true, false, false, true, false]);
        for (at, one) in strands.iter().enumerate() {
            for (other_at, other) in strands.iter().enumerate() {
                let same = at == other_at || [at, other_at] == [0, 3] || [at, other_at] == [3, 0];
                assert_eq!(Arc::ptr_eq(&one.turn, &other.turn), same);
                assert_eq!(one.id == other.id, same);
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn strands_run_in_parallel() {
        // Each waits for the other and keeps its thread.
        let mut strands = Strands::new([&AppStrand::new(1), &AppStrand::new(1)].into_iter());
        let barrier = Arc::new(std::sync::Barrier::new(2));
        for guest in 0..2 {
            let barrier = barrier.clone();
            strands.enter(
                GuestId::new(guest),
                Box::pin(async move {
                    barrier.wait();
                }),
            );
        }
        assert!(strands.next().await.is_some() && strands.next().await.is_some());
        assert!(strands.next().await.is_none());
    }

    #[test]
    fn dropped_runtime_is_reported() {
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.build().unwrap()
        };
        let first = runtime();
        let mut strands = first.block_on(async { Strands::new([&AppStrand::new(1)].into_iter()) });
        strands.enter(GuestId::new(0), Box::pin(std::future::pending::<()>()));
        drop(first);
        assert!(runtime().block_on(strands.next()).is_none());
        assert!(strands.were_dropped());
    }

    #[tokio::test]
    async fn aborted_strands_have_no_guests() {
        let mut strands = Strands::<()>::new([&AppStrand::new(1)].into_iter());
        strands.enter(GuestId::new(0), Box::pin(std::future::pending()));
        strands.abort();
        assert!(strands.next().await.is_none());
        assert!(!strands.were_dropped());
    }
}
