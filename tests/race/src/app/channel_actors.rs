//! Messages between guests that are each a thread, through the host's own channels, with deaths
//! and restarts of either side.

use std::sync::Arc;
use std::sync::Mutex as Notes;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;
use tombolo_exchange::{
    Channel, ChannelError, ChannelSettings, ChannelTypes, GuestId, Member, Unsent,
};
use tombolo_region::{Account, Charge, WindowEnd};

use super::stop::{Failed, How, StopSignal};
use crate::mock_region::{
    Limits, Memory, MockHost, Recipient, Region, RegionError, some_access, some_span,
};

type Channels = tombolo_exchange::Channels<TestRegions>;
type Message = tombolo_exchange::Message<Region>;
type SenderEnd = tombolo_exchange::SenderEnd<TestRegions>;
type ReceiverEnd = tombolo_exchange::ReceiverEnd<TestRegions>;

/// The regions in messages of this test.
enum TestRegions {}

impl ChannelTypes for TestRegions {
    type Region = Region;
    type Recipient = Recipient;
    type Error = RegionError;

    fn size(region: &Region) -> u64 {
        region.size()
    }

    fn unpinned_spans(region: &Region) -> u64 {
        region.unpinned_spans()
    }

    fn set_queued(region: &Region, queued: bool) {
        region.set_queued(queued);
    }

    fn account(region: &Region) -> &Arc<Account> {
        &region.owner().account
    }

    fn account_of(to: &Recipient) -> &Arc<Account> {
        &to.owner().account
    }

    fn charge_claim(region: &Region, to: &Recipient) -> Result<Vec<Charge>, RegionError> {
        region.charge_claim(to.owner())
    }

    fn transferred(region: Region, to: &Recipient, handle: Charge, claim: Vec<Charge>) -> Region {
        region.transferred(to.owner(), handle, claim)
    }

    fn log_received(_: &Region, _: &str, _: &Recipient) {}
}

/// The shape of the channel that is tried.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many guests send to one.
    pub senders: usize,
    /// How many letters each of them sends.
    pub letters: u64,
    /// How many letters may wait.
    pub capacity: u32,
    /// How many guests are told to end.
    pub deaths: u32,
    /// How often each is started again.
    pub restarts: u32,
}

/// The outcomes over all schedules.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "they are what their names say")]
pub struct Seen {
    pub sent: AtomicU64,
    pub received: AtomicU64,
    pub skipped: AtomicU64,
    pub dropped: AtomicU64,
    pub regions: AtomicU64,
    pub full: AtomicU64,
    pub empty: AtomicU64,
    pub no_room: AtomicU64,
    pub kept: AtomicU64,
    pub closed: AtomicU64,
    pub restarted: AtomicU64,
}

fn note(of: &AtomicU64) {
    of.fetch_add(1, SeqCst);
}

struct Post {
    plan: Plan,
    host: Arc<MockHost>,
    channels: Channels,
    stop_signals: Vec<Notes<Arc<StopSignal>>>,
    /// Guests that send or receive no more, as they have said or their end did.
    done: Vec<AtomicBool>,
    /// The next number of each sender, in all its lives.
    next: Vec<AtomicU64>,
    /// The numbers that were received from each last.
    last: Notes<Vec<Option<u64>>>,
    sent: AtomicU64,
    received: AtomicU64,
    skipped: AtomicU64,
    /// The receiver ended before it had all.
    early: AtomicBool,
    seen: Arc<Seen>,
}

impl Post {
    fn stop_signal(&self, guest: usize) -> Arc<StopSignal> {
        self.stop_signals[guest]
            .lock()
            .expect("nobody panics")
            .clone()
    }

    fn receiver(&self) -> usize {
        self.plan.senders
    }

    /// All lives of a guest.
    fn live(&self, guest: usize, to: &Recipient) {
        for life in 0..=self.plan.restarts {
            let stop_signal = self.stop_signal(guest);
            let lived = match guest == self.receiver() {
                true => block_on(self.receive(&stop_signal, to)),
                false => block_on(self.send(guest, &stop_signal, to)),
            };
            match lived {
                Ok(()) => break,
                Err(Failed) if life < self.plan.restarts => {
                    *self.stop_signals[guest].lock().expect("nobody panics") = StopSignal::new();
                    self.channels.on_restart(GuestId::new(guest));
                    note(&self.seen.restarted);
                }
                Err(Failed) => {
                    if guest == self.receiver() {
                        self.early.store(true, SeqCst);
                    }
                }
            }
        }
        self.done[guest].store(true, SeqCst);
        self.channels.on_exit(GuestId::new(guest));
    }

    /// Of a guest that is not started again, what it drops last is dropped.
    fn may_be_done(&self, guest: usize) {
        self.done[guest].fetch_or(self.plan.restarts == 0, SeqCst);
    }

