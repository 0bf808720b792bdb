use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, Deref, RangeBounds};
use std::sync::OnceLock;

use crate::access::sealed::Kind;
use crate::access::{Access, Live, Read, Write};
use crate::bindings::regions::Region as Handle;
use crate::bindings::{pins, waits};
use crate::error::Error;
use crate::ledger::{self, Claim, Count};
use crate::lend::{Lent, Windows};
use crate::live::{LiveReadWindow, LiveWindow, LiveWriteWindow};
use crate::pins::Pinned;
use crate::pollable::Pollable;
use crate::regions::Rights;
use crate::sys::{self, Mapping};
use crate::window::{ReadWindow, Window, WriteWindow};

/// A handle to a region: named, sized memory that guests share.
///
/// It reaches the region's bytes through windows ([`try_read`],
/// [`try_write`]) or by copying ([`read_at`], [`write_at`]). Dropping it
/// gives the handle back; a region lives for as long as somebody has a handle
/// to it or a window on it.
///
/// Generated bindings take `&Region` for `borrow<region>`, which lends it, and
/// `Region` for `region`, which moves it. See [lending] for how windows and
/// lends go together.
///
/// [`try_read`]: Region::try_read
/// [`try_write`]: Region::try_write
/// [`read_at`]: Region::read_at
/// [`write_at`]: Region::write_at
/// [lending]: crate#lending
pub struct Region {
    handle: Handle,
    /// Unset until somebody asks, in what generated bindings received.
    claim: OnceLock<Claim>,
    /// Windows that a lend through this very value sets aside; see [`Lent`].
    set_aside: Count,
}

impl Region {
    /// Creates a region of `size` bytes, all zero and pinned, and a handle to it
    /// with all rights.
    ///
    /// The name is a label for people, not an identity: equal names are
    /// distinct regions. It has 1 to 200 bytes, without NUL. The size never
    /// changes.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for such a name or size, [`Error::Exhausted`]
    /// for a limit, or if the host's budget has no room for it.
    pub fn create(name: &str, size: u64) -> Result<Self, Error> {
        Ok(Self::made(Handle::create(name, size, true)?))
    }

    /// Creates a region as [`create`](Region::create) does, but unpinned: it costs
    /// nothing until it is [pinned](Region::pin), in part or as a whole.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`], [`Error::Exhausted`] for a limit.
    pub fn create_unpinned(name: &str, size: u64) -> Result<Self, Error> {
        Ok(Self::made(Handle::create(name, size, false)?))
    }

    /// Wraps a handle that stands for a claim of its own.
    pub(crate) fn made(handle: Handle) -> Self {
        Self {
            handle,
            claim: OnceLock::from(Claim::made()),
            set_aside: Count::default(),
        }
    }

    /// Wraps a handle that came from elsewhere.
    pub(crate) fn received(handle: Handle) -> Self {
        Self {
            handle,
            claim: OnceLock::new(),
            set_aside: Count::default(),
        }
    }

    /// Gives the handle away, to move it: no window or restricted handle borrows
    /// from it.
    pub(crate) fn into_inner(self) -> Handle {
        self.handle
    }

    /// The region's identity: equal for all handles to one region, and never
    /// used again by the same host. It tells nothing about other regions.
    pub fn id(&self) -> u64 {
        self.handle.id()
    }

    /// The name that the region was created with.
    pub fn name(&self) -> String {
        self.handle.name()
    }

    /// The size in bytes, as it was created with.
    pub fn size(&self) -> u64 {
        self.handle.size()
    }

    /// What this handle lets its holder do.
    pub fn rights(&self) -> Rights {
        self.handle.rights()
    }

    /// Makes a new claim on the same region, with the named rights, to keep it
    /// or to move it to another guest. Needs [`Rights::SHARE`]. The new claim pins
    /// what this one pins, and is told of losses that this one was not told of.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`] for rights that this handle lacks, and for a
    /// lent handle; [`Error::Gone`]; [`Error::Exhausted`].
    pub fn duplicate(&self, rights: Rights) -> Result<Self, Error> {
        Ok(Self::made(self.handle.duplicate(rights)?))
    }

