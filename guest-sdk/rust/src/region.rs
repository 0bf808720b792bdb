//! Regions: creating, mapping, lending and restricting them.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, Range, RangeBounds};
use std::sync::OnceLock;

use crate::access::sealed::AccessKind;
use crate::access::{Read, Write};
#[cfg(feature = "async")]
use crate::bindings::concurrent;
use crate::bindings::regions::{Region as Handle, Rights};
use crate::bindings::{pins, waits, windows};
use crate::error::Error;
use crate::granule::GRANULE;
use crate::ledger::{self, Aside, Claim, WindowCount};
use crate::pins::Pinned;
use crate::pollable::Pollable;
use crate::{range, sys};

/// A handle to a region: named memory of a fixed size that guests share.
///
/// The bytes are reached through windows, or by copying with [`read_at`] and
/// [`write_at`]. Dropping a `Region` drops the handle. A region lives while any guest
/// has a handle to it or a window on it.
///
/// Generated bindings take `&Region` for `borrow<region>`, which lends it, and `Region`
/// for `region`, which moves it. See [lending] for how windows and lends go together.
///
/// # Trying and waiting
///
/// [`try_read`] and [`try_write`] return a window, or refuse at once. [`read`] and
/// [`write`] wait until they can return one. The same holds for [live windows].
///
/// Waiting needs a host that offers the interface `tombolo:memory/waits`, as `tombolo`
/// does. A guest that only uses the `try_` methods does not import it.
///
/// [`read_at`]: Region::read_at
/// [`write_at`]: Region::write_at
/// [`try_read`]: Region::try_read
/// [`try_write`]: Region::try_write
/// [`read`]: Region::read
/// [`write`]: Region::write
/// [lending]: crate#lending
/// [live windows]: crate#live-windows
pub struct Region {
    handle: Handle,
    /// The region's identity, once it was asked for.
    id: OnceLock<u64>,
    /// The claim, which for a received handle depends on `id`.
    claim: OnceLock<Claim>,
    /// Windows that a lend through this value sets aside; see `Lent`.
    set_aside: WindowCount,
    /// Windows that are set aside for this handle, if it is lent within this guest.
    aside: Vec<Aside>,
    /// Whether a lend through this value must set aside all windows, even those to read that
    /// the callee cannot change: the host hides them while an async function has the region.
    sets_all_aside: bool,
}

impl Region {
    /// Creates a region of `size` zero bytes, all pinned. Returns a handle with all
    /// rights.
    ///
    /// The name is a label and not an identity: two regions may have the same name. It
    /// has 1 to 200 bytes, without NUL. The size is at least 1 byte, and never changes.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an invalid name or size; [`Error::Exhausted`] for a
    /// limit, or if the host's budget has no room.
    pub fn create(name: &str, size: u64) -> Result<Self, Error> {
        Ok(Self::made(Handle::create(name, size, true)?))
    }

    /// Creates a region as [`create`](Region::create) does, but unpinned. It uses no
    /// memory until it is [pinned](Region::pin), in part or as a whole.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`]; [`Error::Exhausted`] for a limit.
    pub fn create_unpinned(name: &str, size: u64) -> Result<Self, Error> {
        Ok(Self::made(Handle::create(name, size, false)?))
    }

    /// Wraps the handle of a new claim.
    pub(crate) fn made(handle: Handle) -> Self {
        Self {
            handle,
            id: OnceLock::new(),
            claim: OnceLock::from(Claim::made()),
            set_aside: WindowCount::default(),
            aside: Vec::new(),
            sets_all_aside: false,
        }
    }

    /// Wraps a handle that another guest passed.
    pub(crate) fn received(handle: Handle) -> Self {
        Self {
            handle,
            id: OnceLock::new(),
            claim: OnceLock::new(),
            set_aside: WindowCount::default(),
            aside: Vec::new(),
            sets_all_aside: false,
        }
    }

    /// Returns the handle, to move it. No window or restricted handle borrows from it.
    pub(crate) fn into_inner(self) -> Handle {
        self.handle
    }

