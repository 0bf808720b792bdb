//! Channels: bounded queues of messages from some guests to one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError};

use super::guest_id::GuestId;
use super::report::ChannelReport;
use super::spec::ChannelSpec;
use crate::sync::{Mutex, MutexGuard, Notify};
use tombolo::{Limits, Recipient, Region, RegionError};
use tombolo_region::ChargeKind;

/// A message on its way. Its regions are nobody's but the channel's, and on the
/// sender's account.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) from: Arc<str>,
    pub(super) bytes: Vec<u8>,
    pub(super) regions: Vec<Region>,
}

/// Why nothing was sent or received.
#[derive(Debug)]
pub(super) enum ChannelError {
    NotPermitted,
    WouldBlock,
    TooLarge(String),
    Closed,
    Refused(String),
    Exhausted(String),
}

/// One side of a channel, as far as one guest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// Not open now, but may be.
    Coming,
    /// Open, by so many ends.
    Open(u32),
    /// The guest, which is started again if it fails, has dropped its last end. That
    /// may have been on its way to failing: what it means shows when it ends.
    Leaving,
    /// The guest has dropped its last end. It may open another.
    Dropped,
    /// The guest has ended for good.
    Exited,
}

impl Side {
    fn open(&mut self) {
        *self = match *self {
            Side::Open(ends) => Side::Open(ends + 1),
            _ => Side::Open(1),
        };
    }

    /// An end is gone. `restarts` says whether its guest is started again if it
    /// fails.
    fn close(&mut self, how: Close, restarts: bool) {
        *self = match *self {
            Side::Open(0 | 1) => match how {
                Close::Dropped if restarts => Side::Leaving,
                Close::Dropped | Close::Finished => Side::Dropped,
                Close::Died => Side::Coming,
            },
            Side::Open(ends) => Side::Open(ends - 1),
            other => other,
        };
    }

    fn is_closed(self) -> bool {
        matches!(self, Side::Dropped | Side::Exited)
    }
}

/// How an end of a channel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Close {
    /// The guest dropped it.
    Dropped,
    /// The guest said that it is done with the channel.
    Finished,
    /// It went with its guest.
    Died,
}

/// A guest, as an end of a channel.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Its number.
    pub(super) guest: GuestId,
    /// Whether it is started again if it fails.
    pub(super) restarts: bool,
    pub(super) limits: Limits,
}

/// A channel of an app.
pub(super) struct Channel {
    spec: ChannelSpec,
    /// The guests that may send, and the one that receives.
    senders: Vec<Member>,
    receiver: Member,
    inner: Mutex<ChannelState>,
    /// Told of every change.
    changed: Notify,
}

struct ChannelState {
    queue: VecDeque<Message>,
    senders: Vec<Side>,
    receiver: Side,
    counts: ChannelReport,
}

