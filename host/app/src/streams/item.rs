//! The items that streams and futures carry from guest to guest.

use std::collections::VecDeque;

use wasmtime::component::{
    Destination, Lift, Lower, ReadBuffer, Resource, Source, StreamResult, VecBuffer, WriteBuffer,
};
use wasmtime::{AsContextMut, StoreContextMut};

use tombolo::internal::{PackedRegions, RecipientInternals as _, RegionErrorInternals as _};
use tombolo::{Borrowed, Lending, PackError, Recipient, Region, RegionError, RegionView};
use tombolo_exchange::{BridgeItem, BridgeReader, BridgeWriter};
use tombolo_region::{ChargeKind, Exhausted};

/// The bytes of a bridge that a region takes. So one has 16 regions at most.
const REGION_BYTES: u64 = 4 << 10;

/// The default of wasmtime for how many bytes one call may lift.
const MAX_LIFTED: u64 = 128 << 20;

/// The most items that the host takes at once if it reads a stream itself, to pass it on.
const HOST_ITEMS: usize = 256;

/// Why an item does not pass.
pub(super) enum ItemError {
    /// It was refused, for this reason, which is for the reader. The stream ends.
    Refused(String),
    /// The guest whose store is in use cannot go on.
    Fatal(wasmtime::Error),
}

impl From<wasmtime::Error> for ItemError {
    fn from(error: wasmtime::Error) -> ItemError {
        ItemError::Fatal(error)
    }
}

impl From<PackError> for ItemError {
    fn from(error: PackError) -> ItemError {
        let told = error.for_receiver();
        match error {
            PackError::Fatal(error) => ItemError::Fatal(error),
            refused => {
                let refused = wasmtime::Error::from(refused);
                tracing::info!("an item of a stream cannot be passed: {refused:#}");
                ItemError::Refused(told)
            }
        }
    }
}

impl From<Exhausted> for ItemError {
    fn from(exhausted: Exhausted) -> ItemError {
        tracing::info!("an item of a stream cannot be passed: {exhausted}");
        ItemError::Refused(RegionError::from(exhausted).for_others())
    }
}

/// A type of items.
pub(super) trait Item: Sized + Send + 'static {
    /// The item in a store, as wasmtime lifts and lowers it.
    type Wire: Lift + Lower + Send + Sync + 'static;
    /// The item in a bridge.
    type Kept: BridgeItem;

    /// Takes an item out of the writer's store, for this receiver.
    fn keep<D: RegionView>(
        wire: Self::Wire,
        store: &mut StoreContextMut<'_, D>,
        to: &Recipient,
    ) -> Result<Self::Kept, ItemError>;

    /// Puts an item into the reader's store.
    fn give<D: RegionView>(
        kept: Self::Kept,
        store: &mut StoreContextMut<'_, D>,
    ) -> Result<Self::Wire, ItemError>;

    /// Returns the item that tells the reader why there is no other one, if there is such an item.
    fn failure(_why: &str) -> Option<Self::Kept> {
        None
    }

    /// Checks that the receiver has room for an item, as far as that can be known before there is
    /// one.
    fn check_room(_to: &Recipient) -> Result<(), ItemError> {
        Ok(())
    }

    /// Returns how many bytes of a bridge this many items take, if they are of one size.
    fn wanted(_items: usize) -> Option<u64> {
        None
    }

    /// Moves items out of the writer's memory into the bridge, which has this many bytes of room.
    /// There is at least one item.
    fn consume<D: RegionView>(
        store: &mut StoreContextMut<'_, D>,
        source: &mut Source<'_, Self::Wire>,
        (writer, room): (&mut BridgeWriter<Self::Kept>, u64),
        to: &Recipient,
    ) -> Result<StreamResult, ItemError> {
        let mut kept = VecDeque::new();
        let result = keep_each::<Self, D>(store, source, (&mut kept, room), to);
        writer.push(|items| items.append(&mut kept))?;
        result
    }

    /// Moves items out of the bridge, which has this many, into the reader's memory.
    fn produce<D: RegionView>(
        store: &mut StoreContextMut<'_, D>,
        destination: &mut Destination<'_, Self::Wire, VecBuffer<Self::Wire>>,
        (reader, items): (&mut BridgeReader<Self::Kept>, usize),
    ) -> Result<StreamResult, ItemError> {
        let most = destination.remaining(&mut *store).unwrap_or(HOST_ITEMS);
        let kept: Vec<_> = reader.take(most, |items, count| items.drain(..count).collect());
        let mut wires = Vec::with_capacity(items.min(most));
        let mut result = StreamResult::Completed;
        for kept in kept {
            match Self::give(kept, store) {
                Ok(wire) => wires.push(wire),
                Err(ItemError::Refused(_)) => {
                    result = StreamResult::Dropped;
                    break;
                }
                Err(fatal) => return Err(fatal),
            }
        }
        destination.set_buffer(wires.into());
        Ok(result)
    }
}

