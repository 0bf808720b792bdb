//! A guest that answers several calls at a time.
//!
//! Its calls begin in the order in which they come. A plain call runs alone among the plain calls:
//! the next one begins when it has returned, and so do those behind it. Other calls run beside it
//! and beside each other, up to a number of calls.
//!
//! Each call keeps what it borrowed. If the guest breaks, that outlives its store, for all calls,
//! and then all their callers are told.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use tracing::Instrument;

use crate::call::{Broken, Call, TellCaller};
use crate::guest_id::GuestId;
use crate::guests::{ExchangeTypes, Work};
use crate::inbox::{Inbox, MailboxItem};
use crate::mailbox::Mailbox;
use crate::sync::Mutex;
use crate::task::{Task, TaskTypes, TaskWork};
use crate::waits::{WaitEdge, WaitNode};

/// The things that the calls of a broken guest leave behind.
struct Remains<G: ExchangeTypes> {
    borrowed: Vec<G::Borrowed>,
    tell_callers: Vec<TellCaller>,
}

type SharedRemains<G> = Arc<Mutex<Remains<G>>>;

/// A call in progress. If it is dropped before it has returned, its guest is broken.
struct InProgress<G: ExchangeTypes> {
    /// Declared first, so that a caller that learns of a dropped call no longer waits.
    waiting: Option<WaitEdge<G::Lends>>,
    work: Option<G::Work>,
    borrowed: Option<G::Borrowed>,
    remains: SharedRemains<G>,
}

impl<G: ExchangeTypes> Drop for InProgress<G> {
    fn drop(&mut self) {
        drop(self.waiting.take());
        let Some(work) = self.work.take() else {
            return;
        };
        let mut remains = self.remains.lock().unwrap_or_else(PoisonError::into_inner);
        remains.borrowed.extend(self.borrowed.take());
        let tell = Box::new(|why| work.reply_failure(why));
        remains.tell_callers.push(tell);
    }
}

impl<G: TaskTypes> InProgress<G> {
    async fn run(
        mut self,
        tasks: G::Tasks,
        caller: GuestId,
        task: Task<G>,
    ) -> Result<(), G::Error> {
        let Some(work) = &mut self.work else {
            unreachable!("taken only below");
        };
        let borrowed = &mut self.borrowed;
        work.run_beside(&tasks, caller, task, borrowed).await?;
        drop(self.waiting.take());
        if let Some(work) = self.work.take() {
            work.reply();
        }
        Ok(())
    }
}

type Running<G> = Pin<Box<dyn Future<Output = Result<(), <G as ExchangeTypes>::Error>> + Send>>;

/// Why a [`TaskServer`] pauses.
pub enum TaskPause<G: ExchangeTypes> {
    /// This notice is to be received.
    Notice(G::Notice),
    /// No command runs any more, and all calls have returned.
    Done,
}

/// A guest that answers several calls at a time: its inbox, and the calls in progress.
pub struct TaskServer<G: TaskTypes> {
    inbox: Inbox<G>,
    /// The node of the guest.
    node: Arc<WaitNode<G::Lends>>,
    running: Vec<(Running<G>, bool)>,
    /// The next call, if it may not begin yet.
    next: VecDeque<Box<Call<G>>>,
    /// The most calls in progress.
    most: usize,
    stopping: bool,
    remains: SharedRemains<G>,
}

impl<G: TaskTypes> TaskServer<G> {
    /// Creates the server of an incarnation that answers up to `most` calls at a time, at least
    /// one. `mailbox` is that of the incarnation.
    pub fn new(mailbox: &Mailbox<G>, inbox: Inbox<G>, most: usize) -> TaskServer<G> {
        let remains = Remains {
            borrowed: Vec::new(),
            tell_callers: Vec::new(),
        };
        TaskServer {
            inbox,
            node: mailbox.node().clone(),
            running: Vec::new(),
            next: VecDeque::new(),
            most: most.max(1),
            stopping: false,
            remains: Arc::new(Mutex::new(remains)),
        }
    }