    /// Returns the region's identity. It is equal for all handles to one region, and the
    /// same host never reuses it. It reveals nothing about other regions.
    pub fn id(&self) -> u64 {
        *self.id.get_or_init(|| self.handle.id())
    }

    /// Returns the name that the region was created with.
    pub fn name(&self) -> String {
        self.handle.name()
    }

    /// Returns the size in bytes that the region was created with.
    pub fn size(&self) -> u64 {
        self.handle.size()
    }

    /// Returns the rights of this handle.
    pub fn rights(&self) -> Rights {
        self.handle.rights()
    }

    /// Makes a new claim on the same region, with the given rights. Needs
    /// [`Rights::SHARE`]. The new handle can be kept, or moved to another guest.
    ///
    /// The new claim pins what this one pins. It inherits the losses that
    /// [`pin`](Region::pin) has not yet reported to this one.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`] for rights that this handle lacks, and for a lent handle;
    /// [`Error::Gone`]; [`Error::Purged`]; [`Error::Exhausted`].
    pub fn duplicate(&self, rights: Rights) -> Result<Self, Error> {
        Ok(Self::made(self.handle.duplicate(rights)?))
    }

    /// Makes a weaker handle on the same claim, for lending. It never has
    /// [`Rights::SHARE`]. While it lives, this handle cannot be moved.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`] for rights that this handle lacks; [`Error::Gone`];
    /// [`Error::Purged`]; [`Error::Exhausted`].
    pub fn restrict(&self, rights: Rights) -> Result<Restricted<'_>, Error> {
        Ok(Restricted {
            region: Self {
                handle: self.handle.restrict(rights)?,
                id: self.id.clone(),
                claim: OnceLock::from(self.claim()),
                // The result borrows this value, and so the windows stay set aside.
                set_aside: self.set_aside,
                aside: self.aside.clone(),
                sets_all_aside: self.sets_all_aside,
            },
            first: PhantomData,
        })
    }

    /// Makes the region immutable, for every guest and for good. Needs
    /// [`Rights::WRITE`]. Does nothing if the region is already frozen.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] while any guest, including this one, has a window on the
    /// region that is not a plain window to read; [`Error::Unpinned`] unless the claim
    /// pins the whole region; [`Error::NotPermitted`], also for a lent handle;
    /// [`Error::Poisoned`]; [`Error::Purged`]; [`Error::Gone`].
    pub fn freeze(&self) -> Result<(), Error> {
        Ok(self.handle.freeze()?)
    }

    /// Declares the contents intact again after a writer died. Needs
    /// [`Rights::WRITE`]. Does nothing if the region is not poisoned.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`]; [`Error::Purged`]; [`Error::Gone`].
    pub fn clear_poison(&self) -> Result<(), Error> {
        Ok(self.handle.clear_poison()?)
    }

    /// Copies `length` bytes out, starting at `offset`. Needs [`Rights::READ`]. The host
    /// limits a copy to 16 MiB by default. Works on every host, even if it cannot map.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if the span leaves the region; [`Error::Exhausted`] if
    /// `length` is over the limit; [`Error::WouldBlock`] if any guest, including this
    /// one, has a conflicting window there; [`Error::Unpinned`]; [`Error::Poisoned`];
    /// [`Error::Purged`]; [`Error::NotPermitted`]; [`Error::Gone`].
    pub fn read_at(&self, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        Ok(self.handle.read_at(offset, length)?)
    }

    /// Copies bytes in, starting at `offset`. Needs [`Rights::WRITE`]. The host limits a
    /// copy to 16 MiB by default. Works on every host, even if it cannot map.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if the span leaves the region; [`Error::Exhausted`] if
    /// there are more bytes than the limit; [`Error::WouldBlock`] if any guest, including
    /// this one, has a window there; [`Error::Frozen`]; [`Error::Unpinned`];
    /// [`Error::Poisoned`]; [`Error::Purged`]; [`Error::NotPermitted`]; [`Error::Gone`].
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.handle.write_at(offset, bytes)?)
    }

    /// Joins the queue for a window to read. The pollable becomes ready when it is this
    /// claim's turn, or when waiting has become useless.
    ///
    /// Keep the pollable, and call [`try_read`](Region::try_read) or
    /// [`read_at`](Region::read_at): the bytes stay reserved for 100 ms. Dropping the
    /// pollable passes the turn on. A claim waits for one window at a time, so a second
    /// wait makes the first pollable ready.
    ///
    /// This serves to wait for several events with [`Pollable::first`]. It does not
    /// check for windows of this guest that conflict. Drop them before the wait:
    /// otherwise the pollable never becomes ready.
    ///
    /// # Errors
    ///
    /// The errors of [`try_read`](Region::try_read) that waiting does not cure, which
    /// are all but [`Error::WouldBlock`] and [`Error::Exhausted`].
    pub fn readable(&self, range: impl RangeBounds<u64>) -> Result<Pollable, Error> {
        let range = range::window(range, self.size())?;
        self.turn::<Read>(&range)
    }

    /// Joins the queue for a window to write, as [`readable`](Region::readable) does for
    /// a window to read.
    ///
    /// # Errors
    ///
    /// The errors of `readable`, and [`Error::Frozen`].
    pub fn writable(&self, range: impl RangeBounds<u64>) -> Result<Pollable, Error> {
        let range = range::window(range, self.size())?;
        self.turn::<Write>(&range)
    }

    /// Joins the queue for a window of a kind.
    pub(crate) fn turn<K: AccessKind>(&self, range: &Range<u64>) -> Result<Pollable, Error> {
        let length = (range.end - range.start).next_multiple_of(GRANULE);
        let turn = waits::subscribe(&self.handle, range.start, length, K::CODE)?;
        Ok(Pollable::new(turn))
    }

    /// Waits in the queue for a window of a kind.
    #[cfg(feature = "async")]
    pub(crate) async fn turn_async<K: AccessKind>(
        &self,
        range: &Range<u64>,
    ) -> Result<concurrent::waits::Turn, Error> {
        let length = (range.end - range.start).next_multiple_of(GRANULE);
        Ok(concurrent::waits::wait(&self.handle, range.start, length, K::CODE).await?)
    }

    /// Makes a weaker handle on the same claim, whose lends set windows aside.
    #[cfg(feature = "async")]
    pub(crate) fn restrict_aside(&self, windows: WindowCount) -> Result<Self, Error> {
        Ok(Self {
            handle: self.handle.restrict(self.rights() - Rights::SHARE)?,
            id: self.id.clone(),
            claim: OnceLock::from(self.claim()),
            set_aside: self.set_aside.plus(windows),
            aside: self.aside.clone(),
            sets_all_aside: true,
        })
    }

    /// Pins bytes, so that they stay in memory until this claim unpins them. Returns
    /// whether any bytes that the claim had unpinned were lost. Each loss is reported
    /// once. Lost bytes read as zeros.
    ///
    /// The range is in bytes, `..` for the whole region. It begins and ends at multiples
    /// of [`GRANULE`], or at the region's end. To pin the bytes of a window, use
    /// [`Unpinned::pin`](crate::Unpinned::pin).
    ///
    /// # Errors
    ///
    /// [`Error::Exhausted`] if purging cannot make enough room in the host's budget;
    /// [`Error::WouldBlock`] while the region is lent; [`Error::NotPermitted`] for a lent
    /// handle; [`Error::InvalidArgument`] for an empty range; [`Error::Misaligned`];
    /// [`Error::OutOfBounds`]; [`Error::Purged`]; [`Error::Gone`].
    pub fn pin(&self, range: impl RangeBounds<u64>) -> Result<Pinned<()>, Error> {
        self.pin_span(range::pins(range, self.size())?)
    }

    pub(crate) fn pin_span(&self, span: pins::Span) -> Result<Pinned<()>, Error> {
        Ok(match pins::pin(&self.handle, span)? {
            pins::Pinned::Intact => Pinned::Intact(()),
            pins::Pinned::Lost => Pinned::Lost(()),
        })
    }

    /// Unpins bytes that this guest does not need now. The host may purge them when
    /// memory is needed elsewhere, unless another claim pins them.
    ///
    /// The range is as for [`pin`](Region::pin). To unpin the bytes of a window, use
    /// [`Window::unpin`](crate::Window::unpin).
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] while the region is lent, and if this guest has a window
    /// there, because slices of it may exist; [`Error::Exhausted`] for a limit;
    /// [`Error::NotPermitted`] for a lent handle; [`Error::InvalidArgument`] for an empty
    /// range; [`Error::Misaligned`]; [`Error::OutOfBounds`]; [`Error::Purged`];
    /// [`Error::Gone`].
    pub fn unpin(&self, range: impl RangeBounds<u64>) -> Result<(), Error> {
        let span = range::pins(range, self.size())?;
        let end = match span.length {
            0 => u64::MAX,
            length => span.offset + length,
        };
        if ledger::shows(self.claim(), &(span.offset..end)) {
            return Err(Error::WouldBlock);
        }
        self.unpin_span(span)
    }

    /// Unpins bytes that no visible window of this claim shows.
    pub(crate) fn unpin_span(&self, span: pins::Span) -> Result<(), Error> {
        Ok(pins::unpin(&self.handle, span)?)
    }

    /// Returns whether this handle's claim pins all of these bytes. The range is as for
    /// [`pin`](Region::pin).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`]; [`Error::Misaligned`]; [`Error::OutOfBounds`];
    /// [`Error::Purged`]; [`Error::Gone`].
    pub fn is_pinned(&self, range: impl RangeBounds<u64>) -> Result<bool, Error> {
        let span = range::pins(range, self.size())?;
        Ok(pins::is_pinned(&self.handle, span)?)
    }

    pub(crate) fn as_handle(&self) -> &Handle {
        &self.handle
    }

    /// Returns a second view of this handle, whose lends set windows aside.
    pub(crate) fn alias(&self, windows: WindowCount) -> ManuallyDrop<Self> {
        let handle = ManuallyDrop::into_inner(sys::alias(&self.handle));
        ManuallyDrop::new(Self {
            handle,
            id: self.id.clone(),
            claim: OnceLock::from(self.claim()),
            set_aside: self.set_aside.plus(windows),
            // It is never dropped, so it must not allocate.
            aside: Vec::new(),
            sets_all_aside: self.sets_all_aside,
        })
    }

    /// Makes a lent handle on the claim, for another part of this guest's component. The
    /// host sets the windows of the claim aside. No slice of them may be alive.
    pub(crate) fn lend_within_itself(&self, set_aside: WindowCount) -> Result<Self, Error> {
        let used = ledger::count(self.claim()).minus(self.set_aside.plus(set_aside));
        if used != WindowCount::default() {
            return Err(Error::WouldBlock);
        }
        let handle = windows::lend(&self.handle)?;
        let mut aside = self.aside.clone();
        aside.push(Aside::of(self.claim()));
        Ok(Self {
            id: self.id.clone(),
            aside,
            ..Self::made(handle)
        })
    }

    /// Returns the windows that are set aside for this handle.
    pub(crate) fn aside(&self) -> &[Aside] {
        &self.aside
    }

    /// Returns the claim of the handle.
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
        let readers_too = || self.sets_all_aside || self.rights().contains(Rights::WRITE);
        let conflict = used.write > 0 || (used.read > 0 && readers_too());
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

/// The interface to generated bindings. Nothing else calls it.
#[doc(hidden)]
#[allow(unsafe_code)]
impl Region {
    /// Wraps a handle that was received.
    ///
    /// # Safety
    ///
    /// This guest must own `handle`, which is a handle to a `region`, and nothing else
    /// may own it.
    pub unsafe fn from_handle(handle: u32) -> Self {
        // SAFETY: the caller owns the handle.
        Self::received(unsafe { sys::receive(handle) })
    }

    /// Returns the handle, to move it. Generated bindings own the `Region` here, so no
    /// window or restricted handle borrows from it.
    pub fn take_handle(&self) -> u32 {
        self.handle.take_handle()
    }

    /// Returns the handle, to lend it.
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
/// It can be lent and mapped. It borrows the first handle, and so ends before it.
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
