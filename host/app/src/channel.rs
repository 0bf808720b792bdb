//! Channels: bounded queues of messages from some guests to one.
//!
//! # Sending
//!
//! A channel is a queue behind a mutex. Sending checks, detaches and enqueues under that lock.
//! So a sender that is told that the channel is full or closed still has its handles, and its
//! windows as they were. The lock of a region is taken inside the lock of a channel, never the
//! other way round. A channel drops messages without its lock.
//!
//! A queued handle has no holder and is on its sender's account. Receiving charges the
//! receiver first; if that is refused, the message stays the next one, and can be skipped. A
//! message whose regions the receiver's limits could never take is refused when it is sent.
//!
//! # Closing
//!
//! A channel is *closed* for senders when its receiver dropped its endpoint or has ended for
//! good. It is closed for the receiver when all senders have, and it is empty. Messages for a
//! receiver that is gone are dropped. Messages for a receiver that is restarted are kept: one
//! that fails loses only the message that it has received.
//!
//! Destructors also run when `main` fails. So an endpoint dropped by a restartable guest is
//! only *leaving*: it closes on a clean exit and reopens on failure. A guest that means to
//! close it calls `finish`.
//!
//! # Waiting
//!
//! A wait registers first and then looks, so that no change falls between.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError};

use super::guest_id::GuestId;
use super::report::ChannelReport;
use super::spec::ChannelSpec;
use crate::sync::{Mutex, MutexGuard, Notify};
use tombolo::{Limits, Recipient, Region, RegionError};
use tombolo_region::ChargeKind;

/// A message on its way. Only the channel has its regions, and they are on the sender's
/// account.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) from: Arc<str>,
    pub(super) bytes: Vec<u8>,
    pub(super) regions: Vec<Region>,
}

/// Why a message was not sent or received.
#[derive(Debug)]
pub(super) enum ChannelError {
    NotPermitted,
    WouldBlock,
    TooLarge(String),
    Closed,
    Refused(String),
    Exhausted(String),
}

/// The state of one side of a channel, for one guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// It is not open, but may be opened.
    Coming,
    /// It is open, by this many endpoints.
    Open(u32),
    /// A restartable guest has dropped its last endpoint, perhaps on its way to a failure.
    /// Whether that closes the side is decided when the guest ends.
    Leaving,
    /// The guest has dropped its last endpoint. It may open another.
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

    /// Notes that an endpoint is gone. `restarts` is whether its guest is restarted if it
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

/// How an endpoint is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Close {
    /// The guest dropped it.
    Dropped,
    /// The guest called `finish`.
    Finished,
    /// It went with its guest.
    Died,
}

