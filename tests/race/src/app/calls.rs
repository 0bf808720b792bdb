//! Calls, lends, moves and deaths of guests that are threads. They use the host's own ledger
//! and its own graph of waits, and take the same steps in the same order as the host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex as Notes;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::atomic::AtomicBool;
use shuttle::thread;
use tokio::sync::{mpsc, oneshot};

use super::guest_id::GuestId;
use super::stop::{Failed, How, StopSignal};
use super::waits::{self, LentRegions};
use crate::mock_region::{
    Memory, MockHost, Recipient, Region, RegionError, Shared, some_access, some_span,
};
use crate::region::{Charge, ChargeKind, ClaimId, LendId, WindowEnd};
use crate::sync::{Mutex, step};

/// The shape of the app that is tried.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Guests that call, and are not called.
    pub commands: usize,
    /// Guests that are called, and call others meanwhile.
    pub servers: usize,
    /// How much a guest does of its own, and for each call.
    pub acts: u32,
    /// How long a chain of calls is at most.
    pub depth: u32,
    /// How many guests are told to end.
    pub deaths: u32,
    /// How often each is started again.
    pub restarts: u32,
}

/// The outcomes over all schedules.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "they are what their names say")]
pub struct Seen {
    pub done: AtomicU64,
    pub failed: AtomicU64,
    pub closed: AtomicU64,
    pub cycles: AtomicU64,
    pub lent: AtomicU64,
    pub lent_on: AtomicU64,
    pub moved: AtomicU64,
    pub mapped: AtomicU64,
    pub conflicts: AtomicU64,
    pub abandoned: AtomicU64,
    pub restarted: AtomicU64,
    pub poisoned: AtomicU64,
}

fn note(of: &AtomicU64) {
    of.fetch_add(1, SeqCst);
}

#[derive(Debug, Default)]
struct Lends(Vec<(Arc<Shared>, LendId)>);

impl LentRegions for Lends {
    fn are_all_back(&self) -> bool {
        let mut lends = self.0.iter();
        lends.all(|(shared, lend)| shared.ledger().is_over(*lend))
    }
}

type Waiting = waits::WaitEdge<Lends>;
type Life = waits::WaitNode<Lends>;

/// The waits that really happen, and their times.
#[derive(Default)]
struct Log(Notes<(u64, Vec<Waited>)>);

struct Waited {
    edge: (usize, usize),
    /// Of one that died, never.
    ended: Option<u64>,
}

impl Log {
    fn with<R>(&self, act: impl FnOnce(u64, &mut Vec<Waited>) -> R) -> R {
        let mut log = self.0.lock().expect("nobody panics with it");
        log.0 += 1;
        let (now, waits) = &mut *log;
        act(*now, waits)
    }

    fn begin(&self, from: usize, to: usize) -> (usize, u64) {
        self.with(|now, waits| {
            waits.push(Waited {
                edge: (from, to),
                ended: None,
            });
            (waits.len() - 1, now)
        })
    }

    fn end(&self, (at, _): (usize, u64)) {
        self.with(|now, waits| waits[at].ended = Some(now));
    }

    /// Everybody on the cycle waited for the next one, after the call was begun.
    fn check(&self, cycle: &[usize], (_, since): (usize, u64)) {
        assert_eq!(cycle.first(), cycle.last());
        self.with(|_, waits| {
            for edge in cycle.windows(2).map(|edge| (edge[0], edge[1])) {
                let waited = waits
                    .iter()
                    .any(|it| it.edge == edge && it.ended.is_none_or(|ended| ended > since));
                assert!(waited, "{edge:?} is no edge of {cycle:?}");
            }
        });
    }
}

struct Mailbox {
    life: Arc<Life>,
    inbox: mpsc::UnboundedSender<Message>,
    recipient: Recipient,
}

type Inbox = mpsc::UnboundedReceiver<Message>;

enum Message {
    Call(Call),
    Stop,
}

/// In the order in which the host drops it.
struct Call {
    waiting: Waiting,
    params: Parcel,
    depth: u32,
    caller: Recipient,
    reply: oneshot::Sender<Reply>,
}

