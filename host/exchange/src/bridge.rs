//! Bridges: bounded queues that carry the items of one stream or future from the store of one
//! guest to that of another.
//!
//! A guest writes in its own store, and another reads in its own, each on its own thread. So an
//! item is copied twice: into the bridge and out of it. The writer's store puts items in only
//! while there is room, which is the back-pressure: otherwise the write stays pending.
//!
//! # Memory
//!
//! A bridge holds at most [`MOST_BYTES`], or one item that is larger. [`LEAST_BYTES`] and a fixed
//! overhead are charged when it is made. The rest is charged while it is needed and the account
//! has it. So a bridge never waits for an account: without more, it works in small steps.
//!
//! # Ends
//!
//! Each end closes when it is dropped, which is also how the end of a guest closes it. If the
//! reader is gone, the queue is dropped at once, and the writer learns of it. If the writer is
//! gone, the reader gets what is in the queue first.

use std::collections::VecDeque;
use std::mem::take;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use tombolo_region::{Account, Charge, ChargeKind, Exhausted};

use crate::sync::{Mutex, MutexGuard};

/// The bytes of items that each bridge may hold, whatever its account has left.
pub const LEAST_BYTES: u64 = 4 << 10;

/// The most bytes of items that a bridge holds, unless one item alone is larger.
pub const MOST_BYTES: u64 = 64 << 10;

/// The bytes of a bridge itself, and of the tasks and handles in both stores.
pub const OVERHEAD_BYTES: u64 = 1 << 10;

/// An item of a stream or future, while no store has it.
pub trait BridgeItem: Send + 'static {
    /// Returns the bytes of the host's memory that it takes.
    fn bytes(&self) -> u64;
}

/// Implements items that take no memory but their own.
macro_rules! scalars {
    ($($ty:ty),*) => {$(
        impl BridgeItem for $ty {
            #[inline]
            fn bytes(&self) -> u64 {
                (size_of::<$ty>() as u64).max(1)
            }
        }
    )*};
}

scalars!(
    (),
    bool,
    u8,
    i8,
    u16,
    i16,
    u32,
    i32,
    u64,
    i64,
    f32,
    f64,
    char
);

/// The bytes of a string or list in a queue that has grown by doubling, and of the allocator.
const HEADER_BYTES: u64 = 2 * size_of::<String>() as u64 + 16;

impl BridgeItem for String {
    fn bytes(&self) -> u64 {
        HEADER_BYTES + self.capacity() as u64
    }
}

impl BridgeItem for Vec<u8> {
    fn bytes(&self) -> u64 {
        HEADER_BYTES + self.capacity() as u64
    }
}

impl<T: BridgeItem, E: BridgeItem> BridgeItem for Result<T, E> {
    fn bytes(&self) -> u64 {
        let own = 2 * size_of::<Result<T, E>>() as u64;
        own + match self {
            Ok(item) => item.bytes(),
            Err(item) => item.bytes(),
        }
    }
}

/// The contents of a bridge.
struct Shared<T> {
    items: VecDeque<T>,
    /// The bytes of all items.
    bytes: u64,
    charge: Charge,
    /// The bytes at which a waiting writer goes on: half of what there was when it began to wait.
    /// So a large stream does not move in as many steps as a reader's smallest reads.
    resume_at: u64,
    writer: Side,
    reader: Side,
}

/// One of the two ends.
#[derive(Default)]
struct Side {
    gone: bool,
    /// Waits for the other side.
    waker: Option<Waker>,
}

impl Side {
    fn wait(&mut self, context: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
    }
}

impl<T> Shared<T> {
    /// Charges what items of these bytes take. Less than before is never refused.
    fn charge_for(&mut self, bytes: u64) -> Result<(), Exhausted> {
        let bytes = bytes.max(LEAST_BYTES).saturating_add(OVERHEAD_BYTES);
        self.charge.resize(bytes)
    }

    /// Returns how many bytes of items have room, up to `wanted`.
    fn room(&mut self, wanted: u64) -> u64 {
        let full = self.bytes.saturating_add(wanted).min(MOST_BYTES);
        if full > LEAST_BYTES && self.charge_for(full).is_ok() {
            return full.saturating_sub(self.bytes);
        }
        LEAST_BYTES.saturating_sub(self.bytes).min(wanted)
    }