impl Channel {
    pub(super) fn new(spec: ChannelSpec, senders: Vec<Member>, receiver: Member) -> Channel {
        Channel {
            inner: Mutex::new(ChannelState {
                queue: VecDeque::new(),
                senders: vec![Side::Coming; senders.len()],
                receiver: Side::Coming,
                counts: ChannelReport {
                    name: spec.name.clone(),
                    ..ChannelReport::default()
                },
            }),
            spec,
            senders,
            receiver,
            changed: Notify::new(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, ChannelState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something that somebody may wait for. What the change leaves is
    /// dropped without the lock: regions have locks of their own.
    fn change<R>(&self, change: impl FnOnce(&mut ChannelState) -> R) -> R {
        let result = change(&mut self.inner());
        self.changed.notify_waiters();
        result
    }

    /// Opens an end for a guest.
    fn open(&self, guest: GuestId, side: SideId) -> Result<(), ChannelError> {
        self.change(|inner| {
            let side = match side {
                SideId::Sender(at) => &mut inner.senders[at],
                SideId::Receiver if matches!(inner.receiver, Side::Open(_)) => {
                    return Err(ChannelError::WouldBlock);
                }
                SideId::Receiver => &mut inner.receiver,
            };
            debug_assert_ne!(*side, Side::Exited, "guest {guest:?} runs");
            side.open();
            Ok(())
        })
    }

    fn close(&self, side: SideId, how: Close) {
        let left = self.change(|inner| match side {
            SideId::Sender(at) => {
                inner.senders[at].close(how, self.senders[at].restarts);
                VecDeque::new()
            }
            SideId::Receiver => {
                inner.receiver.close(how, self.receiver.restarts);
                inner.orphans()
            }
        });
        drop(left);
    }

    /// The sides that a guest has.
    fn sides<'a>(
        &'a self,
        inner: &'a mut ChannelState,
        guest: GuestId,
    ) -> impl Iterator<Item = &'a mut Side> {
        let senders = self.senders.iter().zip(&mut inner.senders);
        let receiver = [(&self.receiver, &mut inner.receiver)];
        senders
            .chain(receiver)
            .filter(move |(member, _)| member.guest == guest)
            .map(|(_, side)| side)
    }

    /// A guest failed and is started again: it was not leaving.
    fn on_restart(&self, guest: GuestId) {
        self.change(|inner| {
            for side in self.sides(inner, guest) {
                if *side == Side::Leaving {
                    *side = Side::Coming;
                }
            }
        });
    }

    /// A guest has ended, and is not started again.
    fn on_exit(&self, guest: GuestId) {
        let left = self.change(|inner| {
            self.sides(inner, guest)
                .for_each(|side| *side = Side::Exited);
            inner.orphans()
        });
        drop(left);
    }

    /// Waits until `ready` says so.
    async fn wait(&self, ready: impl Fn(&ChannelState) -> bool) {
        loop {
            // Before looking: what changes meanwhile is heard of.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if ready(&self.inner()) {
                return;
            }
            changed.await;
        }
    }
}

impl ChannelState {
    /// What waits for a receiver that will not come for it.
    fn orphans(&mut self) -> VecDeque<Message> {
        if !self.receiver.is_closed() {
            return VecDeque::new();
        }
        self.counts.dropped += self.queue.len() as u64;
        std::mem::take(&mut self.queue)
    }

    /// Why there is nothing to receive.
    fn nothing(&self) -> ChannelError {
        match self.is_over() {
            true => ChannelError::Closed,
            false => ChannelError::WouldBlock,
        }
    }

    fn is_over(&self) -> bool {
        self.senders.iter().all(|side| side.is_closed())
    }
}

#[derive(Clone, Copy, Debug)]
enum SideId {
    /// The sender at this place of the list.
    Sender(usize),
    Receiver,
}

/// An end of a channel that a guest has open. It is closed when it is dropped, with
/// its guest.
pub(super) struct Endpoint {
    channel: Arc<Channel>,
    side: SideId,
    how: Close,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.channel.close(self.side, self.how);
    }
}

/// The end of a channel for sending.
pub(super) struct SenderEnd(Endpoint);

/// The end of a channel for receiving.
pub(super) struct ReceiverEnd(Endpoint);

impl SenderEnd {
    /// The guest drops it.
    pub(super) fn close(mut self) {
        self.0.how = Close::Dropped;
    }

    /// The guest sends no more.
    pub(super) fn finish(mut self) {
        self.0.how = Close::Finished;
    }