    /// Makes a weaker handle on the same claim, to lend it. It never has
    /// [`Rights::SHARE`], and while it lives this one cannot be moved.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`] for rights that this handle lacks;
    /// [`Error::Gone`]; [`Error::Exhausted`].
    pub fn restrict(&self, rights: Rights) -> Result<Restricted<'_>, Error> {
        Ok(Restricted {
            region: Self {
                handle: self.handle.restrict(rights)?,
                claim: OnceLock::from(self.claim()),
                set_aside: Count::default(),
            },
            first: PhantomData,
        })
    }

    /// Makes the region immutable, for everybody and for good. Needs
    /// [`Rights::WRITE`]. Freezing what is frozen changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] while anybody, this guest included, has a window on
    /// the region that can write; [`Error::Unpinned`] unless the claim pins the
    /// whole region; [`Error::NotPermitted`], also for a lent handle;
    /// [`Error::Poisoned`]; [`Error::Purged`]; [`Error::Gone`].
    pub fn freeze(&self) -> Result<(), Error> {
        Ok(self.handle.freeze()?)
    }

    /// Declares the contents whole again after a writer died. Needs
    /// [`Rights::WRITE`]. Clearing what is not poisoned changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`], [`Error::Gone`].
    pub fn clear_poison(&self) -> Result<(), Error> {
        Ok(self.handle.clear_poison()?)
    }

    /// Copies `length` bytes out, from `offset` on; at most 16 MiB at a time
    /// unless the host says otherwise. Needs [`Rights::READ`]. Works on every
    /// host, also on one that cannot map.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if the span leaves the region,
    /// [`Error::Exhausted`] for a length over the limit; [`Error::WouldBlock`]
    /// if anybody, this guest included, has a `write` window there;
    /// [`Error::Poisoned`]; [`Error::NotPermitted`]; [`Error::Gone`].
    pub fn read_at(&self, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        Ok(self.handle.read_at(offset, length)?)
    }

    /// Copies bytes in, from `offset` on; at most 16 MiB at a time unless the
    /// host says otherwise. Needs [`Rights::WRITE`]. Works on every host, also
    /// on one that cannot map.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if the span leaves the region,
    /// [`Error::Exhausted`] for more bytes than the limit;
    /// [`Error::WouldBlock`] if anybody, this guest included, has a window
    /// there; [`Error::Frozen`]; [`Error::Poisoned`]; [`Error::NotPermitted`];
    /// [`Error::Gone`].
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.handle.write_at(offset, bytes)?)
    }

    /// Shows a part of the region in this guest's memory, to read it: nobody
    /// writes there while the window lives. Needs [`Rights::READ`].
    ///
    /// The range is in bytes, `..` for the whole region; it begins at a
    /// multiple of [`GRANULE`](crate::GRANULE) and may end anywhere. The lock
    /// covers whole granules.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] if anybody, this guest included, has a `write`
    /// window there; [`Error::InvalidArgument`] for an empty range;
    /// [`Error::Misaligned`]; [`Error::OutOfBounds`]; [`Error::Unpinned`];
    /// [`Error::Poisoned`]; [`Error::Purged`]; [`Error::NotPermitted`]; [`Error::Gone`]; [`Error::Exhausted`] for a
    /// limit, or if the range does not fit into this guest's memory;
    /// [`Error::Unsupported`] on a host that cannot map.
    pub fn try_read(&self, range: impl RangeBounds<u64>) -> Result<ReadWindow<'_>, Error> {
        self.window::<Read>(range)
    }

    /// Shows a part of the region in this guest's memory, to read and write it:
    /// nobody else sees it while the window lives. Needs [`Rights::WRITE`].
    ///
    /// The range is as for [`try_read`](Region::try_read).
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] if anybody, this guest included, has a window
    /// there; [`Error::Frozen`]; and those of
    /// [`try_read`](Region::try_read).
    pub fn try_write(&self, range: impl RangeBounds<u64>) -> Result<WriteWindow<'_>, Error> {
        self.window::<Write>(range)
    }

    /// As [`try_read`](Region::try_read), but waits for its turn where that
    /// would block. While a guest waits, others run, and it takes no calls.
    ///
    /// Drop this guest's own windows on these bytes that conflict before: they
    /// count as well, and nobody else drops them.
    ///
    /// # Errors
    ///
    /// Those of `try_read`, without [`Error::WouldBlock`].
    pub fn read(&self, range: impl RangeBounds<u64>) -> Result<ReadWindow<'_>, Error> {
        self.window_waiting::<Read>(range)
    }

    /// As [`try_write`](Region::try_write), but waits for its turn; see
    /// [`read`](Region::read). Readers who come and
    /// go do not keep it waiting.
    ///
    /// # Errors
    ///
    /// Those of `try_write`, without [`Error::WouldBlock`].
    pub fn write(&self, range: impl RangeBounds<u64>) -> Result<WriteWindow<'_>, Error> {
        self.window_waiting::<Write>(range)
    }

    /// Shows a part of the region in this guest's memory, to read it while other
    /// guests of the strand write to it by [live windows](LiveWindow) of their own.
    /// Needs [`Rights::READ`].
    ///
    /// The range is as for [`try_read`](Region::try_read).
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] if anybody has a window there that is not live, or this
    /// guest has any; [`Error::Unsupported`] where live windows are refused, such as
    /// on bytes that have live windows in another strand: the text says why;
    /// [`Error::Frozen`]; and those of [`try_read`](Region::try_read).
    pub fn try_live_read(&self, range: impl RangeBounds<u64>) -> Result<LiveReadWindow<'_>, Error> {
        self.live_window(range)
    }

    /// As [`try_live_read`](Region::try_live_read), to read and write. Needs
    /// [`Rights::WRITE`] as well.
    ///
    /// # Errors
    ///
    /// Those of `try_live_read`.
    pub fn try_live_write(
        &self,
        range: impl RangeBounds<u64>,
    ) -> Result<LiveWriteWindow<'_>, Error> {
        self.live_window(range)
    }

    /// As [`try_live_read`](Region::try_live_read), but waits for its turn where
    /// that would block; see [`read`](Region::read).
    ///
    /// # Errors
    ///
    /// Those of `try_live_read`, without [`Error::WouldBlock`].
    pub fn live_read(&self, range: impl RangeBounds<u64>) -> Result<LiveReadWindow<'_>, Error> {
        self.live_window_waiting(range)
    }

    /// As [`try_live_write`](Region::try_live_write), but waits for its turn;
    /// see [`read`](Region::read).
    ///
    /// # Errors
    ///
    /// Those of `try_live_write`, without [`Error::WouldBlock`].
    pub fn live_write(&self, range: impl RangeBounds<u64>) -> Result<LiveWriteWindow<'_>, Error> {
        self.live_window_waiting(range)
    }

    /// Waits for a window to read: an event that is ready when it is this claim's
    /// turn to have one, or when waiting is of no use any more. Try then, while
    /// the event is kept: the bytes are reserved for a tenth of a second. Works
    /// for [`read_at`](Region::read_at) as well.
    ///
    /// A claim waits for one window at a time: waiting for another one makes the
    /// first event ready. Dropping the event gives the turn to the next.
    ///
    /// # Errors
    ///
    /// What waiting does not cure: those of
    /// [`try_read`](Region::try_read) without [`Error::WouldBlock`] and
    /// [`Error::Exhausted`].
    pub fn readable(&self, range: impl RangeBounds<u64>) -> Result<Pollable, Error> {
        self.when::<Read>(range)
    }

    /// As [`readable`](Region::readable), for a window to write.
    ///
    /// # Errors
    ///
    /// As `readable`, and [`Error::Frozen`].
    pub fn writable(&self, range: impl RangeBounds<u64>) -> Result<Pollable, Error> {
        self.when::<Write>(range)
    }

    fn when<K: Kind>(&self, range: impl RangeBounds<u64>) -> Result<Pollable, Error> {
        let (start, len) = span(range, self.size())?;
        let len = len.next_multiple_of(crate::GRANULE);
        let pollable = waits::subscribe(&self.handle, start, len, K::CODE)?;
        Ok(Pollable::new(pollable))
    }

    fn window<A: Access>(&self, range: impl RangeBounds<u64>) -> Result<Window<'_, A>, Error> {
        let (start, mapping) = self.map(range)?;
        Ok(Window::new(self, start, mapping))
    }

    fn window_waiting<A: Access>(
        &self,
        range: impl RangeBounds<u64>,
    ) -> Result<Window<'_, A>, Error> {
        let (start, mapping) = self.map_waiting(range)?;
        Ok(Window::new(self, start, mapping))
    }

    fn live_window<A: Access>(
        &self,
        range: impl RangeBounds<u64>,
    ) -> Result<LiveWindow<'_, A>, Error> {
        let (start, mapping) = self.map::<Live<A>>(range)?;
        Ok(LiveWindow::new(self, start, mapping))
    }

    fn live_window_waiting<A: Access>(
        &self,
        range: impl RangeBounds<u64>,
    ) -> Result<LiveWindow<'_, A>, Error> {
        let (start, mapping) = self.map_waiting::<Live<A>>(range)?;
        Ok(LiveWindow::new(self, start, mapping))
    }

    /// Maps a range, and says where it begins.
    fn map<K: Kind>(&self, range: impl RangeBounds<u64>) -> Result<(u64, Mapping<K>), Error> {
        let (start, len) = span(range, self.size())?;
        Ok((start, Mapping::new(&self.handle, start, len)?))
    }

    fn map_waiting<K: Kind>(
        &self,
        range: impl RangeBounds<u64>,
    ) -> Result<(u64, Mapping<K>), Error> {
        let (start, len) = span(range, self.size())?;
        let range = start..start + len;
        let mut mapped = self.map(range.clone());
        while let Err(Error::WouldBlock) = mapped {
            let turn = self.when::<K>(range.clone())?;
            turn.wait();
            mapped = self.map(range.clone());
        }
        mapped
    }

    /// Pins bytes: this guest needs them, and they stay until it unpins them.
    /// Says whether any of those that it had unpinned were lost, once; what is
    /// lost reads as zeros.
    ///
    /// The range is in bytes, `..` for the whole region; it begins and ends at
    /// multiples of [`GRANULE`](crate::GRANULE), or at the region's end. To pin
    /// what a window shows, there is [`Unpinned::pin`](crate::Unpinned::pin).
    ///
    /// # Errors
    ///
    /// [`Error::Exhausted`] if the host's budget has no room and too little can be
    /// purged; [`Error::WouldBlock`] while the region is lent;
    /// [`Error::NotPermitted`] for a lent handle; [`Error::InvalidArgument`] for
    /// an empty range; [`Error::Misaligned`]; [`Error::OutOfBounds`];
    /// [`Error::Purged`]; [`Error::Gone`].
    pub fn pin(&self, range: impl RangeBounds<u64>) -> Result<Pinned<()>, Error> {
        let span = pin_span(range, self.size())?;
        Ok(match pins::pin(&self.handle, span)? {
            pins::Pinned::Intact => Pinned::Intact(()),
            pins::Pinned::Lost => Pinned::Lost(()),
        })
    }

    /// Unpins bytes: this guest does not need them now, and the host may purge
    /// them when memory is needed elsewhere, unless somebody else pins them.
    ///
    /// The range is as for [`pin`](Region::pin). To unpin what a window shows,
    /// there is [`Window::unpin`].
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] while the region is lent, and if this guest has a
    /// window there, of which there may be slices; [`Error::Exhausted`] for a
    /// limit; [`Error::NotPermitted`] for a lent handle;
    /// [`Error::InvalidArgument`], [`Error::Misaligned`], [`Error::OutOfBounds`];
    /// [`Error::Purged`]; [`Error::Gone`].
    pub fn unpin(&self, range: impl RangeBounds<u64>) -> Result<(), Error> {
        let span = pin_span(range, self.size())?;
        let end = match span.length {
            0 => u64::MAX,
            length => span.offset + length,
        };
        if ledger::shows(self.claim(), &(span.offset..end)) {
            return Err(Error::WouldBlock);
        }
        Ok(pins::unpin(&self.handle, span)?)
    }

    /// Says whether this handle's claim pins all of these bytes. The range is as
    /// for [`pin`](Region::pin).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`], [`Error::Misaligned`], [`Error::OutOfBounds`];
    /// [`Error::Purged`]; [`Error::Gone`].
    pub fn is_pinned(&self, range: impl RangeBounds<u64>) -> Result<bool, Error> {
        let span = pin_span(range, self.size())?;
        Ok(pins::is_pinned(&self.handle, span)?)
    }

    pub(crate) fn as_handle(&self) -> &Handle {
        &self.handle
    }

    /// Lends the region while windows on it stay mapped.
    ///
    /// Pass what it returns to a function that takes `&Region`. The windows,
    /// one as `&mut window`, several as a tuple, an array or a `Vec` of such,
    /// cannot be used until it is gone. For one window there is
    /// [`Window::lend`], which lends through the handle it was mapped through.
    ///
    /// ```no_run
    /// # use tombolo_guest::{Error, Region, Rights};
    /// # fn process(_: &Region) {}
    /// # fn example(region: &Region) -> Result<(), Error> {
    /// let mut head = region.try_write(..65536)?;
    /// let mut tail = region.try_write(65536..)?;
    /// head[0] = 1;
    /// process(&region.lend((&mut head, &mut tail)));
    /// assert_eq!(head[0], 2, "what the other guest wrote");
    /// # Ok(())
    /// # }
    /// ```
    pub fn lend<'a>(&'a self, windows: impl Windows + 'a) -> Lent<'a> {
        Lent::new(self, windows)
    }

    /// A second view of this handle, whose lends set windows aside.
    pub(crate) fn alias(&self, windows: Count) -> std::mem::ManuallyDrop<Self> {
        let handle = std::mem::ManuallyDrop::into_inner(sys::alias(&self.handle));
        std::mem::ManuallyDrop::new(Self {
            handle,
            claim: OnceLock::from(self.claim()),
            set_aside: self.set_aside.plus(windows),
        })
    }

    /// The claim that the handle belongs to.
    pub(crate) fn claim(&self) -> Claim {
        *self.claim.get_or_init(|| Claim::Received(self.id()))
    }

    /// Panics if a lend could change bytes under a slice.
    #[track_caller]
    fn check_lend(&self) {
        if ledger::is_empty() {
            return;
        }
        let used = ledger::count(self.claim()).minus(self.set_aside);
        let conflict = used.write > 0 || (used.read > 0 && self.rights().contains(Rights::WRITE));
        assert!(
            !conflict,
            "region `{}` is lent while this guest uses windows on it ({} read, {} write); \
             drop them before the call, or keep them mapped with `window.lend()` or \
             `region.lend(windows)`",
            self.name(),
            used.read,
            used.write,
        );
    }
}

