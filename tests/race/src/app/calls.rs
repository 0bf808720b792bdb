//! Calls, lends, moves and deaths of guests that race. The protocol of calls is the host's own;
//! here are guests with stores in which accesses that conflict are noticed.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::Mutex as Notes;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::task::Context;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::{self, ThreadId};
use tombolo_exchange::{
    CallFailure, CallRefused, Callee, ExchangeTypes, GuestId, IdleCallee, InlineCall, Outgoing,
    Request, SentRequest, StrandTask, Turn,
};
use tombolo_region::sync::{Mutex, step};

use super::plan::{Plan, Seen, note};
use super::stop::{Failed, How, StopSignal};
use super::stores::{Borrowed, LenderStore, Lends, Parcel, Store};
use super::watch::{Floor, Log};
use crate::mock_region::{Limits, MockHost, Recipient, some_access, some_span};

/// The guests of this test.
pub(super) enum TestGuests {}

type Mailbox = tombolo_exchange::Mailbox<TestGuests>;
type Inbox = tombolo_exchange::Inbox<TestGuests>;

impl ExchangeTypes for TestGuests {
    type Callee = Guest;
    type Work = SentRequest<TestGuests, Visit>;
    type Notice = Infallible;
    type Recipient = Incarnation;
    type Lends = Lends;
    type Borrowed = Borrowed;
    type Error = Failed;
}

/// An incarnation of a guest, as the receiver of arguments.
#[derive(Debug)]
pub(super) struct Incarnation {
    to: Recipient,
    /// Shared by the guests of its strand.
    pub(super) floor: Arc<Floor>,
    /// Whether its store is dropped.
    pub(super) store_gone: Arc<AtomicBool>,
    /// Whether it failed and there is no next one.
    last: AtomicBool,
    /// The calls that are known to be in its queue.
    queued: AtomicU64,
}

impl Incarnation {
    fn new(to: &Recipient, floor: Arc<Floor>) -> Incarnation {
        Incarnation {
            to: to.clone(),
            floor,
            store_gone: Arc::default(),
            last: AtomicBool::new(false),
            queued: AtomicU64::new(0),
        }
    }
}

struct App {
    plan: Plan,
    host: Arc<MockHost>,
    /// Those of each strand.
    turns: Vec<(Arc<Turn>, Arc<Floor>)>,
    mailboxes: Vec<Mutex<Arc<Mailbox>>>,
    /// Whether no command runs any more.
    ending: AtomicBool,
    commands: AtomicU64,
    /// The stop signal of each guest.
    stop_signals: Vec<Notes<Arc<StopSignal>>>,
    /// All incarnations that there have been.
    incarnations: Notes<Vec<Arc<Mailbox>>>,
    log: Log,
    seen: Arc<Seen>,
}

pub(super) struct Guest {
    app: Arc<App>,
    mailbox: Arc<Mailbox>,
    stop_signal: Arc<StopSignal>,
    restarts: u32,
    store: Store,
}

/// The reason for callers of a guest that failed.
const FAILED: &str = "the guest failed";

/// The text for a caller whose results are refused.
const REFUSED: &str = "the results are refused";

impl App {
    fn mailbox(&self, index: usize) -> Arc<Mailbox> {
        self.mailboxes[index].lock().expect("nobody panics").clone()
    }

    fn strand(&self, index: usize) -> usize {
        index % self.plan.strands
    }

    /// Returns whether a guest has its strand for itself.
    fn is_alone(&self, index: usize) -> bool {
        self.plan.guests_on(self.strand(index)) == 1
    }

    /// Makes the mailbox of an incarnation.
    fn new_mailbox(&self, guest: usize, to: &Recipient) -> (Arc<Mailbox>, Inbox) {
        let (mailbox, inbox) = new_mailbox(guest, to, &self.turns[self.strand(guest)]);
        let mut incarnations = self.incarnations.lock().expect("nobody panics");
        incarnations.push(mailbox.clone());
        (mailbox, inbox)
    }