    /// Why the channel would never carry these regions to its receiver, whatever
    /// that lets go of.
    fn never(&self, regions: &[Region]) -> Option<ChannelError> {
        let Channel { spec, receiver, .. } = &*self.0.channel;
        if regions.len() > spec.message_regions as usize {
            return Some(ChannelError::TooLarge(format!(
                "{} regions; channel `{}` takes {} at most in a message",
                regions.len(),
                spec.name,
                spec.message_regions
            )));
        }
        let SideId::Sender(at) = self.0.side else {
            unreachable!("it is a sender's");
        };
        if self.0.channel.senders[at].guest == receiver.guest {
            // They are on its account as it is.
            return None;
        }
        let limits = &receiver.limits;
        let count = regions.len() as u64;
        let bytes = regions
            .iter()
            .map(Region::size)
            .fold(0, u64::saturating_add);
        let spans = regions.iter().map(Region::unpinned_spans);
        let spans = spans.fold(0, u64::saturating_add);
        let over = [
            ("regions", count, u64::from(limits.regions)),
            ("handles", count, u64::from(limits.handles)),
            ("claimed-bytes", bytes, limits.claimed_bytes),
            ("unpinned-spans", spans, u64::from(limits.unpinned_spans)),
        ];
        let (name, is, _) = over.into_iter().find(|(_, is, most)| is > most)?;
        Some(ChannelError::Refused(format!(
            "`{}` could never take these regions: they are {is}, over its limit `{name}`",
            spec.to
        )))
    }

    /// How many bytes a message may have.
    pub(super) fn message_bytes(&self) -> u64 {
        self.0.channel.spec.message_bytes
    }

    /// What is said of a message that has more.
    pub(super) fn too_large(&self, bytes: usize) -> ChannelError {
        let ChannelSpec {
            name,
            message_bytes,
            ..
        } = &self.0.channel.spec;
        ChannelError::TooLarge(format!(
            "{bytes} bytes; channel `{name}` takes {message_bytes} at most: put them into a \
             region, and send that"
        ))
    }

    /// Sends a message once `detach` has taken its regions from the sender, which
    /// it does only if nothing else stands in the way. Gives the message back if it
    /// is not sent.
    pub(super) fn send<E>(
        &self,
        message: Message,
        detach: impl FnOnce(&Message) -> Result<(), E>,
    ) -> Result<(), Unsent<E>> {
        let channel = &self.0.channel;
        if message.bytes.len() as u64 > channel.spec.message_bytes {
            return Err(Unsent::Refused(
                self.too_large(message.bytes.len()),
                message,
            ));
        }
        if let Some(never) = self.never(&message.regions) {
            return Err(Unsent::Refused(never, message));
        }
        // The channel stays as it is until the message is in it: nobody who finds it
        // full or closed afterwards has lost a window.
        let mut inner = channel.inner();
        if inner.receiver.is_closed() {
            return Err(Unsent::Refused(ChannelError::Closed, message));
        }
        if inner.queue.len() >= channel.spec.capacity as usize {
            return Err(Unsent::Refused(ChannelError::WouldBlock, message));
        }
        if let Err(error) = detach(&message) {
            drop(inner);
            return Err(Unsent::Failed(error, message));
        }
        for region in &message.regions {
            region.set_queued(true);
        }
        inner.counts.sent += 1;
        inner.counts.bytes += message.bytes.len() as u64;
        inner.counts.regions += message.regions.len() as u64;
        inner.queue.push_back(message);
        drop(inner);
        channel.changed.notify_waiters();
        Ok(())
    }

    /// What waits for room.
    pub(super) fn writable(&self) -> Writable {
        Writable(self.0.channel.clone())
    }
}

/// A message that was not sent.
pub(super) enum Unsent<E> {
    Refused(ChannelError, Message),
    /// Its regions could not be taken from the sender.
    Failed(E, Message),
}

impl ReceiverEnd {
    /// The guest drops it.
    pub(super) fn close(mut self) {
        self.0.how = Close::Dropped;
    }

    /// The guest receives no more.
    pub(super) fn finish(mut self) {
        self.0.how = Close::Finished;
    }

    /// Drops the next message, if there is one.
    pub(super) fn skip(&self) -> Result<(), ChannelError> {
        let skipped = self.0.channel.change(|inner| {
            let message = inner.queue.pop_front().ok_or_else(|| inner.nothing())?;
            inner.counts.dropped += 1;
            Ok(message)
        });
        skipped.map(drop)
    }

