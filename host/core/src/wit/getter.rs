//! The ways from a store's data to the parts that the interfaces need.

use crate::ctx::RegionCtx;

/// A way to the context of one guest in a store's data, for the functions of a linker.
pub(super) trait Getter<T>:
    Fn(&mut T) -> &mut RegionCtx + Clone + Send + Sync + 'static
{
}

impl<T, G> Getter<T> for G where G: Fn(&mut T) -> &mut RegionCtx + Clone + Send + Sync + 'static {}

/// The same, and a way to the table of WASI's resources.
#[cfg(feature = "wasi-io")]
pub(super) trait WasiGetter<T>: Clone + Send + Sync + 'static {
    /// Returns the context.
    fn region_ctx<'a>(&self, data: &'a mut T) -> &'a mut RegionCtx;

    /// Returns the table.
    fn table<'a>(&self, data: &'a mut T) -> &'a mut wasmtime::component::ResourceTable;
}

/// The ways that the traits of a store's data show.
#[cfg(feature = "wasi-io")]
#[derive(Clone)]
pub(super) struct Views;

#[cfg(feature = "wasi-io")]
impl<T: crate::ctx::RegionView + wasmtime_wasi_io::IoView> WasiGetter<T> for Views {
    #[inline]
    fn region_ctx<'a>(&self, data: &'a mut T) -> &'a mut RegionCtx {
        data.region_ctx()
    }

    #[inline]
    fn table<'a>(&self, data: &'a mut T) -> &'a mut wasmtime::component::ResourceTable {
        data.table()
    }
}

/// The ways that a getter shows.
#[cfg(feature = "wasi-io")]
#[derive(Clone)]
pub(super) struct Both<G>(pub(super) G);

#[cfg(feature = "wasi-io")]
impl<T, G> WasiGetter<T> for Both<G>
where
    G: Fn(&mut T) -> (&mut RegionCtx, &mut wasmtime::component::ResourceTable)
        + Clone
        + Send
        + Sync
        + 'static,
{
    #[inline]
    fn region_ctx<'a>(&self, data: &'a mut T) -> &'a mut RegionCtx {
        (self.0)(data).0
    }

    #[inline]
    fn table<'a>(&self, data: &'a mut T) -> &'a mut wasmtime::component::ResourceTable {
        (self.0)(data).1
    }
}