/// What generated bindings call, and nobody else.
#[doc(hidden)]
#[allow(unsafe_code)]
impl Region {
    /// Takes a handle that was received.
    ///
    /// # Safety
    ///
    /// `handle` is a handle to a `region` that this guest holds, and nothing
    /// else owns it.
    pub unsafe fn from_handle(handle: u32) -> Self {
        Self {
            // SAFETY: the caller's promise.
            handle: unsafe { sys::receive(handle) },
            claim: OnceLock::new(),
            set_aside: Count::default(),
        }
    }

    /// Gives the handle away, to move it. Generated bindings own the `Region`
    /// at this point, so no window or restricted handle borrows from it.
    pub fn take_handle(&self) -> u32 {
        self.handle.take_handle()
    }

    /// Shows the handle, to lend it.
    ///
    /// # Panics
    ///
    /// Panics if a lend could change bytes under a slice.
    #[track_caller]
    pub fn handle(&self) -> u32 {
        self.check_lend();
        self.handle.handle()
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("handle", &self.handle.handle())
            .finish_non_exhaustive()
    }
}

/// A weaker handle on the claim of another one, from [`Region::restrict`].
///
/// It can be lent and mapped, and goes before the first handle does.
#[derive(Debug)]
pub struct Restricted<'a> {
    region: Region,
    first: PhantomData<&'a Region>,
}