    /// Takes the next message, whose regions go on the receiver's account.
    pub(super) fn receive(&self, to: &Recipient) -> Result<Message, ChannelError> {
        let channel = &self.0.channel;
        let mut inner = channel.inner();
        let Some(message) = inner.queue.front() else {
            return Err(inner.nothing());
        };
        let owner = to.owner();
        let charges = message
            .regions
            .iter()
            .map(|region| {
                if Arc::ptr_eq(&region.owner().account, &owner.account) {
                    // To oneself.
                    return Ok(None);
                }
                let handle = owner.account.charge(ChargeKind::Handles, 1)?;
                Ok(Some((handle, region.charge_claim(owner)?)))
            })
            .collect::<Result<Vec<_>, RegionError>>()
            .map_err(|error| ChannelError::Exhausted(error.to_string()))?;
        let mut message = inner.queue.pop_front().expect("it was looked at");
        inner.counts.received += 1;
        drop(inner);
        channel.changed.notify_waiters();
        message.regions = std::mem::take(&mut message.regions)
            .into_iter()
            .zip(charges)
            .map(|(region, charges)| {
                region.set_queued(false);
                tracing::debug!(
                    region = region.name(),
                    id = region.id(),
                    from = &*message.from,
                    to = owner.name,
                    "region moved"
                );
                match charges {
                    Some((handle, claim)) => region.transferred(owner, handle, claim),
                    None => region,
                }
            })
            .collect();
        Ok(message)
    }

    /// What waits for a message.
    pub(super) fn readable(&self) -> Readable {
        Readable(self.0.channel.clone())
    }
}

/// Waits until a channel has room, or nobody will receive.
#[derive(Clone)]
pub(super) struct Writable(Arc<Channel>);

impl Writable {
    pub(super) async fn ready(&self) {
        let most = self.0.spec.capacity as usize;
        let ready = |inner: &ChannelState| inner.receiver.is_closed() || inner.queue.len() < most;
        self.0.wait(ready).await;
    }
}

/// Waits until a channel has a message, or none will come.
#[derive(Clone)]
pub(super) struct Readable(Arc<Channel>);

impl Readable {
    pub(super) async fn ready(&self) {
        let ready = |inner: &ChannelState| !inner.queue.is_empty() || inner.is_over();
        self.0.wait(ready).await;
    }
}

/// The channels of an app.
#[derive(Default)]
pub(super) struct Channels {
    by_name: HashMap<String, Arc<Channel>>,
    /// The channels that each guest has an end of.
    by_guest: HashMap<GuestId, Vec<Arc<Channel>>>,
    /// In the order in which they were described.
    all: Vec<Arc<Channel>>,
}

impl Channels {
    pub(super) fn new(channels: impl IntoIterator<Item = Channel>) -> Channels {
        let mut made = Channels::default();
        for channel in channels.into_iter().map(Arc::new) {
            for member in channel.senders.iter().chain([&channel.receiver]) {
                let of_guest = made.by_guest.entry(member.guest).or_default();
                of_guest.push(channel.clone());
            }
            let name = channel.spec.name.clone();
            made.by_name.insert(name, channel.clone());
            made.all.push(channel);
        }
        made
    }

    fn named(&self, name: &str) -> Option<&Arc<Channel>> {
        self.by_name.get(name)
    }

    fn open(&self, guest: GuestId, name: &str, side: SideId) -> Result<Endpoint, ChannelError> {
        let channel = self.named(name).ok_or(ChannelError::NotPermitted)?;
        channel.open(guest, side)?;
        Ok(Endpoint {
            channel: channel.clone(),
            side,
            how: Close::Died,
        })
    }