    /// Makes the next incarnation of a guest that failed, if there is to be one.
    fn again(self: &Arc<App>, failed: &Mailbox, restarts: u32) -> Option<(Guest, Inbox)> {
        if restarts == 0 || self.ending.load(SeqCst) {
            failed.recipient().last.store(true, SeqCst);
            return None;
        }
        let index = failed.guest().index();
        let (mailbox, inbox) = self.new_mailbox(index, &failed.recipient().to);
        let guest = Guest {
            app: self.clone(),
            stop_signal: StopSignal::new(),
            restarts: restarts - 1,
            store: Store::new(mailbox.recipient()),
            mailbox: mailbox.clone(),
        };
        *self.stop_signals[index].lock().expect("nobody panics") = guest.stop_signal.clone();
        let before = std::mem::replace(
            &mut *self.mailboxes[index].lock().expect("nobody panics"),
            mailbox,
        );
        drop(before);
        note(&self.seen.restarted);
        Some((guest, inbox))
    }

    /// Notes that a command has ended. With the last one, the servers stop.
    fn end_command(&self) {
        if self.commands.fetch_sub(1, SeqCst) > 1 {
            return;
        }
        self.ending.store(true, SeqCst);
        for guest in 0..self.mailboxes.len() {
            self.mailbox(guest).notify_stop();
        }
    }

    /// Checks what a caller relies on that was told that its callee failed.
    fn check_failed(&self, callee: &Arc<Mailbox>) {
        let incarnation = callee.recipient();
        assert!(incarnation.store_gone.load(SeqCst), "told before the store");
        let current = self.mailbox(callee.guest().index());
        let is_last = incarnation.last.load(SeqCst);
        assert!(
            is_last || !Arc::ptr_eq(&current, callee),
            "told before the next mailbox"
        );
    }
}

fn new_mailbox(
    guest: usize,
    to: &Recipient,
    (turn, floor): &(Arc<Turn>, Arc<Floor>),
) -> (Arc<Mailbox>, Inbox) {
    let name = guest.to_string().into();
    let incarnation = Incarnation::new(to, floor.clone());
    Mailbox::new(GuestId::new(guest), name, turn.clone(), incarnation)
}

/// A request to act for the caller.
pub(super) struct Visit {
    params: Parcel,
    depth: u32,
    caller: Recipient,
    progress: Arc<Progress>,
}

/// How far a call has come.
#[derive(Debug, Default)]
struct Progress {
    /// The caller has seen that it is in the queue.
    queued: AtomicBool,
    /// The callee has begun it.
    begun: AtomicBool,
    /// The thread on which that was.
    thread: Notes<Option<ThreadId>>,
}

impl Progress {
    fn begin(&self) {
        *self.thread.lock().expect("nobody panics") = Some(thread::current().id());
        self.begun.store(true, SeqCst);
    }

    fn began_here(&self) -> bool {
        let thread = self.thread.lock().expect("nobody panics");
        *thread == Some(thread::current().id())
    }
}

impl Request<TestGuests> for Visit {
    type Answer = Parcel;

    async fn call(
        &mut self,
        guest: &mut Guest,
        _: GuestId,
    ) -> Result<Result<Parcel, String>, CallFailure<TestGuests>> {
        let seen = guest.app.seen.clone();
        self.progress.begin();
        if self.progress.queued.load(SeqCst) {
            let queued = &guest.mailbox.recipient().queued;
            queued.fetch_sub(1, SeqCst);
        }
        let params = std::mem::take(&mut self.params);
        let borrowed = guest.store.unpack(params);
        let stop_signal = guest.stop_signal.clone();
        // A call may lead to another one in the same guest, so its type is not spelled out.
        let acts: BoxFuture<'_, _> = Box::pin(guest.acts(self.depth));
        let acted = stop_signal.unless(How::Fails, acts).await;
        if !matches!(acted, Some(Ok(()))) {
            return Err(CallFailure {
                error: Failed,
                borrowed: Some(borrowed),
            });
        }
        let packed = guest.store.pack(1, false, &self.caller, &seen);
        borrowed.end(&mut guest.store);
        Ok(match packed {
            Ok((parcel, _)) => Ok(parcel),
            Err(_) => Err(REFUSED.to_owned()),
        })
    }
}