enum Reply {
    Done(Parcel),
    Failed,
}

struct Parcel(Vec<Carried>);

enum Carried {
    Moved(Region),
    Lent(Region, LendGuard),
}

struct LendGuard {
    shared: Arc<Shared>,
    claim: ClaimId,
    lend: LendId,
}

impl Drop for LendGuard {
    fn drop(&mut self) {
        self.shared.ledger.revoke(self.lend, |_| ());
        self.shared.settle();
    }
}

struct Lent {
    shared: Arc<Shared>,
    claim: ClaimId,
    via: Option<LendId>,
    lend: LendId,
}

/// A guest's store.
#[derive(Default)]
struct Store {
    memory: Memory,
    table: BTreeMap<u32, Region>,
    next: u32,
}

impl Drop for Store {
    fn drop(&mut self) {
        if thread_rng().gen_range(0..2) == 0 {
            self.table.clear();
        }
        self.memory = Memory::default();
    }
}

enum Given {
    Moved(Region),
    Lent(Region, LendGuard, Option<LendId>),
}

impl Store {
    fn push(&mut self, region: Region) -> u32 {
        self.next += 1;
        self.table.insert(self.next, region);
        self.next
    }

    fn some(&self) -> Option<u32> {
        let at = thread_rng().gen_range(0..self.table.len().max(1));
        self.table.keys().nth(at).copied()
    }

    /// Some regions, as they go to somebody else: some lent, some moved.
    fn pack(
        &mut self,
        most: usize,
        lends: bool,
        to: &Recipient,
        seen: &Seen,
    ) -> Result<(Parcel, Vec<Lent>), RegionError> {
        let mut given = Vec::new();
        let mut refused = None;
        for _ in 0..thread_rng().gen_range(0..=most) {
            let Some(key) = self.some() else { break };
            let is_lent = self.table[&key].is_lent();
            let moves = !lends || thread_rng().gen_range(0..4) == 0;
            if moves && is_lent {
                continue;
            }
            if moves {
                given.push(Given::Moved(self.table.remove(&key).expect("it is there")));
                continue;
            }
            let lender = &self.table[&key];
            match lender.lend(to.owner()) {
                Ok(region) => {
                    let guard = LendGuard {
                        shared: region.shared().clone(),
                        claim: region.handle().claim(),
                        lend: region.handle().lend().expect("it was just lent"),
                    };
                    note(if is_lent { &seen.lent_on } else { &seen.lent });
                    given.push(Given::Lent(region, guard, lender.handle().lend()));
                }
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        if let Some(error) = refused {
            return Err(error);
        }
        self.send(given, to, seen)
    }

    fn send(
        &mut self,
        given: Vec<Given>,
        to: &Recipient,
        seen: &Seen,
    ) -> Result<(Parcel, Vec<Lent>), RegionError> {
        for one in &given {
            if let Given::Moved(region) = one {
                region.shared().ledger().may_move(region.handle())?;
            }
        }
        let mut charges: Vec<(Charge, Vec<Charge>)> = Vec::new();
        for one in &given {
            if let Given::Moved(region) = one {
                let handle = to.owner().account.charge(ChargeKind::Handles, 1)?;
                charges.push((handle, region.charge_claim(to.owner())?));
            }
        }
        let mut charges = charges.into_iter();
        let (mut parcel, mut lending) = (Parcel(Vec::new()), Vec::new());
        for one in given {
            match one {
                Given::Moved(region) => {
                    let (handle, claim) = charges.next().expect("one each");
                    let id = region.handle().claim();
                    self.memory
                        .unmap_all(region.shared(), id, None, WindowEnd::Orderly);
                    note(&seen.moved);
                    let moved = region.transferred(to.owner(), handle, claim);
                    parcel.0.push(Carried::Moved(moved));
                }
                Given::Lent(region, guard, via) => {
                    lending.push(Lent {
                        shared: guard.shared.clone(),
                        claim: guard.claim,
                        via,
                        lend: guard.lend,
                    });
                    parcel.0.push(Carried::Lent(region, guard));
                }
            }
        }
        Ok((parcel, lending))
    }

    fn unpack(&mut self, parcel: Parcel) -> Borrowed {
        let mut borrowed = Borrowed(Vec::new());
        for one in parcel.0 {
            match one {
                Carried::Moved(region) => drop(self.push(region)),
                Carried::Lent(region, guard) => borrowed.0.push((self.push(region), guard)),
            }
        }
        borrowed
    }
}

/// The borrower's side. Dropping it leaves windows to the drop of the memory.
struct Borrowed(Vec<(u32, LendGuard)>);

impl Borrowed {
    fn end(self, store: &mut Store) {
        for (key, guard) in self.0 {
            guard.shared.ledger.revoke(guard.lend, |_| ());
            let LendGuard {
                shared,
                claim,
                lend,
            } = &guard;
            store
                .memory
                .unmap_all(shared, *claim, Some(*lend), WindowEnd::Orderly);
            drop(store.table.remove(&key));
        }
    }
}

struct LenderGuard<'a> {
    store: &'a mut Store,
    lending: Option<Vec<Lent>>,
    seen: &'a Seen,
}

impl Drop for LenderGuard<'_> {
    fn drop(&mut self) {
        for lent in self.lending.take().into_iter().flatten() {
            note(&self.seen.abandoned);
            let Lent {
                shared, claim, via, ..
            } = &lent;
            self.store
                .memory
                .unmap_all(shared, *claim, *via, WindowEnd::Died);
        }
    }
}

