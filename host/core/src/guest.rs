//! A store in hand, with the way to one guest in it.
//!
//! A guest is a [`RegionCtx`] in the data of a store. Most functions of this crate need both: the
//! context says what the guest may do, and the store in hand permits to remap its memories. Stores
//! whose data implement [`RegionView`] have one guest. All others name theirs by a getter.

use std::sync::Arc;

use wasmtime::{AsContextMut, CallHook, Store, StoreContextMut};

use crate::ctx::{RegionCtx, RegionView};
use crate::sys::{StoreId, StoreMark};
use crate::violation::WriteViolation;

mod sealed {
    /// A trait that only this crate implements, so that [`AsGuest`](super::AsGuest) can grow.
    pub trait Sealed {}
}

/// A store in hand, with the way to the context of one guest in it.
///
/// Every `AsContextMut` whose data implement [`RegionView`] is one: a `&mut Store`, a
/// `StoreContextMut`, an `Access`. For other types of data, and for stores with several guests,
/// [`guest_in`] makes one of a store and a getter.
pub trait AsGuest: sealed::Sealed {
    /// The type of the store's data.
    type Data: 'static;

    /// Returns the guest, with its store borrowed.
    fn as_guest(
        &mut self,
    ) -> GuestIn<StoreContextMut<'_, Self::Data>, impl Fn(&mut Self::Data) -> &mut RegionCtx>;
}

impl<S> sealed::Sealed for S where S: AsContextMut<Data: RegionView> {}

impl<S> AsGuest for S
where
    S: AsContextMut<Data: RegionView>,
{
    type Data = S::Data;

    #[inline]
    fn as_guest(
        &mut self,
    ) -> GuestIn<StoreContextMut<'_, S::Data>, impl Fn(&mut S::Data) -> &mut RegionCtx> {
        GuestIn {
            store: self.as_context_mut(),
            getter: S::Data::region_ctx,
        }
    }
}

/// A guest of a store; see [`guest_in`].
#[derive(Clone, Copy, Debug)]
pub struct GuestIn<S, G> {
    store: S,
    getter: G,
}

/// Returns the guest of the store in hand whose context the getter returns.
///
/// Pass it, or a `&mut` reference to it, to functions that take [`AsGuest`]. The store's data can
/// be of any type, and hold the contexts of several guests:
///
/// ```
/// use tombolo::wasmtime::{Config, Engine, Store};
/// use tombolo::{RegionCtx, RegionHost, Rights, guest_in};
///
/// struct State {
///     codec: RegionCtx,
///     filter: RegionCtx,
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut config = Config::new();
/// # tombolo::prepare(&mut config)?;
/// # let engine = Engine::new(&config)?;
/// let host = RegionHost::new();
/// let (codec, filter) = (host.context("codec").build(), host.context("filter").build());
/// let mut store = Store::new(&engine, State { codec, filter });
///
/// let body = host.create("body", 5)?;
/// let mut codec = guest_in(&mut store, |state: &mut State| &mut state.codec);
/// let lent = body.lend(&mut codec, Rights::READ)?;
/// // ... the call ...
/// lent.end(&mut codec, Ok(()))?;
/// # Ok(())
/// # }
/// ```
///
/// The getter must return the same context for as long as the store lives. If it returns another
/// guest's, that mixes up what the two may do, but never whose memory is mapped.
pub fn guest_in<S, G>(store: S, getter: G) -> GuestIn<S, G>
where
    S: AsContextMut,
    G: Fn(&mut S::Data) -> &mut RegionCtx,
{
    GuestIn { store, getter }
}

impl<T, G> GuestIn<StoreContextMut<'_, T>, G>
where
    T: 'static,
    G: Fn(&mut T) -> &mut RegionCtx,
{
    /// Returns the context of the guest.
    #[inline]
    pub fn region_ctx(&mut self) -> &mut RegionCtx {
        (self.getter)(self.store.data_mut())
    }

    /// Returns the identity of the store in hand.
    #[inline]
    pub(crate) fn store_id(&self) -> StoreId {
        StoreId::of(&self.store)
    }

    /// Returns the identity of the store in hand, and the guest's context. From here on the
    /// context knows its store.
    #[inline]
    pub(crate) fn bound(&mut self) -> (StoreId, &mut RegionCtx) {
        let id = self.store_id();
        let ctx = self.region_ctx();
        ctx.bind(id);
        (id, ctx)
    }
}

impl<S, G> GuestIn<S, G> {
    /// Returns the store, and forgets the way to the guest.
    pub(crate) fn into_store(self) -> S {
        self.store
    }

    /// Returns the store.
    #[inline]
    pub fn store(&mut self) -> &mut S {
        &mut self.store
    }
}

impl<S, G> sealed::Sealed for GuestIn<S, G> {}

impl<S, G> AsGuest for GuestIn<S, G>
where
    S: AsContextMut,
    G: Fn(&mut S::Data) -> &mut RegionCtx,
{
    type Data = S::Data;

    #[inline]
    fn as_guest(
        &mut self,
    ) -> GuestIn<StoreContextMut<'_, S::Data>, impl Fn(&mut S::Data) -> &mut RegionCtx> {
        GuestIn {
            store: self.store.as_context_mut(),
            getter: &self.getter,
        }
    }
}

impl<S, G> sealed::Sealed for &mut GuestIn<S, G> {}

impl<S, G> AsGuest for &mut GuestIn<S, G>
where
    S: AsContextMut,
    G: Fn(&mut S::Data) -> &mut RegionCtx,
{
    type Data = S::Data;

    #[inline]
    fn as_guest(
        &mut self,
    ) -> GuestIn<StoreContextMut<'_, S::Data>, impl Fn(&mut S::Data) -> &mut RegionCtx> {
        (**self).as_guest()
    }
}

/// Fails if a guest of the store in hand wrote to a read-only window through host code. Unlike
/// [`RegionCtx::check`], it also finds the write if the context has just replaced the one with
/// which the guest mapped the window.
///
/// # Errors
///
/// [`WriteViolation`] names the guest and the place.
pub fn check(mut guest: impl AsGuest) -> Result<(), WriteViolation> {
    guest.as_guest().bound().1.check()
}

/// Makes calls into the guests of this store fail with a [`WriteViolation`] once one of them has
/// written to a read-only window through host code, by `memory.copy` for example. Call it once,
/// when the store is new.
///
/// The guest is stopped when it next calls the host or returns to it. Do not enter the store
/// again then. (A plain store of wasm to a read-only window traps by itself, attached or not.)
///
/// This sets the store's [call hook]. A store has only one, so `attach` replaces an earlier
/// hook, and a later one replaces it. Programs with a hook of their own call
/// [`RegionCtx::check`] or [`check`] in it.
///
/// The hook runs each time that wasm and the host call each other or return. Each time costs an
/// indirect call and the load of an atomic. It does not block. It takes a lock only until the
/// store has had a window, and rarely.
///
/// [call hook]: wasmtime::Store::call_hook
pub fn attach<T: 'static>(store: &mut Store<T>) {
    // The mark belongs to the store, and is there from its first window on. From then on it
    // makes no difference which contexts are in the store's data.
    let mut mark: Option<Arc<StoreMark>> = None;
    store.call_hook(move |store, hook| {
        if let CallHook::CallingWasm = hook {
            return Ok(());
        }
        if mark.is_none() {
            mark = StoreMark::of(StoreId::of(&store));
        }
        match &mark {
            Some(mark) if mark.has_violation() => Err(WriteViolation::of(mark).into()),
            _ => Ok(()),
        }
    });
}