    pub(super) fn sender(&self, guest: GuestId, name: &str) -> Result<SenderEnd, ChannelError> {
        let channel = self.named(name).ok_or(ChannelError::NotPermitted)?;
        let mut senders = channel.senders.iter();
        let at = senders.position(|sender| sender.guest == guest);
        let side = SideId::Sender(at.ok_or(ChannelError::NotPermitted)?);
        Ok(SenderEnd(self.open(guest, name, side)?))
    }

    pub(super) fn receiver(&self, guest: GuestId, name: &str) -> Result<ReceiverEnd, ChannelError> {
        match self.named(name) {
            Some(channel) if channel.receiver.guest == guest => {
                Ok(ReceiverEnd(self.open(guest, name, SideId::Receiver)?))
            }
            _ => Err(ChannelError::NotPermitted),
        }
    }

    pub(super) fn report(&self) -> Vec<ChannelReport> {
        let channels = self.all.iter();
        channels
            .map(|channel| channel.inner().counts.clone())
            .collect()
    }

    /// A guest failed, and is started again.
    pub(super) fn on_restart(&self, guest: GuestId) {
        for channel in self.by_guest.get(&guest).into_iter().flatten() {
            channel.on_restart(guest);
        }
    }

    /// A guest has ended, and is not started again.
    pub(super) fn on_exit(&self, guest: GuestId) {
        for channel in self.by_guest.get(&guest).into_iter().flatten() {
            channel.on_exit(guest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use tombolo::RegionHost;

    fn id(index: usize) -> GuestId {
        GuestId::new(index)
    }

    /// Guests 0 and 1 send to guest 2.
    fn channels(capacity: u32) -> Channels {
        let spec = ChannelSpec {
            name: "c".into(),
            from: vec!["0".into(), "1".into()],
            to: "2".into(),
            capacity,
            message_bytes: 4,
            message_regions: 2,
        };
        let member = |index| Member {
            guest: id(index),
            restarts: index > 0,
            limits: limits(),
        };
        let senders = vec![member(0), member(1)];
        Channels::new([Channel::new(spec, senders, member(2))])
    }

    /// Of each guest.
    fn limits() -> Limits {
        {
            let mut it = Limits::default();
            it.claimed_bytes = 100;
            it
        }
    }

    fn message(bytes: &[u8]) -> Message {
        Message {
            from: "0".into(),
            bytes: bytes.into(),
            regions: Vec::new(),
        }
    }

    fn send(end: &SenderEnd, bytes: &[u8]) -> Result<(), ChannelError> {
        end.send(message(bytes), |_| Ok::<_, Infallible>(()))
            .map_err(|unsent| match unsent {
                Unsent::Refused(why, _) => why,
                Unsent::Failed(never, _) => match never {},
            })
    }

    fn recipient() -> Recipient {
        RegionHost::new().context("2").build().recipient()
    }

    fn is_ready(future: impl Future<Output = ()>) -> bool {
        let future = pin!(future);
        future.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn letters_come_in_the_order_in_which_they_were_sent() {
        let channels = channels(2);
        let (one, other) = (
            channels.sender(id(0), "c").unwrap(),
            channels.sender(id(1), "c").unwrap(),
        );
        let receiver = channels.receiver(id(2), "c").unwrap();
        let (writable, readable) = (one.writable(), receiver.readable());
        assert!(is_ready(writable.ready()) && !is_ready(readable.ready()));
        send(&one, b"a").unwrap();
        send(&other, b"b").unwrap();
        assert!(matches!(send(&one, b"c"), Err(ChannelError::WouldBlock)));
        assert!(!is_ready(writable.ready()) && is_ready(readable.ready()));
        assert!(matches!(
            send(&one, b"12345"),
            Err(ChannelError::TooLarge(_))
        ));
        let to = recipient();
        assert_eq!(receiver.receive(&to).unwrap().bytes, b"a");
        assert_eq!(receiver.receive(&to).unwrap().bytes, b"b");
        assert!(matches!(
            receiver.receive(&to),
            Err(ChannelError::WouldBlock)
        ));
    }

    #[test]
    fn who_is_not_named_is_refused_as_if_there_was_none() {
        let channels = channels(1);
        for (guest, name) in [(2, "c"), (0, "d")] {
            assert!(matches!(
                channels.sender(id(guest), name),
                Err(ChannelError::NotPermitted)
            ));
        }
        for (guest, name) in [(0, "c"), (2, "d")] {
            assert!(matches!(
                channels.receiver(id(guest), name),
                Err(ChannelError::NotPermitted)
            ));
        }
    }

    #[test]
    fn channel_is_over_when_all_senders_are() {
        let channels = channels(2);
        let receiver = channels.receiver(id(2), "c").unwrap();
        let one = channels.sender(id(0), "c").unwrap();
        send(&one, b"a").unwrap();
        one.close();
        channels.on_exit(id(1));
        let to = recipient();
        assert_eq!(receiver.receive(&to).unwrap().bytes, b"a");
        assert!(is_ready(receiver.readable().ready()));
        assert!(matches!(receiver.receive(&to), Err(ChannelError::Closed)));
        // It may come back, as it is still there.
        let one = channels.sender(id(0), "c").unwrap();
        assert!(matches!(
            receiver.receive(&to),
            Err(ChannelError::WouldBlock)
        ));
        drop(one);
        assert!(
            matches!(receiver.receive(&to), Err(ChannelError::WouldBlock)),
            "its guest has died, and may be started again"
        );
    }

    #[test]
    fn what_waits_is_there_for_the_next_life_and_dropped_after_the_last() {
        let channels = channels(2);
        let one = channels.sender(id(0), "c").unwrap();
        let receiver = channels.receiver(id(2), "c").unwrap();
        assert!(matches!(
            channels.receiver(id(2), "c"),
            Err(ChannelError::WouldBlock)
        ));
        let host = RegionHost::new();
        let mut sent = message(b"a");
        sent.regions.push(host.create("r", 1).unwrap());
        assert!(one.send(sent, |_| Ok::<_, Infallible>(())).is_ok());
        // It dies, and lives again.
        drop(receiver);
        send(&one, b"b").unwrap();
        let receiver = channels.receiver(id(2), "c").unwrap();
        assert!(is_ready(receiver.readable().ready()));
        drop(receiver);
        assert_eq!(host.counts().regions_freed, 0);
        let full = one.writable();
        assert!(!is_ready(full.ready()));
        channels.on_exit(id(2));
        assert_eq!(host.counts().regions_freed, 1);
        assert!(is_ready(full.ready()));
        assert!(matches!(send(&one, b"c"), Err(ChannelError::Closed)));
    }

    /// What a guest drops on its way to failing is not dropped.
    #[test]
    fn guest_that_is_started_again_was_not_leaving() {
        let channels = channels(2);
        let (one, other) = (
            channels.sender(id(0), "c").unwrap(),
            channels.sender(id(1), "c").unwrap(),
        );
        let receiver = channels.receiver(id(2), "c").unwrap();
        send(&one, b"a").unwrap();
        receiver.close();
        send(&one, b"b").unwrap();
        assert!(matches!(send(&one, b"c"), Err(ChannelError::WouldBlock)));
        channels.on_restart(id(2));
        let receiver = channels.receiver(id(2), "c").unwrap();
        let to = recipient();
        assert_eq!(receiver.receive(&to).unwrap().bytes, b"a");
        assert_eq!(receiver.receive(&to).unwrap().bytes, b"b");
        // The first sender is not started again, and the other one is.
        one.close();
        other.close();
        assert!(!is_ready(receiver.readable().ready()));
        channels.on_restart(id(1));
        let other = channels.sender(id(1), "c").unwrap();
        send(&other, b"d").unwrap();
        assert_eq!(receiver.receive(&to).unwrap().bytes, b"d");
        // By its own word, or when it ends in order.
        other.finish();
        assert!(matches!(receiver.receive(&to), Err(ChannelError::Closed)));
        let one = channels.sender(id(0), "c").unwrap();
        receiver.close();
        assert!(send(&one, b"e").is_ok());
        channels.on_exit(id(2));
        assert!(matches!(send(&one, b"f"), Err(ChannelError::Closed)));
    }

    #[test]
    fn what_could_never_be_received_is_not_sent() {
        let channels = channels(2);
        let one = channels.sender(id(0), "c").unwrap();
        let host = RegionHost::new();
        let refused = |sizes: &[u64]| {
            let mut sent = message(b"a");
            let regions = sizes.iter().map(|size| host.create("r", *size).unwrap());
            sent.regions.extend(regions);
            match one.send(sent, |_| Ok::<_, Infallible>(())) {
                Ok(()) => None,
                Err(Unsent::Refused(why, back)) => {
                    assert_eq!(back.regions.len(), sizes.len());
                    Some(why)
                }
                Err(Unsent::Failed(never, _)) => match never {},
            }
        };
        let Some(ChannelError::Refused(text)) = refused(&[60, 41]) else {
            panic!("more than the receiver may claim");
        };
        assert_eq!(
            text,
            "`2` could never take these regions: they are 101, over its limit `claimed-bytes`"
        );
        let Some(ChannelError::TooLarge(text)) = refused(&[1, 1, 1]) else {
            panic!("more than a message may have");
        };
        assert!(text.contains("3 regions"), "{text}");
        assert!(refused(&[60, 40]).is_none());
        // The receiver may have no room for it now, and need not wait for that.
        let receiver = channels.receiver(id(2), "c").unwrap();
        receiver.skip().unwrap();
        assert!(matches!(receiver.skip(), Err(ChannelError::WouldBlock)));
        assert_eq!(host.counts().regions_freed, host.counts().regions_created);
    }

    /// What is on its way does not go with the guest that it is charged to.
    #[test]
    fn what_is_queued_frees_nothing_at_its_senders_end() {
        let channels = channels(2);
        let one = channels.sender(id(0), "c").unwrap();
        let receiver = channels.receiver(id(2), "c").unwrap();
        let host = RegionHost::new();
        let region = host.create("r", 1).unwrap();
        let sender = region.owner().clone();
        assert_eq!(host.exclusive_bytes(&sender), 0, "nobody touched it");
        region.try_write(0..1).unwrap()[0] = 1;
        let page = host.exclusive_bytes(&sender);
        assert!((1..=tombolo::GRANULE).contains(&page), "{page}");
        let mut sent = message(b"a");
        sent.regions.push(region);
        assert!(one.send(sent, |_| Ok::<_, Infallible>(())).is_ok());
        assert_eq!(host.exclusive_bytes(&sender), 0);
        let to = host.context("2").build().recipient();
        let received = receiver.receive(&to).unwrap();
        assert_eq!(host.exclusive_bytes(to.owner()), page);
        drop(received);
    }

    #[test]
    fn receiver_without_room_finds_the_letter_again() {
        let channels = channels(2);
        let one = channels.sender(id(0), "c").unwrap();
        let receiver = channels.receiver(id(2), "c").unwrap();
        let host = RegionHost::new();
        let mut sent = message(b"a");
        sent.regions.push(host.create("r", 1).unwrap());
        assert!(one.send(sent, |_| Ok::<_, Infallible>(())).is_ok());
        let limits = {
            let mut it = tombolo::Limits::default();
            it.regions = 0;
            it
        };
        let small = host.context("2").limits(limits).build();
        let Err(ChannelError::Exhausted(text)) = receiver.receive(&small.recipient()) else {
            panic!("there is no room");
        };
        assert!(text.contains("regions"), "{text}");
        let to = host.context("2").build().recipient();
        let received = receiver.receive(&to).unwrap();
        assert_eq!(received.regions[0].owner().name, "2");
    }
}