    async fn send(
        &self,
        guest: usize,
        stop_signal: &StopSignal,
        to: &Recipient,
    ) -> Result<(), Failed> {
        let end = self
            .channels
            .sender(GuestId::new(guest), "c")
            .expect("it is permitted");
        let mut end = Some(end);
        let sent = self.send_all(guest, stop_signal, to, end.as_ref().expect("there"));
        let sent = sent.await;
        let end = end.take().expect("there");
        match &sent {
            // Languages drop what there is on the way out of a failure.
            Err(Failed) if thread_rng().gen_range(0..2) == 0 => {
                self.may_be_done(guest);
                end.close();
            }
            Err(Failed) => drop(end),
            Ok(()) => {
                self.done[guest].store(true, SeqCst);
                match thread_rng().gen_range(0..2) {
                    0 => end.finish(),
                    _ => end.close(),
                }
            }
        }
        sent
    }

    async fn send_all(
        &self,
        guest: usize,
        stop_signal: &StopSignal,
        to: &Recipient,
        end: &SenderEnd,
    ) -> Result<(), Failed> {
        let mut memory = Memory::default();
        while self.next[guest].load(SeqCst) < self.plan.letters {
            let number = self.next[guest].load(SeqCst);
            let mut letter = Message {
                from: guest.to_string().into(),
                bytes: number.to_le_bytes().into(),
                regions: Vec::new(),
            };
            if thread_rng().gen_range(0..2) == 0 {
                let region = self.host.create(to);
                let _ = memory.map(&region, some_span(), some_access());
                letter.regions.push(region);
            }
            loop {
                stop_signal.check()?;
                let regions = letter.regions.len() as u64;
                let sent = end.try_send(letter, |letter| {
                    if thread_rng().gen_range(0..8) == 0 {
                        return Err(());
                    }
                    for region in &letter.regions {
                        let claim = region.handle().claim();
                        let ledger = region.shared().ledger();
                        ledger.may_move(region.handle()).expect("it is all its own");
                        drop(ledger);
                        memory.unmap_all(region.shared(), claim, None, WindowEnd::Orderly);
                    }
                    // Nobody else sees the letter before this is done.
                    self.next[guest].store(number + 1, SeqCst);
                    note(&self.sent);
                    Ok(())
                });
                letter = match sent {
                    Ok(()) => {
                        self.seen.regions.fetch_add(regions, SeqCst);
                        self.check_capacity();
                        break;
                    }
                    Err(Unsent::Refused(ChannelError::WouldBlock, letter)) => {
                        note(&self.seen.full);
                        let room = end.writable();
                        let ready = stop_signal.unless(How::Fails, room.ready());
                        ready.await.ok_or(Failed)?;
                        letter
                    }
                    Err(Unsent::Refused(ChannelError::Closed, _)) => {
                        note(&self.seen.closed);
                        let done = self.done[self.receiver()].load(SeqCst);
                        assert!(done, "the receiver may still come");
                        return Ok(());
                    }
                    Err(Unsent::Refused(why, _)) => panic!("{why:?}"),
                    Err(Unsent::Failed((), letter)) => letter,
                };
            }
        }
        memory.finish();
        Ok(())
    }

    async fn receive(&self, stop_signal: &StopSignal, to: &Recipient) -> Result<(), Failed> {
        let end = self.channels.receiver(GuestId::new(self.receiver()), "c");
        let end = end.expect("nobody else has it");
        let received = self.receive_all(stop_signal, to, &end).await;
        match &received {
            Err(Failed) if thread_rng().gen_range(0..2) == 0 => {
                self.may_be_done(self.receiver());
                self.early.fetch_or(self.plan.restarts == 0, SeqCst);
                end.close();
            }
            Err(Failed) => drop(end),
            Ok(()) => {
                self.done[self.receiver()].store(true, SeqCst);
                match thread_rng().gen_range(0..2) {
                    0 => end.finish(),
                    _ => end.close(),
                }
            }
        }
        received
    }

