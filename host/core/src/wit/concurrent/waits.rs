//! The interface `waits`, with an async function.

use tokio::time::timeout;
use tombolo_region::{Charge, ChargeKind, Span};
use wasmtime::AsContextMut as _;
use wasmtime::component::{Accessor, Linker, Resource, ResourceType};

use crate::error::RegionError;
use crate::guest::guest_in;
use crate::host::{Region, WindowWaiter};
use crate::places::{Candidate, PlaceHolder, SHARE};
use crate::wit::answer;
use crate::wit::bindings::HostFailure;
use crate::wit::getter::Getter;
use crate::wit::windows::WitAccess;

const INTERFACE: &str = "tombolo:memory-async/waits@0.1.0";

/// The resource `turn`: a reservation, which goes when this is dropped.
struct Turn {
    _waiter: WindowWaiter,
    // After the waiter, so that the next wait of the claim does not take its place early.
    _holder: PlaceHolder,
    _candidate: Candidate,
    /// In the limit `windows`, so that turns never fill the guest's table.
    _charge: Charge,
}

type WaitArgs = (Resource<Region>, u64, u64, WitAccess);

pub(super) fn add_to_linker<T, G>(linker: &mut Linker<T>, getter: &G) -> wasmtime::Result<()>
where
    T: Send + 'static,
    G: Getter<T>,
{
    let mut instance = linker.instance(INTERFACE)?;
    let get = getter.clone();
    instance.func_wrap_concurrent("wait", move |accessor: &Accessor<T>, args: WaitArgs| {
        let getter = get.clone();
        Box::pin(async move { answer(wait(accessor, getter, args).await) })
    })?;
    let getter = getter.clone();
    let turn = ResourceType::host::<Turn>();
    instance.resource("turn", turn, move |mut store, rep| {
        let ctx = getter(store.data_mut());
        ctx.delete_window::<Turn>(rep)?;
        Ok(())
    })
}

async fn wait<T, G>(
    accessor: &Accessor<T>,
    getter: G,
    (region, offset, length, access): WaitArgs,
) -> Result<Resource<Turn>, HostFailure>
where
    T: Send + 'static,
    G: Getter<T>,
{
    let (candidate, charge) = accessor.with(|mut it| {
        let mut guest = guest_in(it.as_context_mut(), &getter);
        let (_, ctx) = guest.bound();
        ctx.check().map_err(wasmtime::Error::from)?;
        let charge = ctx.owner().account.charge(ChargeKind::Windows, 1);
        let charge = charge.map_err(RegionError::from)?;
        let region = ctx
            .region_table
            .get(&region)
            .map_err(wasmtime::Error::from)?;
        Ok::<_, HostFailure>((ctx.places.join(region), charge))
    })?;
    loop {
        let holder = candidate.hold().await;
        let waiter = accessor.with(|mut it| {
            let mut guest = guest_in(it.as_context_mut(), &getter);
            let (id, ctx) = guest.bound();
            ctx.check().map_err(wasmtime::Error::from)?;
            // The guest cannot have dropped the handle, which it lent to this call.
            let region = ctx
                .region_table
                .get(&region)
                .map_err(wasmtime::Error::from)?;
            let access = access.of(id, ctx)?;
            let span = Span::of_window(offset, length, region.size()).map_err(RegionError::from)?;
            Ok::<_, HostFailure>(WindowWaiter::new(region, span, access)?)
        })?;
        if !is_ready(&waiter, &candidate).await {
            continue;
        }
        let turn = Turn {
            _waiter: waiter,
            _holder: holder,
            _candidate: candidate,
            _charge: charge,
        };
        return accessor.with(|mut it| {
            let mut guest = guest_in(it.as_context_mut(), &getter);
            let (_, ctx) = guest.bound();
            ctx.check().map_err(wasmtime::Error::from)?;
            let turn = ctx.push_window(turn);
            Ok(turn.map_err(wasmtime::Error::from)?)
        });
    }
}

/// Waits until it is the waiter's turn, or until another wait of the claim wants the place and
/// this one has had its share. Returns whether it is the waiter's turn.
async fn is_ready(waiter: &WindowWaiter, candidate: &Candidate) -> bool {
    loop {
        match timeout(SHARE, waiter.ready()).await {
            Ok(()) => return true,
            Err(_) if candidate.is_contended() => return false,
            Err(_) => {}
        }
    }
}