    /// Returns how many calls are in progress.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Polls the calls in progress, and begins those that may begin. Returns when there is
    /// something to do that takes the store alone.
    ///
    /// # Errors
    ///
    /// If the guest cannot go on.
    pub fn poll(
        &mut self,
        tasks: &G::Tasks,
        context: &mut Context<'_>,
    ) -> Poll<Result<TaskPause<G>, G::Error>> {
        loop {
            let mut returned = false;
            let mut at = 0;
            while let Some((call, _)) = self.running.get_mut(at) {
                match call.as_mut().poll(context) {
                    Poll::Ready(Ok(())) => {
                        drop(self.running.swap_remove(at));
                        returned = true;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => at += 1,
                }
            }
            match self.poll_inbox(tasks, context) {
                Poll::Ready(Some(pause)) => return Poll::Ready(Ok(pause)),
                // Another call has begun, and is polled.
                Poll::Ready(None) => {}
                Poll::Pending if returned => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Begins one call, if one may begin.
    fn poll_inbox(
        &mut self,
        tasks: &G::Tasks,
        context: &mut Context<'_>,
    ) -> Poll<Option<TaskPause<G>>> {
        if self.next.is_empty() && !self.stopping {
            match self.inbox.poll_recv(context) {
                Poll::Ready(Some(MailboxItem::Call(call))) => self.next.push_back(call),
                Poll::Ready(Some(MailboxItem::Notice(notice))) => {
                    return Poll::Ready(Some(TaskPause::Notice(notice)));
                }
                Poll::Ready(Some(MailboxItem::Stop) | None) => self.stopping = true,
                Poll::Pending => return Poll::Pending,
            }
        }
        let Some(call) = self.next.pop_front() else {
            return match self.running.is_empty() {
                true => Poll::Ready(Some(TaskPause::Done)),
                false => Poll::Pending,
            };
        };
        let plain = call.work.is_plain();
        let waits = plain && self.running.iter().any(|(_, plain)| *plain);
        if waits || self.running.len() >= self.most {
            self.next.push_front(call);
            return Poll::Pending;
        }
        let call = *call;
        // Of a guest that takes one call at a time, that waits for what the call waits for.
        let task = Task(call.node.unwrap_or_else(|| self.node.clone()));
        let running = InProgress {
            waiting: call.waiting,
            work: Some(call.work),
            borrowed: None,
            remains: self.remains.clone(),
        };
        let running = running.run(tasks.clone(), call.caller, task);
        let running = Box::pin(running.instrument(call.span));
        self.running.push((running, plain));
        Poll::Ready(None)
    }

    /// Ends the server. Returns the inbox with what it has not received. If the guest is broken
    /// by `error`, also returns what is left to do once its store is gone.
    pub fn end(self, broken: Option<G::Error>) -> (Inbox<G>, Result<(), Broken<G>>) {
        let TaskServer {
            inbox,
            running,
            next,
            remains,
            ..
        } = self;
        drop(running);
        let Some(error) = broken else {
            return (inbox, Ok(()));
        };
        let mut remains = remains.lock().unwrap_or_else(PoisonError::into_inner);
        let mut broken = Broken::new(error);
        broken.borrowed.append(&mut remains.borrowed);
        broken.tell_callers.append(&mut remains.tell_callers);
        broken.not_begun.extend(next);
        (inbox, Err(broken))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Waker;

    use tokio::sync::oneshot;

    use super::*;
    use crate::guests::{CallFailure, Callee};
    use crate::outgoing::{Outgoing, SentCall};
    use crate::request::{Request, SentRequest};
    use crate::task::TaskRequest;
    use crate::turn::Turn;
    use crate::waits::LentRegions;

    enum Fake {}

    #[derive(Default)]
    struct NoLends;

    impl LentRegions for NoLends {
        fn are_all_back(&self) -> bool {
            true
        }
    }

    /// Counts what is borrowed.
    struct Borrowed(Arc<AtomicUsize>);

    impl Drop for Borrowed {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// A callee that has no store.
    struct NoStore;

    impl Callee<Fake> for NoStore {
        fn poll_stop(&mut self, _: &Context<'_>) -> Result<(), &'static str> {
            Ok(())
        }

        async fn receive(&mut self, (): ()) -> Result<(), &'static str> {
            Ok(())
        }
    }

    impl ExchangeTypes for Fake {
        type Callee = NoStore;
        type Work = SentRequest<Fake, Gated>;
        type Notice = ();
        type Recipient = ();
        type Lends = NoLends;
        type Borrowed = Borrowed;
        type Error = &'static str;
    }

    impl TaskTypes for Fake {
        type Tasks = Arc<AtomicUsize>;
    }

    /// A call that borrows, and returns or fails when it is told.
    struct Gated {
        plain: bool,
        gate: Option<oneshot::Receiver<Result<u32, &'static str>>>,
    }

    impl Request<Fake> for Gated {
        type Answer = u32;

        async fn call(
            &mut self,
            _: &mut NoStore,
            _: GuestId,
        ) -> Result<Result<u32, String>, CallFailure<Fake>> {
            unreachable!("the guest answers several calls at a time")
        }
    }

    impl TaskRequest<Fake> for Gated {
        fn is_plain(&self) -> bool {
            self.plain
        }

        async fn call_beside(
            &mut self,
            borrowing: &Arc<AtomicUsize>,
            _: GuestId,
            _: Task<Fake>,
            borrowed: &mut Option<Borrowed>,
        ) -> Result<Result<u32, String>, &'static str> {
            borrowing.fetch_add(1, Ordering::SeqCst);
            *borrowed = Some(Borrowed(borrowing.clone()));
            let told = self.gate.take().expect("it is made once").await;
            let answer = told.expect("it is told")?;
            *borrowed = None;
            Ok(Ok(answer))
        }
    }

    struct Scene {
        mailbox: Arc<Mailbox<Fake>>,
        server: TaskServer<Fake>,
        borrowing: Arc<AtomicUsize>,
    }

    type Gate = oneshot::Sender<Result<u32, &'static str>>;

    impl Scene {
        fn new(most: usize) -> Scene {
            let (id, name) = (GuestId::new(0), "callee".into());
            let (mailbox, inbox) = Mailbox::of_tasks(id, name, Turn::new(1), (), most);
            Scene {
                server: TaskServer::new(&mailbox, inbox, most),
                mailbox,
                borrowing: Arc::default(),
            }
        }

        fn call(&self, plain: bool) -> (Gate, SentCall<Fake, u32>) {
            let (gate, gated) = oneshot::channel();
            let request = Gated {
                plain,
                gate: Some(gated),
            };
            let caller = Task::detached(GuestId::new(1));
            let begun = Outgoing::begin_awaited(self.mailbox.clone(), &caller);
            let (outgoing, _) = begun.expect("it may begin");
            (gate, outgoing.send(request, |sent| sent))
        }

        fn poll(&mut self) -> Poll<Result<TaskPause<Fake>, &'static str>> {
            let mut context = Context::from_waker(Waker::noop());
            self.server.poll(&self.borrowing, &mut context)
        }

        fn running(&mut self) -> usize {
            assert!(self.poll().is_pending());
            self.server.running()
        }
    }

    // rule 10
    #[test]
    fn no_more_calls_run_than_may() {
        let mut scene = Scene::new(2);
        let [first, _second, _third] = [(); 3].map(|()| scene.call(false));
        assert_eq!(scene.running(), 2);
        first.0.send(Ok(7)).expect("it runs");
        assert_eq!(scene.running(), 2, "the third has begun");
        assert_eq!(answer_of(first.1), Ok(7));
    }

    #[test]
    fn plain_calls_run_one_after_the_other() {
        let mut scene = Scene::new(9);
        let [first, _beside, _second] = [true, false, true].map(|plain| scene.call(plain));
        assert_eq!(scene.running(), 2);
        first.0.send(Ok(1)).expect("it runs");
        assert_eq!(scene.running(), 2);
        assert_eq!(answer_of(first.1), Ok(1));
    }

    #[test]
    fn calls_before_a_stop_are_answered() {
        let mut scene = Scene::new(2);
        let (gate, call) = scene.call(false);
        scene.mailbox.notify_stop();
        assert_eq!(scene.running(), 1);
        gate.send(Ok(3)).expect("it runs");
        assert!(matches!(scene.poll(), Poll::Ready(Ok(TaskPause::Done))));
        assert_eq!(answer_of(call), Ok(3));
    }

    // rules 5, 13
    #[test]
    fn broken_guest_keeps_what_it_borrowed_for_all_calls() {
        let mut scene = Scene::new(2);
        let [first, second, third] = [(); 3].map(|()| scene.call(false));
        assert_eq!(scene.running(), 2);
        first.0.send(Err("trap")).expect("it runs");
        let Poll::Ready(Err(error)) = scene.poll() else {
            panic!("it is broken");
        };
        let (inbox, broken) = scene.server.end(Some(error));
        let Err(broken) = broken else {
            panic!("it is broken");
        };
        assert_eq!(scene.borrowing.load(Ordering::SeqCst), 2);
        let borrowing = scene.borrowing.clone();
        let drop_store = |_| (borrowing.load(Ordering::SeqCst), "it died".to_owned());
        let lent = scene
            .mailbox
            .end_broken(broken, Some(inbox), drop_store, |_| {});
        assert_eq!(lent, 2, "the lends outlive the store");
        assert_eq!(scene.borrowing.load(Ordering::SeqCst), 0);
        for call in [first.1, second.1, third.1] {
            assert_eq!(answer_of(call), Err("it died".to_owned()));
        }
    }

    /// Returns the answer of a call that has one.
    fn answer_of(call: SentCall<Fake, u32>) -> Result<u32, String> {
        let mut answer = std::pin::pin!(call.answer());
        match answer
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("it has no answer"),
        }
    }
}