struct App {
    plan: Plan,
    host: Arc<MockHost>,
    mailboxes: Vec<Mutex<Arc<Mailbox>>>,
    ending: AtomicBool,
    /// The stop signal of each guest.
    stop_signals: Vec<Notes<Arc<StopSignal>>>,
    /// All that there have been.
    lives: Notes<Vec<Arc<Life>>>,
    log: Log,
    seen: Arc<Seen>,
}

struct Guest {
    app: Arc<App>,
    life: Arc<Life>,
    stop_signal: Arc<StopSignal>,
    to: Recipient,
    restarts: u32,
    store: Store,
}

/// A call that broke its callee: what is done when its store is gone.
struct Broken {
    borrowed: Option<Borrowed>,
    reply: Option<oneshot::Sender<Reply>>,
}

impl App {
    fn mailbox(&self, index: usize) -> Arc<Mailbox> {
        self.mailboxes[index].lock().expect("nobody panics").clone()
    }

    fn new_mailbox(&self, guest: usize, recipient: &Recipient) -> (Arc<Mailbox>, Inbox) {
        let (mailbox, inbox) = mailbox(guest, recipient);
        let mut lives = self.lives.lock().expect("nobody panics");
        lives.push(mailbox.life.clone());
        (mailbox, inbox)
    }

    fn again(
        self: &Arc<App>,
        index: usize,
        to: Recipient,
        restarts: u32,
    ) -> Option<(Guest, Inbox)> {
        if restarts == 0 || self.ending.load(SeqCst) {
            return None;
        }
        let (mailbox, inbox) = self.new_mailbox(index, &to);
        let guest = Guest {
            app: self.clone(),
            life: mailbox.life.clone(),
            stop_signal: StopSignal::new(),
            to,
            restarts: restarts - 1,
            store: Store::default(),
        };
        *self.stop_signals[index].lock().expect("nobody panics") = guest.stop_signal.clone();
        *self.mailboxes[index].lock().expect("nobody panics") = mailbox;
        note(&self.seen.restarted);
        Some((guest, inbox))
    }
}

fn mailbox(guest: usize, recipient: &Recipient) -> (Arc<Mailbox>, Inbox) {
    let (sender, inbox) = mpsc::unbounded_channel();
    let mailbox = Mailbox {
        life: Life::new(GuestId::new(guest)),
        inbox: sender,
        recipient: recipient.clone(),
    };
    (Arc::new(mailbox), inbox)
}