/// A guest that may use a channel.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) guest: GuestId,
    /// Whether it is restarted if it fails.
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
    /// Notified of every change.
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

    /// Makes a change that a guest may wait for. The result is dropped without the lock,
    /// because regions have locks of their own.
    fn change<R>(&self, change: impl FnOnce(&mut ChannelState) -> R) -> R {
        let result = change(&mut self.inner());
        self.changed.notify_waiters();
        result
    }

    /// Opens an endpoint for a guest.
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

    /// Returns the sides that a guest has.
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

    /// Reopens the sides of a guest that failed and is restarted: it was not leaving.
    fn on_restart(&self, guest: GuestId) {
        self.change(|inner| {
            for side in self.sides(inner, guest) {
                if *side == Side::Leaving {
                    *side = Side::Coming;
                }
            }
        });
    }

    /// Closes the sides of a guest that has ended and is not restarted.
    fn on_exit(&self, guest: GuestId) {
        let left = self.change(|inner| {
            self.sides(inner, guest)
                .for_each(|side| *side = Side::Exited);
            inner.orphans()
        });
        drop(left);
    }

    /// Waits until `ready` holds.
    async fn wait(&self, ready: impl Fn(&ChannelState) -> bool) {
        loop {
            // Registers before it looks, so that no change is missed.
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
    /// Takes the messages for a receiver that will not receive them.
    fn orphans(&mut self) -> VecDeque<Message> {
        if !self.receiver.is_closed() {
            return VecDeque::new();
        }
        self.counts.dropped += self.queue.len() as u64;
        std::mem::take(&mut self.queue)
    }

    /// Returns why there is nothing to receive.
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
    /// The sender at this place in the list.
    Sender(usize),
    Receiver,
}

/// An endpoint that a guest has open. It is closed when it is dropped, at the latest with its
/// guest.
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

/// An endpoint for sending.
pub(super) struct SenderEnd(Endpoint);

/// The endpoint for receiving.
pub(super) struct ReceiverEnd(Endpoint);

impl SenderEnd {
    /// Closes it because the guest drops it.
    pub(super) fn close(mut self) {
        self.0.how = Close::Dropped;
    }

    /// Closes it because the guest sends no more.
    pub(super) fn finish(mut self) {
        self.0.how = Close::Finished;
    }

    /// Returns why the channel can never carry these regions to its receiver, even if the
    /// receiver releases everything that it has.
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
            // They are on its account already.
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

    /// Returns how many bytes a message may have.
    pub(super) fn message_bytes(&self) -> u64 {
        self.0.channel.spec.message_bytes
    }

    /// Returns the error for a message that has more.
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

    /// Sends a message. `detach` takes its regions from the sender, and is called only if
    /// nothing else keeps the message from being sent.
    ///
    /// # Errors
    ///
    /// Returns the message if it is not sent.
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
        // Locked until the message is in it, so that a sender which finds the channel full
        // or closed has lost no window.
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

    /// Returns a wait until a message can be sent.
    pub(super) fn writable(&self) -> Writable {
        Writable(self.0.channel.clone())
    }
}

/// A message that was not sent, and why.
pub(super) enum Unsent<E> {
    Refused(ChannelError, Message),
    /// Its regions could not be taken from the sender.
    Failed(E, Message),
}

impl ReceiverEnd {
    /// Closes it because the guest drops it.
    pub(super) fn close(mut self) {
        self.0.how = Close::Dropped;
    }

    /// Closes it because the guest receives no more.
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

    /// Takes the next message, and charges its regions to the receiver.
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
                    // Sent by the receiver itself.
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

    /// Returns a wait until a message can be received.
    pub(super) fn readable(&self) -> Readable {
        Readable(self.0.channel.clone())
    }
}

/// Waits until a channel has room, or has no receiver any more.
#[derive(Clone)]
pub(super) struct Writable(Arc<Channel>);

impl Writable {
    pub(super) async fn ready(&self) {
        let most = self.0.spec.capacity as usize;
        let ready = |inner: &ChannelState| inner.receiver.is_closed() || inner.queue.len() < most;
        self.0.wait(ready).await;
    }
}

/// Waits until a channel has a message, or no sender any more.
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
    /// The channels that each guest may use.
    by_guest: HashMap<GuestId, Vec<Arc<Channel>>>,
    /// In the order in which they were added.
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

    /// Reopens the endpoints of a guest that failed and is restarted.
    pub(super) fn on_restart(&self, guest: GuestId) {
        for channel in self.by_guest.get(&guest).into_iter().flatten() {
            channel.on_restart(guest);
        }
    }

    /// Closes the endpoints of a guest that has ended and is not restarted.
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
    fn messages_keep_their_order() {
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

    // rule 1
    #[test]
    fn nonmember_and_unknown_name_look_alike() {
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
    fn channel_closes_with_its_last_sender() {
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
    fn restart_keeps_messages_and_exit_drops_them() {
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

    /// An endpoint that a guest drops on its way to a failure is not closed.
    #[test]
    fn restart_reopens_a_leaving_endpoint() {
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

    // rule 10
    #[test]
    fn unreceivable_message_is_refused() {
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

    /// A queued region is charged to its sender, but does not go with it.
    // rule 6
    #[test]
    fn queued_region_outlives_its_sender() {
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

    // rule 10
    #[test]
    fn refused_message_stays_the_next_one() {
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