/// Takes items out of the writer's memory one by one, because their sizes are known only then.
fn keep_each<I: Item, D: RegionView>(
    store: &mut StoreContextMut<'_, D>,
    source: &mut Source<'_, I::Wire>,
    (all, room): (&mut VecDeque<I::Kept>, u64),
    to: &Recipient,
) -> Result<StreamResult, ItemError> {
    let mut left = room;
    while left > 0 && source.remaining(&mut *store) > 0 {
        I::check_room(to)?;
        let Some(wire) = lift_one(store, source)? else {
            break;
        };
        let kept = match I::keep(wire, store, to) {
            Err(ItemError::Refused(why)) => I::failure(&why).ok_or(ItemError::Refused(why))?,
            kept => kept?,
        };
        left = left.saturating_sub(kept.bytes());
        all.push_back(kept);
    }
    Ok(StreamResult::Completed)
}

/// Lifts one item, of at most the host memory that the writer's account has left.
pub(super) fn lift_one<T: Lift + Send + Sync + 'static, D: RegionView>(
    store: &mut StoreContextMut<'_, D>,
    source: &mut Source<'_, T>,
) -> wasmtime::Result<Option<T>> {
    let recipient = store.data_mut().region_ctx().recipient();
    let account = &recipient.owner().account;
    let used = account.used(ChargeKind::HostMemory);
    let left = account.most(ChargeKind::HostMemory).saturating_sub(used);
    let fuel = usize::try_from(left.min(MAX_LIFTED)).unwrap_or(usize::MAX);
    let before = store.hostcall_fuel();
    store.set_hostcall_fuel(fuel);
    let mut wire = None;
    let read = source.read(&mut *store, &mut wire);
    store.set_hostcall_fuel(before);
    read.map(|()| wire)
}

/// Bytes, which are copied straight from memory to the bridge, and from there to memory.
impl Item for u8 {
    type Wire = u8;
    type Kept = u8;

    fn keep<D: RegionView>(
        wire: u8,
        _: &mut StoreContextMut<'_, D>,
        _: &Recipient,
    ) -> Result<u8, ItemError> {
        Ok(wire)
    }

    fn give<D: RegionView>(kept: u8, _: &mut StoreContextMut<'_, D>) -> Result<u8, ItemError> {
        Ok(kept)
    }

    fn wanted(items: usize) -> Option<u64> {
        Some(items as u64)
    }

    fn consume<D: RegionView>(
        store: &mut StoreContextMut<'_, D>,
        source: &mut Source<'_, u8>,
        (writer, room): (&mut BridgeWriter<u8>, u64),
        _: &Recipient,
    ) -> Result<StreamResult, ItemError> {
        let mut direct = source.reborrow().as_direct(store.as_context_mut());
        let bytes = direct.remaining();
        let count = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let bytes = &bytes[..count];
        writer.push(|items| {
            items.reserve_exact(count);
            items.extend(bytes);
        })?;
        direct.mark_read(count);
        Ok(StreamResult::Completed)
    }

    fn produce<D: RegionView>(
        store: &mut StoreContextMut<'_, D>,
        destination: &mut Destination<'_, u8, VecBuffer<u8>>,
        (reader, items): (&mut BridgeReader<u8>, usize),
    ) -> Result<StreamResult, ItemError> {
        let mut direct = destination
            .reborrow()
            .as_direct(store.as_context_mut(), items);
        let into = direct.remaining();
        let count = reader.take(into.len(), |items, count| {
            let (front, back) = items.as_slices();
            let first = front.len().min(count);
            into[..first].copy_from_slice(&front[..first]);
            into[first..count].copy_from_slice(&back[..count - first]);
            items.drain(..count);
            count
        });
        direct.mark_written(count);
        Ok(StreamResult::Completed)
    }
}

/// A buffer for wasmtime with room for so many items.
struct Limited<T> {
    items: Vec<T>,
    room: usize,
}

impl<T: Send + Sync + 'static> ReadBuffer<T> for Limited<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, iter: I) {
        Extend::extend(&mut self.items, iter);
    }

    fn remaining_capacity(&self) -> usize {
        self.room.saturating_sub(self.items.len())
    }

    fn move_from(&mut self, input: &mut dyn WriteBuffer<T>, count: usize) {
        self.items.reserve(count);
        self.items.move_from(input, count);
    }
}