impl Guest {
    async fn acts(&mut self, depth: u32) -> Result<(), Failed> {
        let seen = self.app.seen.clone();
        for _ in 0..self.app.plan.acts {
            step();
            self.stop_signal.check()?;
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
                    if to != self.life.guest().index() {
                        self.call(to, depth - 1).await;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn call(&mut self, to: usize, depth: u32) {
        let (app, from) = (self.app.clone(), self.life.guest().index());
        let seen = &*app.seen;
        let mailbox = app.mailbox(to);
        let noted = app.log.begin(from, to);
        let waiting = match app.mailbox(from).life.wait(&mailbox.life) {
            Ok(waiting) => waiting,
            Err(cycle) => {
                let cycle: Vec<usize> = cycle.into_iter().map(GuestId::index).collect();
                app.log.check(&cycle, noted);
                app.log.end(noted);
                return note(&seen.cycles);
            }
        };
        if mailbox.inbox.is_closed() {
            drop(waiting);
            app.log.end(noted);
            return note(&seen.closed);
        }
        let packed = self.store.pack(2, true, &mailbox.recipient, seen);
        let Ok((params, lending)) = packed else {
            drop(waiting);
            return app.log.end(noted);
        };
        let lends = lending.iter().map(|it| (it.shared.clone(), it.lend));
        waiting.for_lends(Lends(lends.collect()));
        let lender = &mut LenderGuard {
            store: &mut self.store,
            lending: Some(lending),
            seen,
        };
        let (reply, replied) = oneshot::channel();
        let call = Call {
            waiting,
            params,
            depth,
            caller: self.to.clone(),
            reply,
        };
        step();
        let reply = match mailbox.inbox.send(Message::Call(call)) {
            Ok(()) => replied.await.ok(),
            Err(_) => None,
        };
        for lent in lender.lending.iter().flatten() {
            lent.shared.ledger.over(lent.lend).await;
        }
        app.log.end(noted);
        for lent in lender.lending.take().into_iter().flatten() {
            lent.shared.check_over(lent.lend);
        }
        match reply {
            Some(Reply::Done(parcel)) => {
                let borrowed = lender.store.unpack(parcel);
                assert!(borrowed.0.is_empty(), "results are moved");
                note(&seen.done);
            }
            Some(Reply::Failed) => note(&seen.failed),
            None => note(&seen.closed),
        }
    }

    async fn serve(&mut self, inbox: &mut Inbox) -> Result<(), Broken> {
        let stop_signal = self.stop_signal.clone();
        loop {
            step();
            match stop_signal.unless(How::Fails, inbox.recv()).await {
                None => {
                    return Err(Broken {
                        borrowed: None,
                        reply: None,
                    });
                }
                Some(Some(Message::Call(call))) => self.answer(call).await?,
                Some(Some(Message::Stop) | None) => return Ok(()),
            }
        }
    }

    async fn answer(&mut self, call: Call) -> Result<(), Broken> {
        // The last one goes first.
        let Call {
            reply,
            params,
            depth,
            caller,
            waiting,
        } = call;
        let (borrowed, called) = self.values(params, depth, &caller).await;
        drop(waiting);
        match called {
            Ok(answer) => drop(reply.send(answer)),
            Err(Failed) => {
                return Err(Broken {
                    borrowed,
                    reply: Some(reply),
                });
            }
        }
        Ok(())
    }

    async fn values(
        &mut self,
        params: Parcel,
        depth: u32,
        caller: &Recipient,
    ) -> (Option<Borrowed>, Result<Reply, Failed>) {
        let borrowed = self.store.unpack(params);
        let stop_signal = self.stop_signal.clone();
        let acted = stop_signal.unless(How::Fails, self.acts(depth)).await;
        if !matches!(acted, Some(Ok(()))) {
            return (Some(borrowed), Err(Failed));
        }
        let seen = self.app.seen.clone();
        let packed = self.store.pack(1, false, caller, &seen);
        borrowed.end(&mut self.store);
        let answer = packed.map_or(Reply::Failed, |(parcel, _)| Reply::Done(parcel));
        (None, Ok(answer))
    }

    /// Lives, and gives its next life.
    async fn live(mut self, mut inbox: Inbox) -> Option<(Guest, Inbox)> {
        match self.serve(&mut inbox).await {
            Ok(()) => {
                self.store.memory.finish();
                None
            }
            Err(Broken { borrowed, reply }) => {
                let Guest {
                    app,
                    life,
                    to,
                    restarts,
                    store,
                    ..
                } = self;
                // First the memory goes, then the lends end, then the next mailbox comes.
                // Only then does any other guest learn of it.
                drop(store);
                drop(borrowed);
                let next = app.again(life.guest().index(), to, restarts);
                step();
                if let Some(reply) = reply {
                    let _ = reply.send(Reply::Failed);
                }
                step();
                next
            }
        }
    }

    async fn run(mut self) {
        let (stop_signal, depth) = (self.stop_signal.clone(), self.app.plan.depth);
        if let Some(Ok(())) = stop_signal.unless(How::Fails, self.acts(depth)).await {
            self.store.memory.finish();
        }
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
    let recipients = (0..count).map(|guest| host.owner(&guest.to_string(), Default::default()));
    let recipients: Vec<Recipient> = recipients.collect();
    let mailboxes = recipients.iter().enumerate();
    let mailboxes = mailboxes.map(|(guest, to)| mailbox(guest, to));
    let (mailboxes, inboxes): (Vec<_>, Vec<_>) = mailboxes.unzip();
    let lives = mailboxes
        .iter()
        .map(|mailbox: &Arc<Mailbox>| mailbox.life.clone());
    let app = Arc::new(App {
        lives: Notes::new(lives.collect()),
        plan,
        host: host.clone(),
        mailboxes: mailboxes.into_iter().map(Mutex::new).collect(),
        ending: AtomicBool::new(false),
        stop_signals: (0..count).map(|_| Notes::new(StopSignal::new())).collect(),
        log: Log::default(),
        seen: seen.clone(),
    });
    // One region that all have a claim on, and one of each.
    let common = host.create(&recipients[0]);
    let (mut commands, mut servers) = (Vec::new(), Vec::new());
    for (index, (inbox, to)) in inboxes.into_iter().zip(recipients).enumerate() {
        let mut store = Store::default();
        store.push(common.duplicate_for(&to).expect("there is room"));
        store.push(host.create(&to));
        let guest = Guest {
            app: app.clone(),
            life: app.mailbox(index).life.clone(),
            stop_signal: app.stop_signals[index]
                .lock()
                .expect("nobody panics")
                .clone(),
            to,
            restarts: plan.restarts,
            store,
        };
        if index < plan.commands {
            drop(inbox);
            commands.push(thread::spawn(move || {
                let stop_signal = guest.stop_signal.clone();
                block_on(stop_signal.unless(How::Dropped, guest.run()));
            }));
        } else {
            servers.push(thread::spawn(move || {
                let mut next = Some((guest, inbox));
                while let Some((guest, inbox)) = next {
                    // As after the wait before it is started again.
                    if guest.app.ending.load(SeqCst) {
                        return;
                    }
                    let stop_signal = guest.stop_signal.clone();
                    next = block_on(stop_signal.unless(How::Dropped, guest.live(inbox))).flatten();
                }
            }));
        }
    }
    drop(common);
    let killer = thread::spawn({
        let app = app.clone();
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
        }
    });
    for command in commands {
        command.join().expect("its assertions held");
    }
    app.ending.store(true, SeqCst);
    for guest in 0..count {
        let _ = app.mailbox(guest).inbox.send(Message::Stop);
    }
    for thread in servers.into_iter().chain([killer]) {
        thread.join().expect("its assertions held");
    }
    let lives = app.lives.lock().expect("nobody panics");
    for (from, to) in lives
        .iter()
        .flat_map(|from| lives.iter().map(move |to| (from, to)))
    {
        if !Arc::ptr_eq(from, to) {
            assert!(from.wait(to).is_ok(), "nobody waits any more");
        }
    }
    app.host.check_empty();
    seen.poisoned.fetch_add(host.counts().1 as u64, SeqCst);
}
