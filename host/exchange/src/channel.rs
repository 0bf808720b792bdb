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
//! good. It is closed for the receiver when every sender has dropped its endpoint or ended for
//! good, and the queue is empty. Messages for a receiver that is gone are dropped. Messages for a
//! receiver that is restarted are kept: one that fails loses only the message that it has
//! received.
//!
//! Destructors also run when `main` fails. So an endpoint dropped by a restartable guest is
//! only *leaving*: it closes on a clean exit and reopens on failure. A guest that means to
//! close it calls `finish`.
//!
//! # Waiting
//!
//! A wait registers first and then looks, so that no change falls between.

use std::collections::{HashMap, VecDeque};
use std::fmt::Display;
use std::pin::pin;
use std::sync::{Arc, PoisonError};

use tombolo_region::{Account, Charge, ChargeKind, Exhausted, Quota};

use crate::guest_id::GuestId;
use crate::sync::{Mutex, MutexGuard, Notify};

/// The types of the regions that messages carry, of their handles and of their holders.
/// Implemented by a type without values.
pub trait ChannelTypes: Sized + 'static {
    /// A handle to a region, with its claim.
    type Region: Send + 'static;
    /// A guest as a receiver of regions.
    type Recipient;
    /// Why a receiver cannot be charged.
    type Error: Display + From<Exhausted>;

    /// Returns the size of a region in bytes.
    fn size(region: &Self::Region) -> u64;

    /// Returns the number of separate runs of a region that the claim does not pin.
    fn unpinned_spans(region: &Self::Region) -> u64;

    /// Notes whether the claim is in a queue, where it has no holder.
    fn set_queued(region: &Self::Region, queued: bool);

    /// Returns the account on which the claim is.
    fn account(region: &Self::Region) -> &Arc<Account>;

    /// Returns the account of a receiver.
    fn account_of(to: &Self::Recipient) -> &Arc<Account>;

    /// Charges the claim to a receiver.
    ///
    /// # Errors
    ///
    /// If a limit of the receiver would be exceeded.
    fn charge_claim(
        region: &Self::Region,
        to: &Self::Recipient,
    ) -> Result<Vec<Charge>, Self::Error>;

    /// Puts the handle and the claim on the account of a receiver, which was charged for both.
    fn transferred(
        region: Self::Region,
        to: &Self::Recipient,
        handle: Charge,
        claim: Vec<Charge>,
    ) -> Self::Region;

    /// Logs that a region came in a message from the guest of this name.
    fn log_received(region: &Self::Region, from: &str, to: &Self::Recipient);
}

/// A message on its way. Only the channel has its regions, and they are on the sender's
/// account.
#[derive(Debug)]
pub struct Message<R> {
    /// The name of the sender.
    pub from: Arc<str>,
    /// The bytes, which are copied.
    pub bytes: Vec<u8>,
    /// The regions, which move.
    pub regions: Vec<R>,
}

/// Why a message was not sent or received.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// There is no such channel, or it is not the guest's to use in this way.
    #[error("there is no such channel for this guest")]
    NotPermitted,
    /// The channel is full or empty, or its receiving endpoint is open already.
    #[error("the channel is full or empty, or its endpoint is open already")]
    WouldBlock,
    /// The message is larger than the channel permits, for this reason.
    #[error("{0}")]
    TooLarge(String),
    /// The other side is closed.
    #[error("the other side of the channel is closed")]
    Closed,
    /// The receiver could never take the message, for this reason.
    #[error("{0}")]
    Refused(String),
    /// A limit of the receiver is used up.
    #[error("{0}")]
    Exhausted(String),
}

/// The name and the limits of a channel.
#[derive(Clone, Debug)]
pub struct ChannelSettings {
    /// The name, by which guests open it.
    pub name: String,
    /// The name of the guest that receives.
    pub to: String,
    /// The number of messages that may wait in it.
    pub capacity: u32,
    /// The most bytes of a message, besides its regions.
    pub message_bytes: u64,
    /// The most regions of a message.
    pub message_regions: u32,
}

/// The numbers of what passed through a channel.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChannelCounts {
    /// The number of messages that were sent.
    pub sent: u64,
    /// The number of messages that were received.
    pub received: u64,
    /// The number of messages that were skipped, or dropped because their receiver was gone.
    pub dropped: u64,
    /// The bytes of all messages.
    pub bytes: u64,
    /// The number of regions that moved in messages.
    pub regions: u64,
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
pub struct Member {
    /// The guest.
    pub guest: GuestId,
    /// Whether it is restarted if it fails.
    pub restarts: bool,
    /// The most that it may hold.
    pub quota: Quota,
}