    async fn receive_all(
        &self,
        stop_signal: &StopSignal,
        to: &Recipient,
        end: &ReceiverEnd,
    ) -> Result<(), Failed> {
        let mut memory = Memory::default();
        let mut held = Vec::new();
        loop {
            stop_signal.check()?;
            let refused = match thread_rng().gen_range(0..10) {
                0 => match end.skip() {
                    Ok(()) => {
                        note(&self.skipped);
                        continue;
                    }
                    Err(refused) => refused,
                },
                1 if thread_rng().gen_range(0..8) == 0 => {
                    // It has had enough.
                    self.early.store(true, SeqCst);
                    return Ok(());
                }
                _ => match end.try_receive(to) {
                    Ok(letter) => {
                        self.check(&letter);
                        for region in letter.regions {
                            let _ = memory.map(&region, some_span(), some_access());
                            held.push(region);
                        }
                        if memory.windows() > 0 {
                            memory.touch(0);
                        }
                        continue;
                    }
                    Err(refused) => refused,
                },
            };
            match refused {
                ChannelError::WouldBlock => {
                    note(&self.seen.empty);
                    let mail = end.readable();
                    let ready = stop_signal.unless(How::Fails, mail.ready());
                    ready.await.ok_or(Failed)?;
                }
                ChannelError::Closed => {
                    let mut senders = self.done[..self.receiver()].iter();
                    assert!(senders.all(|done| done.load(SeqCst)), "more may come");
                    memory.finish();
                    return Ok(());
                }
                ChannelError::Exhausted(_) => {
                    note(&self.seen.no_room);
                    memory.finish();
                    held.clear();
                }
                why => panic!("{why:?}"),
            }
        }
    }

    /// Checks that no more messages wait than may.
    fn check_capacity(&self) {
        let (_, counts) = self.channels.counts().next().expect("there is one");
        let waiting = counts.sent - counts.received - counts.dropped;
        assert!(waiting <= self.plan.capacity.into(), "{waiting} wait");
    }

    /// Checks that messages of one sender keep their order.
    fn check(&self, letter: &Message) {
        note(&self.received);
        let from: usize = letter.from.parse().expect("a number");
        let bytes = letter.bytes[..].try_into().expect("eight of them");
        let number = u64::from_le_bytes(bytes);
        let mut last = self.last.lock().expect("nobody panics with it");
        assert!(Some(number) > last[from], "{number} after {:?}", last[from]);
        last[from] = Some(number);
    }
}

/// Runs one schedule.
///
/// # Panics
///
/// If anything is not as it should be.
pub fn run(plan: Plan, seen: &Arc<Seen>) {
    let host = MockHost::new();
    let count = plan.senders + 1;
    // The receiver has no room for more than two.
    let small = Limits {
        regions: 2,
        ..Limits::default()
    };
    let limits = (0..count).map(|guest| match guest == plan.senders {
        true => small,
        false => Limits::default(),
    });
    let member = |(guest, limits): (usize, Limits)| Member {
        guest: GuestId::new(guest),
        restarts: plan.restarts > 0,
        quota: limits.quota(),
    };
    let mut members: Vec<Member> = limits.clone().enumerate().map(member).collect();
    let receiver = members.pop().expect("there is one");
    let settings = ChannelSettings {
        name: "c".into(),
        to: "receiver".into(),
        capacity: plan.capacity,
        message_bytes: 8,
        message_regions: 1,
    };
    let post = Arc::new(Post {
        plan,
        host: host.clone(),
        channels: Channels::new([Channel::new(settings, members, receiver)]),
        stop_signals: (0..count).map(|_| Notes::new(StopSignal::new())).collect(),
        done: (0..count).map(|_| AtomicBool::new(false)).collect(),
        next: (0..count).map(|_| AtomicU64::new(0)).collect(),
        last: Notes::new(vec![None; plan.senders]),
        sent: AtomicU64::new(0),
        received: AtomicU64::new(0),
        skipped: AtomicU64::new(0),
        early: AtomicBool::new(false),
        seen: seen.clone(),
    });
    let guests = limits.enumerate().map(|(guest, limits)| {
        let (post, to) = (post.clone(), host.owner(&guest.to_string(), limits));
        thread::spawn(move || post.live(guest, &to))
    });
    let guests: Vec<_> = guests.collect();
    for _ in 0..plan.deaths {
        for _ in 0..thread_rng().gen_range(0..20) {
            thread::yield_now();
        }
        let guest = thread_rng().gen_range(0..count);
        post.stop_signal(guest).end(How::Fails);
    }
    for guest in guests {
        guest.join().expect("its assertions held");
    }
    let (name, report) = post.channels.counts().next().expect("there is one");
    let [sent, received, skipped] =
        [&post.sent, &post.received, &post.skipped].map(|it| it.load(SeqCst));
    assert_eq!((report.sent, report.received), (sent, received));
    assert_eq!(sent, received + report.dropped, "nothing is lost");
    let early = post.early.load(SeqCst);
    assert!(early || report.dropped == skipped, "nothing is dropped");
    assert!(report.bytes == 8 * sent && report.regions <= sent && name == "c");
    if received > 0 && !early {
        note(&seen.kept);
    }
    seen.sent.fetch_add(sent, SeqCst);
    seen.received.fetch_add(received, SeqCst);
    seen.skipped.fetch_add(skipped, SeqCst);
    seen.dropped.fetch_add(report.dropped - skipped, SeqCst);
    drop(post);
    host.check_empty();
}