impl Deref for Restricted<'_> {
    type Target = Region;

    fn deref(&self) -> &Region {
        &self.region
    }
}

/// The start and length of a range of bytes in a region of `size`.
fn span(range: impl RangeBounds<u64>, size: u64) -> Result<(u64, u64), Error> {
    let overflow = || Error::OutOfBounds("the range ends past the largest offset".to_owned());
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&start) => start.checked_add(1).ok_or_else(overflow)?,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&end) => end.checked_add(1).ok_or_else(overflow)?,
        Bound::Excluded(&end) => end,
        Bound::Unbounded => size,
    };
    if !start.is_multiple_of(crate::GRANULE) {
        return Err(Error::Misaligned(format!("a span from byte {start} on")));
    }
    if end > size || start > size {
        return Err(Error::OutOfBounds(format!(
            "{start}..{end} in a region of {size} bytes"
        )));
    }
    match end.checked_sub(start) {
        None | Some(0) => Err(Error::InvalidArgument(format!(
            "a span of {start}..{end}, which is empty"
        ))),
        Some(len) => Ok((start, len)),
    }
}

/// The span of a range of bytes to pin or unpin in a region of `size`.
fn pin_span(range: impl RangeBounds<u64>, size: u64) -> Result<pins::Span, Error> {
    let (offset, length) = span(range, size)?;
    let length = match offset + length == size {
        // Up to the end, which need not be that of a granule.
        true => 0,
        false => length,
    };
    if !length.is_multiple_of(crate::GRANULE) {
        return Err(Error::Misaligned(format!(
            "pins of {length} bytes from byte {offset} on"
        )));
    }
    Ok(pins::Span { offset, length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_start_and_length() {
        assert_eq!(span(.., 100_000), Ok((0, 100_000)));
        assert_eq!(span(65536.., 100_000), Ok((65536, 34464)));
        assert_eq!(span(..1, 100_000), Ok((0, 1)));
        assert_eq!(span(..=9, 100_000), Ok((0, 10)));
        assert_eq!(span(65536..65537, 100_000), Ok((65536, 1)));
    }

    #[test]
    fn pins_are_whole_granules_or_reach_to_the_end() {
        let pins = |range: std::ops::Range<u64>| {
            pin_span(range, 100_000).map(|span| (span.offset, span.length))
        };
        assert_eq!(pins(0..100_000), Ok((0, 0)));
        assert_eq!(pins(0..65536), Ok((0, 65536)));
        assert_eq!(pins(65536..100_000), Ok((65536, 0)));
        assert!(matches!(pins(0..1), Err(Error::Misaligned(_))));
        assert!(matches!(pins(1..65536), Err(Error::Misaligned(_))));
        assert!(matches!(pins(0..131_072), Err(Error::OutOfBounds(_))));
    }

    #[test]
    fn ranges_are_refused_with_the_reason() {
        let misaligned = |r| matches!(r, Err(Error::Misaligned(_)));
        let outside = |r| matches!(r, Err(Error::OutOfBounds(_)));
        let empty = |r| matches!(r, Err(Error::InvalidArgument(_)));
        assert!(misaligned(span(1.., 100_000)));
        assert!(outside(span(..100_001, 100_000)));
        assert!(outside(span(131_072.., 100_000)));
        assert!(outside(span(..=u64::MAX, 100_000)));
        assert!(empty(span(..0, 100_000)));
        assert!(empty(span(65536..65536, 100_000)));
        #[allow(clippy::reversed_empty_ranges)]
        let reversed = span(65536..10, 100_000);
        assert!(empty(reversed));
    }
}