impl Callee<TestGuests> for Guest {
    fn poll_stop(&mut self, context: &Context<'_>) -> Result<(), Failed> {
        self.stop_signal.watch(How::Fails, context)
    }

    async fn receive(&mut self, notice: Infallible) -> Result<(), Failed> {
        match notice {}
    }
}

impl Guest {
    async fn acts(&mut self, depth: u32) -> Result<(), Failed> {
        let seen = self.app.seen.clone();
        for _ in 0..self.app.plan.acts {
            self.mailbox.recipient().floor.run(step);
            self.stop_signal.check()?;
            if thread_rng().gen_range(0..100) == 0 {
                // It traps, and nothing wakes its task.
                return Err(Failed);
            }
            let memory = &mut self.store.memory;
            let windows = memory.windows();
            match thread_rng().gen_range(0..12) {
                0..=2 => {
                    if let Some(key) = self.store.some() {
                        let region = &self.store.table[&key];
                        let memory = &mut self.store.memory;
                        note(match memory.map(region, some_span(), some_access()) {
                            Ok(()) => &seen.mapped,
                            Err(_) => &seen.conflicts,
                        });
                    }
                }
                3..=4 if windows > 0 => memory.touch(thread_rng().gen_range(0..windows)),
                5 if windows > 0 => memory.unmap(thread_rng().gen_range(0..windows)),
                6 => {
                    if let Some(key) = self.store.some() {
                        match self.store.table[&key].duplicate() {
                            Ok(another) => drop(self.store.push(another)),
                            // A lent handle stays until the call has returned.
                            Err(_) => continue,
                        }
                    }
                }
                7 => {
                    let own = self.store.table.iter().find(|(_, it)| !it.is_lent());
                    if let Some(key) = own.map(|(key, _)| *key) {
                        drop(self.store.table.remove(&key));
                    }
                }
                _ if depth > 0 => {
                    let (first, last) = (self.app.plan.commands, self.app.mailboxes.len());
                    let to = thread_rng().gen_range(first..last);
                    if to != self.mailbox.guest().index() {
                        self.call(to, depth - 1).await;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn call(&mut self, to: usize, depth: u32) {
        let (app, from) = (self.app.clone(), self.mailbox.guest().index());
        let seen = &*app.seen;
        let callee = app.mailbox(to);
        let noted = app.log.begin(from, to);
        let same_strand = app.strand(from) == app.strand(to);
        let queued = &callee.recipient().queued;
        let before = queued.load(SeqCst);
        let in_hand = thread_rng().gen_range(0..2) == 0;
        let idle = in_hand.then(|| IdleCallee::take(callee.clone(), &self.mailbox));
        let progress = Arc::<Progress>::default();
        let visit = |params| Visit {
            params,
            depth,
            caller: self.mailbox.recipient().to.clone(),
            progress: progress.clone(),
        };
        let returned = if let Some(Ok(idle)) = idle {
            assert!(before == 0 || !same_strand, "it passed a queued call");
            let Ok((params, lending)) = self.store.pack(2, true, &idle.recipient().to, seen) else {
                drop(idle);
                note(&seen.put_back);
                return app.log.end(noted);
            };
            let lender = LenderStore {
                store: &mut self.store,
                seen,
            };
            if !same_strand {
                note(&seen.taken_elsewhere);
                assert!(app.is_alone(from), "others of its strand cannot go on");
            }
            match idle.lend(lender, lending).run(visit(params)) {
                InlineCall::Returned(returned) => {
                    note(&seen.on_the_spot);
                    returned
                }
                InlineCall::Waits(sent) => {
                    note(&seen.parked);
                    sent.returned().await
                }
            }
        } else {
            let outgoing = match Outgoing::begin(callee.clone(), &self.mailbox) {
                Ok(outgoing) => outgoing,
                Err(CallRefused::Cycle(cycle)) => {
                    let cycle: Vec<usize> = cycle.into_iter().map(GuestId::index).collect();
                    app.log.check(&cycle, noted);
                    app.log.end(noted);
                    return note(&seen.cycles);
                }
                Err(CallRefused::Ended(why)) => {
                    if why == FAILED {
                        app.check_failed(&callee);
                    }
                    app.log.end(noted);
                    return note(&seen.closed);
                }
            };
            let packed = self.store.pack(2, true, &outgoing.recipient().to, seen);
            let Ok((params, lending)) = packed else {
                drop(outgoing);
                return app.log.end(noted);
            };
            let lender = LenderStore {
                store: &mut self.store,
                seen,
            };
            let call = outgoing.lend(lender, lending);
            let before = queued.load(SeqCst);
            let sent = call.send(visit(params), |sent| sent);
            if !progress.begun.load(SeqCst) {
                progress.queued.store(true, SeqCst);
                queued.fetch_add(1, SeqCst);
            } else if same_strand {
                // A queued call of the same strand begins only when its caller waits.
                note(&seen.inline);
                assert_eq!(before, 0, "it passed a queued call");
            } else if progress.began_here() {
                note(&seen.inline_elsewhere);
                assert!(app.is_alone(from), "others of its strand cannot go on");
            }
            sent.returned().await
        };
        app.log.end(noted);
        let Ok((lender, answer)) = returned.end();
        assert!(!self.mailbox.is_waiting(), "told before the wait is over");
        match answer {
            Ok(parcel) => {
                let borrowed = lender.store.unpack(parcel);
                assert!(borrowed.0.is_empty(), "results are moved");
                note(&seen.done);
            }
            Err(why) if why == REFUSED => note(&seen.refused),
            Err(why) if why == FAILED => {
                app.check_failed(&callee);
                note(&seen.failed);
            }
            Err(_) => note(&seen.closed),
        }
    }

    /// Answers calls up to its end, and returns its next incarnation.
    async fn live(self, inbox: Inbox) -> Option<(Guest, Inbox)> {
        let mailbox = self.mailbox.clone();
        let (mut guest, inbox, served) = mailbox.serve(self, inbox).await;
        let Err(broken) = served else {
            guest.store.memory.finish();
            return None;
        };
        let Guest {
            app,
            restarts,
            store,
            ..
        } = guest;
        let drop_store = |Failed| {
            drop(store);
            (None, FAILED.to_owned())
        };
        let restart = |next: &mut Option<_>| *next = app.again(&mailbox, restarts);
        mailbox.end_broken(broken, Some(inbox), drop_store, restart)
    }

    /// Runs all incarnations of a server.
    async fn serve(self, inbox: Inbox) {
        let mut next = Some((self, inbox));
        while let Some((guest, inbox)) = next {
            // As after the wait before it is started again.
            if guest.app.ending.load(SeqCst) {
                return;
            }
            let stop_signal = guest.stop_signal.clone();
            let lived = stop_signal.unless(How::Dropped, guest.live(inbox));
            next = lived.await.flatten();
        }
    }

    /// Runs a command.
    async fn run(mut self) {
        let app = self.app.clone();
        let stop_signal = self.stop_signal.clone();
        let run = async {
            let acts = self.acts(app.plan.depth);
            if let Some(Ok(())) = stop_signal.unless(How::Fails, acts).await {
                self.store.memory.finish();
            }
            drop(self);
        };
        stop_signal.unless(How::Dropped, run).await;
        app.end_command();
    }
}

/// Runs one schedule.
///
/// # Panics
///
/// If anything is not as it should be.
pub fn run(plan: Plan, seen: &Arc<Seen>) {
    let host = MockHost::new();
    let count = plan.commands + plan.servers;
    // Results and arguments are refused now and then, because there is no room.
    let limits = Limits {
        regions: 4,
        ..Limits::default()
    };
    let recipients = (0..count).map(|guest| host.owner(&guest.to_string(), limits));
    let recipients: Vec<Recipient> = recipients.collect();
    let turns = (0..plan.strands).map(|it| (Turn::new(plan.guests_on(it)), Arc::default()));
    let turns: Vec<_> = turns.collect();
    let mailboxes = recipients.iter().enumerate();
    let mailboxes =
        mailboxes.map(|(guest, to)| new_mailbox(guest, to, &turns[guest % plan.strands]));
    let (mailboxes, inboxes): (Vec<_>, Vec<_>) = mailboxes.unzip();
    let app = Arc::new(App {
        incarnations: Notes::new(mailboxes.clone()),
        plan,
        host: host.clone(),
        turns,
        mailboxes: mailboxes.into_iter().map(Mutex::new).collect(),
        ending: AtomicBool::new(false),
        commands: AtomicU64::new(plan.commands as u64),
        stop_signals: (0..count).map(|_| Notes::new(StopSignal::new())).collect(),
        log: Log::default(),
        seen: seen.clone(),
    });
    // One region that all have a claim on, and one of each.
    let common = host.create(&recipients[0]);
    // As in the host, a strand polls those of its guests that were woken.
    let mut strands: Vec<FuturesUnordered<BoxFuture<'static, ()>>> = Vec::new();
    strands.resize_with(plan.strands, FuturesUnordered::new);
    for (index, (inbox, to)) in inboxes.into_iter().zip(recipients).enumerate() {
        let mailbox = app.mailbox(index);
        let mut store = Store::new(mailbox.recipient());
        store.push(common.duplicate_for(&to).expect("there is room"));
        store.push(host.create(&to));
        let stop_signal = app.stop_signals[index].lock().expect("nobody panics");
        let guest = Guest {
            app: app.clone(),
            mailbox,
            stop_signal: stop_signal.clone(),
            restarts: plan.restarts,
            store,
        };
        drop(stop_signal);
        strands[app.strand(index)].push(if index < plan.commands {
            drop(inbox);
            Box::pin(guest.run())
        } else {
            Box::pin(guest.serve(inbox))
        });
    }
    drop(common);
    let aborts: Vec<_> = strands.iter().map(|_| StopSignal::new()).collect();
    let strands = strands.into_iter().zip(&aborts).enumerate();
    let strands = strands.map(|(strand, (guests, abort))| {
        let task = StrandTask::new(app.turns[strand].0.clone(), guests.collect::<()>());
        let abort = abort.clone();
        thread::spawn(move || block_on(abort.unless(How::Dropped, task)))
    });
    let strands: Vec<_> = strands.collect();
    let killer = thread::spawn({
        let (app, seen) = (app.clone(), seen.clone());
        move || {
            for _ in 0..plan.deaths {
                for _ in 0..thread_rng().gen_range(0..20) {
                    step();
                }
                let guest = thread_rng().gen_range(0..count);
                let how = match thread_rng().gen_range(0..3) {
                    0 => How::Dropped,
                    _ => How::Fails,
                };
                let stop_signal = app.stop_signals[guest]
                    .lock()
                    .expect("nobody panics")
                    .clone();
                stop_signal.end(how);
            }
            if thread_rng().gen_range(0..8) == 0 {
                note(&seen.aborted);
                aborts.iter().for_each(|it| it.end(How::Dropped));
            }
        }
    });
    for strand in strands {
        strand.join().expect("its assertions held");
    }
    killer.join().expect("it only tells");
    let incarnations = app.incarnations.lock().expect("nobody panics");
    for guest in incarnations.iter() {
        assert!(!guest.is_waiting(), "{:?} waits", guest.guest());
    }
    app.host.check_empty();
    seen.poisoned.fetch_add(host.counts().1 as u64, SeqCst);
}
