//! The interface `pressure`, with an async function.

use tombolo_region::ChargeKind;
use wasmtime::AsContextMut as _;
use wasmtime::component::{Accessor, ComponentType, Lift, Linker, Lower};

use crate::guest::guest_in;
use crate::pressure::Level;
use crate::wit::getter::Getter;

const INTERFACE: &str = "tombolo:memory-async/pressure@0.1.0";

/// The host memory of one wait, in bytes: its future, and wasmtime's records of it.
const WAIT_BYTES: u64 = 2048;

/// The enum `level` of the interface.
#[derive(Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
enum WitLevel {
    #[component(name = "normal")]
    Normal,
    #[component(name = "moderate")]
    Moderate,
    #[component(name = "critical")]
    Critical,
}

impl From<Level> for WitLevel {
    fn from(level: Level) -> WitLevel {
        match level {
            Level::Normal => WitLevel::Normal,
            Level::Moderate => WitLevel::Moderate,
            Level::Critical => WitLevel::Critical,
        }
    }
}

impl From<WitLevel> for Level {
    fn from(level: WitLevel) -> Level {
        match level {
            WitLevel::Normal => Level::Normal,
            WitLevel::Moderate => Level::Moderate,
            WitLevel::Critical => Level::Critical,
        }
    }
}

pub(super) fn add_to_linker<T, G>(linker: &mut Linker<T>, getter: &G) -> wasmtime::Result<()>
where
    T: Send + 'static,
    G: Getter<T>,
{
    let getter = getter.clone();
    linker.instance(INTERFACE)?.func_wrap_concurrent(
        "wait-change",
        move |accessor: &Accessor<T>, (last,): (WitLevel,)| {
            let getter = getter.clone();
            Box::pin(async move {
                let level = wait_change(accessor, getter, last.into()).await?;
                Ok((WitLevel::from(level),))
            })
        },
    )
}

async fn wait_change<T, G>(
    accessor: &Accessor<T>,
    getter: G,
    last: Level,
) -> wasmtime::Result<Level>
where
    T: Send + 'static,
    G: Getter<T>,
{
    let (host, _charge) = accessor.with(|mut access| {
        let mut guest = guest_in(access.as_context_mut(), &getter);
        let (_, ctx) = guest.bound();
        ctx.check()?;
        let charge = ctx
            .owner()
            .account
            .charge(ChargeKind::HostMemory, WAIT_BYTES)?;
        Ok::<_, wasmtime::Error>((ctx.host().clone(), charge))
    })?;
    let mut changes = host.pressure_changes();
    let mut level = changes.level();
    while level == last {
        level = changes.changed().await;
    }
    Ok(level)
}