    /// Returns the room for items of unknown sizes. Without memory for many, only an empty bridge
    /// has room, for one.
    fn room_for_any(&mut self) -> u64 {
        let room = MOST_BYTES.saturating_sub(self.bytes);
        match room > 0 && self.charge_for(MOST_BYTES).is_ok() {
            true => room,
            false => u64::from(self.items.is_empty()),
        }
    }

    /// Frees what an empty queue does not need, and returns the charge for it.
    fn give_back(&mut self) {
        if self.items.is_empty() && self.bytes <= LEAST_BYTES {
            let least = usize::try_from(LEAST_BYTES).unwrap_or(usize::MAX);
            self.items.shrink_to(least / size_of::<T>().max(1));
            // It is not refused, because it is the least.
            let _ = self.charge_for(0);
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A bridge, as both of its ends know it.
struct Bridge<T>(Mutex<Shared<T>>);

impl<T> Bridge<T> {
    fn lock(&self) -> MutexGuard<'_, Shared<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a bridge whose memory is charged to `account`.
///
/// # Errors
///
/// [`Exhausted`], if the account does not have the least that a bridge takes.
pub fn bridge<T: BridgeItem>(
    account: &Arc<Account>,
) -> Result<(BridgeWriter<T>, BridgeReader<T>), Exhausted> {
    let charge = account.charge(ChargeKind::HostMemory, LEAST_BYTES + OVERHEAD_BYTES)?;
    let bridge = Arc::new(Bridge(Mutex::new(Shared {
        items: VecDeque::new(),
        bytes: 0,
        charge,
        resume_at: 0,
        writer: Side::default(),
        reader: Side::default(),
    })));
    Ok((BridgeWriter(bridge.clone()), BridgeReader(bridge)))
}

/// The end of a bridge that the writer's store has. Dropping it ends the stream.
pub struct BridgeWriter<T: BridgeItem>(Arc<Bridge<T>>);

impl<T: BridgeItem> BridgeWriter<T> {
    /// Waits until there is room. Returns for how many bytes of items: at least 1, and at most
    /// `wanted`, which is `None` if their sizes are not known yet. Returns `None` if the reader is
    /// gone.
    pub fn poll_room(&mut self, context: &Context<'_>, wanted: Option<u64>) -> Poll<Option<u64>> {
        let mut shared = self.0.lock();
        if shared.reader.gone {
            return Poll::Ready(None);
        }
        let room = match wanted {
            Some(wanted) => shared.room(wanted.max(1)),
            None => shared.room_for_any(),
        };
        if room > 0 {
            return Poll::Ready(Some(room));
        }
        shared.resume_at = shared.bytes / 2;
        shared.writer.wait(context);
        Poll::Pending
    }

    /// Adds items. `add` puts them at the back of the queue, whose lock it runs under. There was
    /// [room](BridgeWriter::poll_room) for them, except for a part of the last one. If the reader
    /// is gone, they are dropped.
    ///
    /// # Errors
    ///
    /// [`Exhausted`], if the account does not have the rest of the last one, which is dropped.
    pub fn push(&mut self, add: impl FnOnce(&mut VecDeque<T>)) -> Result<(), Exhausted> {
        let mut shared = self.0.lock();
        let before = shared.items.len();
        add(&mut shared.items);
        if shared.reader.gone {
            let dropped = take(&mut shared.items);
            drop(shared);
            drop(dropped);
            return Ok(());
        }
        let added: u64 = shared.items.range(before..).map(T::bytes).sum();
        let mut bytes = shared.bytes.saturating_add(added);
        let (mut refused, mut result) = (None, Ok(()));
        if let Err(exhausted) = shared.charge_for(bytes) {
            // The charge is still that of the room.
            refused = shared.items.pop_back();
            bytes = bytes.saturating_sub(refused.as_ref().map_or(0, T::bytes));
            result = Err(exhausted);
        }
        shared.bytes = bytes;
        let waker = shared.reader.waker.take();
        drop(shared);
        wake(waker);
        drop(refused);
        result
    }
}

impl<T: BridgeItem> Drop for BridgeWriter<T> {
    fn drop(&mut self) {
        let mut shared = self.0.lock();
        shared.writer.gone = true;
        shared.writer.waker = None;
        let waker = shared.reader.waker.take();
        drop(shared);
        wake(waker);
    }
}

/// The end of a bridge that the reader's store has. Dropping it drops the items, and tells the
/// writer.
pub struct BridgeReader<T: BridgeItem>(Arc<Bridge<T>>);

impl<T: BridgeItem> BridgeReader<T> {
    /// Waits until there is an item. Returns how many there are, or `None` if there are none and
    /// the writer is gone.
    pub fn poll_items(&mut self, context: &Context<'_>) -> Poll<Option<usize>> {
        let mut shared = self.0.lock();
        match (shared.items.len(), shared.writer.gone) {
            (0, true) => Poll::Ready(None),
            (0, false) => {
                shared.reader.wait(context);
                Poll::Pending
            }
            (items, _) => Poll::Ready(Some(items)),
        }
    }

    /// Takes this many items from the front of the queue, or all if there are fewer. `take` gets
    /// the queue, whose lock it runs under, and how many items to remove at its front.
    pub fn take<R>(&mut self, count: usize, take: impl FnOnce(&mut VecDeque<T>, usize) -> R) -> R {
        let mut shared = self.0.lock();
        let count = count.min(shared.items.len());
        let bytes: u64 = shared.items.range(..count).map(T::bytes).sum();
        let taken = take(&mut shared.items, count);
        shared.bytes = shared.bytes.saturating_sub(bytes);
        shared.give_back();
        let waker = match shared.bytes <= shared.resume_at {
            true => shared.writer.waker.take(),
            false => None,
        };
        drop(shared);
        wake(waker);
        taken
    }
}

impl<T: BridgeItem> Drop for BridgeReader<T> {
    fn drop(&mut self) {
        let mut shared = self.0.lock();
        shared.reader.gone = true;
        shared.reader.waker = None;
        shared.bytes = 0;
        let items = take(&mut shared.items);
        shared.give_back();
        let waker = shared.writer.waker.take();
        drop(shared);
        // Items may have locks of their own.
        drop(items);
        wake(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use tombolo_region::Quota;

    /// An item of any size, which counts those that are there.
    struct Large(u64, Arc<AtomicUsize>);

    impl Large {
        fn new(bytes: u64, alive: &Arc<AtomicUsize>) -> Large {
            alive.fetch_add(1, Ordering::Relaxed);
            Large(bytes, alive.clone())
        }
    }

    impl Drop for Large {
        fn drop(&mut self) {
            self.1.fetch_sub(1, Ordering::Relaxed);
        }
    }

    impl BridgeItem for Large {
        fn bytes(&self) -> u64 {
            self.0
        }
    }

    /// Counts how often it wakes.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Count>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Count {
        fn get(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn account(host_memory: u64) -> Arc<Account> {
        let quota = Quota {
            regions: 0,
            claimed_bytes: 0,
            handles: 0,
            windows: 0,
            unpinned_spans: 0,
            host_memory,
        };
        Account::new("guest `a`", quota)
    }

    fn used(account: &Arc<Account>) -> u64 {
        account.used(ChargeKind::HostMemory)
    }

    /// Writes as many bytes as have room. Returns how many.
    fn fill(writer: &mut BridgeWriter<u8>, context: &Context<'_>) -> usize {
        let mut all = 0;
        while let Poll::Ready(Some(room)) = writer.poll_room(context, Some(u64::MAX)) {
            let room = usize::try_from(room).unwrap();
            writer
                .push(|items| items.extend(std::iter::repeat_n(7, room)))
                .unwrap();
            all += room;
        }
        all
    }

    fn read(reader: &mut BridgeReader<u8>, count: usize) -> usize {
        reader.take(count, |items, count| items.drain(..count).count())
    }

    // rule 10
    #[test]
    fn full_bridge_makes_its_writer_wait() {
        let account = account(1 << 20);
        let (mut writer, mut reader) = bridge(&account).unwrap();
        let wakes = Arc::new(Count::default());
        let waker = wakes.clone().into();
        let context = Context::from_waker(&waker);
        let most = usize::try_from(MOST_BYTES).unwrap();
        assert_eq!(fill(&mut writer, &context), most);
        assert_eq!(used(&account), MOST_BYTES + OVERHEAD_BYTES);
        // Not for each byte: when half of it is free.
        assert_eq!(read(&mut reader, most / 2 - 1), most / 2 - 1);
        assert_eq!(wakes.get(), 0);
        assert_eq!(read(&mut reader, 1), 1);
        assert_eq!(wakes.get(), 1);
        assert_eq!(fill(&mut writer, &context), most / 2);
        assert_eq!(read(&mut reader, usize::MAX), most);
        assert_eq!(used(&account), LEAST_BYTES + OVERHEAD_BYTES);
        drop((writer, reader));
        assert_eq!(used(&account), 0);
    }

    // rule 10
    #[test]
    fn bridge_goes_on_without_more_memory() {
        let account = account(LEAST_BYTES + OVERHEAD_BYTES);
        let (mut writer, mut reader) = bridge(&account).unwrap();
        assert!(bridge::<u8>(&account).is_err());
        let context = Context::from_waker(Waker::noop());
        let least = usize::try_from(LEAST_BYTES).unwrap();
        for _ in 0..3 {
            assert_eq!(fill(&mut writer, &context), least);
            assert!(writer.poll_room(&context, None).is_pending());
            assert_eq!(read(&mut reader, usize::MAX), least);
            // One item of any size.
            assert_eq!(writer.poll_room(&context, None), Poll::Ready(Some(1)));
        }
    }

    // rule 10
    #[test]
    fn item_over_the_limit_is_not_kept() {
        let account = account(MOST_BYTES * 4);
        let (mut writer, mut reader) = bridge(&account).unwrap();
        let context = Context::from_waker(Waker::noop());
        let alive = Arc::default();
        let push = |writer: &mut BridgeWriter<Large>, bytes| {
            writer.push(|items| items.push_back(Large::new(bytes, &alive)))
        };
        // Larger than a bridge holds otherwise.
        push(&mut writer, MOST_BYTES * 2).unwrap();
        assert!(writer.poll_room(&context, None).is_pending());
        assert_eq!(reader.poll_items(&context), Poll::Ready(Some(1)));
        reader.take(1, |items, _| items.pop_front());
        let room = writer.poll_room(&context, None);
        assert_eq!(room, Poll::Ready(Some(MOST_BYTES)));
        // Those before it are kept.
        let both = writer.push(|items| {
            items.push_back(Large::new(1, &alive));
            items.push_back(Large::new(MOST_BYTES * 4, &alive));
        });
        assert!(both.is_err());
        assert_eq!(alive.load(Ordering::Relaxed), 1);
        assert_eq!(reader.poll_items(&context), Poll::Ready(Some(1)));
    }

    #[test]
    fn writers_end_comes_after_its_items() {
        let account = account(1 << 20);
        let (mut writer, mut reader) = bridge(&account).unwrap();
        let wakes = Arc::new(Count::default());
        let waker = wakes.clone().into();
        let context = Context::from_waker(&waker);
        assert!(reader.poll_items(&context).is_pending());
        writer.push(|items| items.push_back(1)).unwrap();
        assert_eq!(wakes.get(), 1);
        drop(writer);
        assert_eq!(reader.poll_items(&context), Poll::Ready(Some(1)));
        assert_eq!(read(&mut reader, 9), 1);
        assert_eq!(reader.poll_items(&context), Poll::Ready(None));
    }

    #[test]
    fn waiting_reader_learns_of_the_writers_end() {
        let account = account(1 << 20);
        let (writer, mut reader) = bridge::<u8>(&account).unwrap();
        let wakes = Arc::new(Count::default());
        let waker = wakes.clone().into();
        assert!(reader.poll_items(&Context::from_waker(&waker)).is_pending());
        drop(writer);
        assert_eq!(wakes.get(), 1);
    }

    // rule 10
    #[test]
    fn readers_end_frees_the_items_at_once() {
        let account = account(1 << 20);
        let (mut writer, reader) = bridge(&account).unwrap();
        let wakes = Arc::new(Count::default());
        let waker = wakes.clone().into();
        let context = Context::from_waker(&waker);
        let alive = Arc::default();
        let mut push = |bytes| writer.push(|items| items.push_back(Large::new(bytes, &alive)));
        push(MOST_BYTES).unwrap();
        drop(reader);
        assert_eq!(alive.load(Ordering::Relaxed), 0);
        assert_eq!(used(&account), LEAST_BYTES + OVERHEAD_BYTES);
        push(1).unwrap();
        assert_eq!(alive.load(Ordering::Relaxed), 0);
        assert_eq!(writer.poll_room(&context, None), Poll::Ready(None));
    }

    #[test]
    fn waiting_writer_learns_of_the_readers_end() {
        let account = account(1 << 20);
        let (mut writer, reader) = bridge(&account).unwrap();
        let wakes = Arc::new(Count::default());
        let waker = wakes.clone().into();
        fill(&mut writer, &Context::from_waker(&waker));
        drop(reader);
        assert_eq!(wakes.get(), 1);
    }
}