/// A channel of an app.
pub struct Channel<C: ChannelTypes> {
    settings: ChannelSettings,
    /// The guests that may send, and the one that receives.
    senders: Vec<Member>,
    receiver: Member,
    inner: Mutex<ChannelState<C>>,
    /// Notified of every change.
    changed: Notify,
}

struct ChannelState<C: ChannelTypes> {
    queue: VecDeque<Message<C::Region>>,
    senders: Vec<Side>,
    receiver: Side,
    counts: ChannelCounts,
}

impl<C: ChannelTypes> Channel<C> {
    /// Makes a channel that no guest has opened.
    #[must_use]
    pub fn new(settings: ChannelSettings, senders: Vec<Member>, receiver: Member) -> Channel<C> {
        Channel {
            inner: Mutex::new(ChannelState {
                queue: VecDeque::new(),
                senders: vec![Side::Coming; senders.len()],
                receiver: Side::Coming,
                counts: ChannelCounts::default(),
            }),
            settings,
            senders,
            receiver,
            changed: Notify::new(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, ChannelState<C>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change that a guest may wait for. The result is dropped without the lock,
    /// because regions have locks of their own.
    fn change<R>(&self, change: impl FnOnce(&mut ChannelState<C>) -> R) -> R {
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
        inner: &'a mut ChannelState<C>,
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
    async fn wait(&self, ready: impl Fn(&ChannelState<C>) -> bool) {
        loop {
            // Registers before it looks, so that no change is missed.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if ready(&self.inner()) {
                return;
            }
            changed.await;
        }
    }
}

impl<C: ChannelTypes> ChannelState<C> {
    /// Takes the messages for a receiver that will not receive them.
    fn orphans(&mut self) -> VecDeque<Message<C::Region>> {
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
struct Endpoint<C: ChannelTypes> {
    channel: Arc<Channel<C>>,
    side: SideId,
    how: Close,
}

impl<C: ChannelTypes> Drop for Endpoint<C> {
    fn drop(&mut self) {
        self.channel.close(self.side, self.how);
    }
}

/// An endpoint for sending.
pub struct SenderEnd<C: ChannelTypes>(Endpoint<C>);

/// The endpoint for receiving.
pub struct ReceiverEnd<C: ChannelTypes>(Endpoint<C>);

impl<C: ChannelTypes> SenderEnd<C> {
    /// Closes it because the guest drops it.
    pub fn close(mut self) {
        self.0.how = Close::Dropped;
    }

    /// Closes it because the guest sends no more.
    pub fn finish(mut self) {
        self.0.how = Close::Finished;
    }

    /// Returns why the channel can never carry these regions to its receiver, even if the
    /// receiver releases everything that it has.
    fn never(&self, regions: &[C::Region]) -> Option<ChannelError> {
        let Channel {
            settings, receiver, ..
        } = &*self.0.channel;
        if regions.len() > settings.message_regions as usize {
            return Some(ChannelError::TooLarge(format!(
                "{} regions, over the limit `message-regions` of channel `{}`, which is {}",
                regions.len(),
                settings.name,
                settings.message_regions
            )));
        }
        let SideId::Sender(at) = self.0.side else {
            unreachable!("it is a sender's");
        };
        if self.0.channel.senders[at].guest == receiver.guest {
            // They are on its account already.
            return None;
        }
        let quota = &receiver.quota;
        let count = regions.len() as u64;
        let bytes = regions.iter().map(C::size);
        let bytes = bytes.fold(0, u64::saturating_add);
        let spans = regions.iter().map(C::unpinned_spans);
        let spans = spans.fold(0, u64::saturating_add);
        let over = [
            ("regions", count, quota.regions),
            ("handles", count, quota.handles),
            ("claimed-bytes", bytes, quota.claimed_bytes),
            ("unpinned-spans", spans, quota.unpinned_spans),
        ];
        let (name, is, _) = over.into_iter().find(|(_, is, most)| is > most)?;
        Some(ChannelError::Refused(format!(
            "`{}` could never take these regions: they are {is}, over its limit `{name}`",
            settings.to
        )))
    }

    /// Returns how many bytes a message may have.
    pub fn message_bytes(&self) -> u64 {
        self.0.channel.settings.message_bytes
    }

    /// Returns the error for a message that has more.
    pub fn too_large(&self, bytes: usize) -> ChannelError {
        let ChannelSettings {
            name,
            message_bytes,
            ..
        } = &self.0.channel.settings;
        ChannelError::TooLarge(format!(
            "{bytes} bytes, over the limit `message-bytes` of channel `{name}`, which is \
             {message_bytes}: put them into a region, and send that"
        ))
    }

    /// Sends a message, without waiting for room. `detach` takes its regions from the sender, and
    /// is called only if nothing else keeps the message from being sent.
    ///
    /// # Errors
    ///
    /// Returns the message if it is not sent, for example because the channel is full.
    pub fn try_send<E>(
        &self,
        message: Message<C::Region>,
        detach: impl FnOnce(&Message<C::Region>) -> Result<(), E>,
    ) -> Result<(), Unsent<C::Region, E>> {
        let channel = &self.0.channel;
        if message.bytes.len() as u64 > channel.settings.message_bytes {
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
        if inner.queue.len() >= channel.settings.capacity as usize {
            return Err(Unsent::Refused(ChannelError::WouldBlock, message));
        }
        if let Err(error) = detach(&message) {
            drop(inner);
            return Err(Unsent::Failed(error, message));
        }
        for region in &message.regions {
            C::set_queued(region, true);
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
    pub fn writable(&self) -> Writable<C> {
        Writable(self.0.channel.clone())
    }
}

/// A message that was not sent, and why.
#[derive(Debug)]
pub enum Unsent<R, E> {
    /// The channel does not take it.
    Refused(ChannelError, Message<R>),
    /// Its regions could not be taken from the sender.
    Failed(E, Message<R>),
}

impl<C: ChannelTypes> ReceiverEnd<C> {
    /// Closes it because the guest drops it.
    pub fn close(mut self) {
        self.0.how = Close::Dropped;
    }

    /// Closes it because the guest receives no more.
    pub fn finish(mut self) {
        self.0.how = Close::Finished;
    }

    /// Drops the next message.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn skip(&self) -> Result<(), ChannelError> {
        let skipped = self.0.channel.change(|inner| {
            let message = inner.queue.pop_front().ok_or_else(|| inner.nothing())?;
            inner.counts.dropped += 1;
            Ok(message)
        });
        skipped.map(drop)
    }

    /// Takes the next message, without waiting for one, and charges its regions to the receiver.
    ///
    /// # Errors
    ///
    /// If there is none, or a limit of the receiver is used up. The message then stays next in the
    /// queue.
    pub fn try_receive(&self, to: &C::Recipient) -> Result<Message<C::Region>, ChannelError> {
        let channel = &self.0.channel;
        let mut inner = channel.inner();
        let Some(message) = inner.queue.front() else {
            return Err(inner.nothing());
        };
        let account = C::account_of(to);
        let charges = message
            .regions
            .iter()
            .map(|region| {
                if Arc::ptr_eq(C::account(region), account) {
                    // Sent by the receiver itself.
                    return Ok(None);
                }
                let handle = account.charge(ChargeKind::Handles, 1)?;
                Ok(Some((handle, C::charge_claim(region, to)?)))
            })
            .collect::<Result<Vec<_>, C::Error>>()
            .map_err(|error| ChannelError::Exhausted(error.to_string()))?;
        let mut message = inner.queue.pop_front().expect("it was looked at");
        inner.counts.received += 1;
        drop(inner);
        channel.changed.notify_waiters();
        message.regions = std::mem::take(&mut message.regions)
            .into_iter()
            .zip(charges)
            .map(|(region, charges)| {
                C::set_queued(&region, false);
                C::log_received(&region, &message.from, to);
                match charges {
                    Some((handle, claim)) => C::transferred(region, to, handle, claim),
                    None => region,
                }
            })
            .collect();
        Ok(message)
    }

    /// Returns a wait until a message can be received.
    pub fn readable(&self) -> Readable<C> {
        Readable(self.0.channel.clone())
    }
}

/// A wait until a channel has room, or no receiver any more.
pub struct Writable<C: ChannelTypes>(Arc<Channel<C>>);

impl<C: ChannelTypes> Clone for Writable<C> {
    fn clone(&self) -> Writable<C> {
        Writable(self.0.clone())
    }
}

impl<C: ChannelTypes> Writable<C> {
    /// Waits until the channel has room, or no receiver any more. Dropping the future changes
    /// nothing.
    pub async fn ready(&self) {
        let most = self.0.settings.capacity as usize;
        let ready =
            |inner: &ChannelState<C>| inner.receiver.is_closed() || inner.queue.len() < most;
        self.0.wait(ready).await;
    }
}

/// A wait until a channel has a message, or no sender any more.
pub struct Readable<C: ChannelTypes>(Arc<Channel<C>>);

impl<C: ChannelTypes> Clone for Readable<C> {
    fn clone(&self) -> Readable<C> {
        Readable(self.0.clone())
    }
}

impl<C: ChannelTypes> Readable<C> {
    /// Waits until the channel has a message, or no sender any more. Dropping the future changes
    /// nothing.
    pub async fn ready(&self) {
        let ready = |inner: &ChannelState<C>| !inner.queue.is_empty() || inner.is_over();
        self.0.wait(ready).await;
    }
}

/// The channels of an app.
pub struct Channels<C: ChannelTypes> {
    by_name: HashMap<String, Arc<Channel<C>>>,
    /// The channels that each guest may use.
    by_guest: HashMap<GuestId, Vec<Arc<Channel<C>>>>,
    /// In the order in which they were added.
    all: Vec<Arc<Channel<C>>>,
}

impl<C: ChannelTypes> Default for Channels<C> {
    fn default() -> Channels<C> {
        Channels::new([])
    }
}

impl<C: ChannelTypes> Channels<C> {
    /// Collects these channels, whose names are unique.
    pub fn new(channels: impl IntoIterator<Item = Channel<C>>) -> Channels<C> {
        let mut made = Channels {
            by_name: HashMap::new(),
            by_guest: HashMap::new(),
            all: Vec::new(),
        };
        for channel in channels.into_iter().map(Arc::new) {
            for member in channel.senders.iter().chain([&channel.receiver]) {
                let of_guest = made.by_guest.entry(member.guest).or_default();
                of_guest.push(channel.clone());
            }
            let name = channel.settings.name.clone();
            made.by_name.insert(name, channel.clone());
            made.all.push(channel);
        }
        made
    }

    fn named(&self, name: &str) -> Option<&Arc<Channel<C>>> {
        self.by_name.get(name)
    }

    fn open(&self, guest: GuestId, name: &str, side: SideId) -> Result<Endpoint<C>, ChannelError> {
        let channel = self.named(name).ok_or(ChannelError::NotPermitted)?;
        channel.open(guest, side)?;
        Ok(Endpoint {
            channel: channel.clone(),
            side,
            how: Close::Died,
        })
    }

    /// Opens the endpoint of a guest for sending.
    ///
    /// # Errors
    ///
    /// If the guest may not send on a channel of this name.
    pub fn sender(&self, guest: GuestId, name: &str) -> Result<SenderEnd<C>, ChannelError> {
        let channel = self.named(name).ok_or(ChannelError::NotPermitted)?;
        let mut senders = channel.senders.iter();
        let at = senders.position(|sender| sender.guest == guest);
        let side = SideId::Sender(at.ok_or(ChannelError::NotPermitted)?);
        Ok(SenderEnd(self.open(guest, name, side)?))
    }

    /// Opens the endpoint of a guest for receiving.
    ///
    /// # Errors
    ///
    /// If the guest may not receive on a channel of this name, or has it open already.
    pub fn receiver(&self, guest: GuestId, name: &str) -> Result<ReceiverEnd<C>, ChannelError> {
        match self.named(name) {
            Some(channel) if channel.receiver.guest == guest => {
                Ok(ReceiverEnd(self.open(guest, name, SideId::Receiver)?))
            }
            _ => Err(ChannelError::NotPermitted),
        }
    }

    /// Returns the name of each channel, and what passed through it.
    pub fn counts(&self) -> impl Iterator<Item = (&str, ChannelCounts)> {
        let channels = self.all.iter();
        channels.map(|channel| (&*channel.settings.name, channel.inner().counts))
    }

    /// Reopens the endpoints of a guest that failed and is restarted.
    pub fn on_restart(&self, guest: GuestId) {
        for channel in self.by_guest.get(&guest).into_iter().flatten() {
            channel.on_restart(guest);
        }
    }

    /// Closes the endpoints of a guest that has ended and is not restarted.
    pub fn on_exit(&self, guest: GuestId) {
        for channel in self.by_guest.get(&guest).into_iter().flatten() {
            channel.on_exit(guest);
        }
    }
}