/// Implements items of one size, which pass as they are.
macro_rules! scalars {
    ($($ty:ty),*) => {$(
        impl Item for $ty {
            type Wire = $ty;
            type Kept = $ty;

            fn keep<D: RegionView>(
                wire: $ty,
                _: &mut StoreContextMut<'_, D>,
                _: &Recipient,
            ) -> Result<$ty, ItemError> {
                Ok(wire)
            }

            fn give<D: RegionView>(
                kept: $ty,
                _: &mut StoreContextMut<'_, D>,
            ) -> Result<$ty, ItemError> {
                Ok(kept)
            }

            fn wanted(items: usize) -> Option<u64> {
                Some((items as u64).saturating_mul(<$ty>::default().bytes()))
            }

            fn consume<D: RegionView>(
                store: &mut StoreContextMut<'_, D>,
                source: &mut Source<'_, $ty>,
                (writer, room): (&mut BridgeWriter<$ty>, u64),
                _: &Recipient,
            ) -> Result<StreamResult, ItemError> {
                let most = (room / <$ty>::default().bytes()).max(1);
                let room = source
                    .remaining(&mut *store)
                    .min(usize::try_from(most).unwrap_or(usize::MAX));
                let items = Vec::with_capacity(room);
                let mut lifted = Limited { items, room };
                source.read(&mut *store, &mut lifted)?;
                writer.push(|items| items.extend(lifted.items))?;
                Ok(StreamResult::Completed)
            }
        }
    )*};
}

scalars!((), bool, i8, u16, i16, u32, i32, u64, i64, f32, f64, char);

/// Implements items of any size that pass as they are.
macro_rules! plain {
    ($($ty:ty $(, $failure:expr)?;)*) => {$(
        impl Item for $ty {
            type Wire = $ty;
            type Kept = $ty;

            fn keep<D: RegionView>(
                wire: $ty,
                _: &mut StoreContextMut<'_, D>,
                _: &Recipient,
            ) -> Result<$ty, ItemError> {
                Ok(wire)
            }

            fn give<D: RegionView>(
                kept: $ty,
                _: &mut StoreContextMut<'_, D>,
            ) -> Result<$ty, ItemError> {
                Ok(kept)
            }

            $(
                fn failure(why: &str) -> Option<$ty> {
                    let failure: fn(&str) -> $ty = $failure;
                    Some(failure(why))
                }
            )?
        }
    )*};
}

plain! {
    String;
    Vec<u8>;
    Result<(), ()>;
    Result<(), String>, |why| Err(why.to_owned());
    Result<String, String>, |why| Err(why.to_owned());
    Result<Vec<u8>, String>, |why| Err(why.to_owned());
}

/// A region in a bridge, charged to a receiver.
pub(super) struct MovedRegion(PackedRegions);

impl BridgeItem for MovedRegion {
    fn bytes(&self) -> u64 {
        REGION_BYTES
    }
}

/// Regions, which move: no guest has them while they are in a bridge.
impl Item for Region {
    type Wire = Resource<Region>;
    type Kept = MovedRegion;

    fn keep<D: RegionView>(
        wire: Resource<Region>,
        store: &mut StoreContextMut<'_, D>,
        to: &Recipient,
    ) -> Result<MovedRegion, ItemError> {
        let (mut regions, mut lending) = (PackedRegions::default(), Lending::default());
        regions.pack(&mut *store, [wire], to, &mut lending)?;
        Ok(MovedRegion(regions))
    }

    fn give<D: RegionView>(
        MovedRegion(regions): MovedRegion,
        store: &mut StoreContextMut<'_, D>,
    ) -> Result<Resource<Region>, ItemError> {
        // It was sent to the guest that has passed the stream on.
        let regions = regions.readdressed(&store.data_mut().region_ctx().recipient())?;
        let (mut handle, mut borrowed) = (None, Borrowed::default());
        regions.unpack(&mut *store, &mut borrowed, |region| handle = Some(region))?;
        handle.ok_or_else(|| ItemError::Fatal(wasmtime::Error::msg("a region is missing")))
    }

    fn check_room(to: &Recipient) -> Result<(), ItemError> {
        let account = &to.owner().account;
        for kind in [ChargeKind::Handles, ChargeKind::Regions] {
            drop(account.charge(kind, 1)?);
        }
        Ok(())
    }

    fn wanted(items: usize) -> Option<u64> {
        Some((items as u64).saturating_mul(REGION_BYTES))
    }
}

/// Regions with an error text in their place.
impl Item for Result<Region, String> {
    type Wire = Result<Resource<Region>, String>;
    type Kept = Result<MovedRegion, String>;

    fn keep<D: RegionView>(
        wire: Self::Wire,
        store: &mut StoreContextMut<'_, D>,
        to: &Recipient,
    ) -> Result<Self::Kept, ItemError> {
        Ok(match wire {
            Ok(region) => Ok(<Region as Item>::keep(region, store, to)?),
            Err(why) => Err(why),
        })
    }

    fn give<D: RegionView>(
        kept: Self::Kept,
        store: &mut StoreContextMut<'_, D>,
    ) -> Result<Self::Wire, ItemError> {
        Ok(match kept {
            Ok(region) => Ok(<Region as Item>::give(region, store)?),
            Err(why) => Err(why),
        })
    }

    fn failure(why: &str) -> Option<Self::Kept> {
        Some(Err(why.to_owned()))
    }

    fn check_room(to: &Recipient) -> Result<(), ItemError> {
        <Region as Item>::check_room(to)
    }
}
