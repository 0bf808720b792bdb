//! The interfaces that only guests of an app have: `channels`, `scopes` and
//! `lifecycle`.
//!
//! They are registered by hand: sending takes windows away, so that it is to be
//! given the store itself.

use wasmtime::StoreContextMut;
use wasmtime::component::{
    ComponentType, Linker, LinkerInstance, Lower, Resource, ResourceTable, ResourceTableError,
    ResourceType, WasmList,
};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::channel::{Message, Readable, ReceiverEnd, SenderEnd, Writable};
use super::grants::Grants;
use super::scope::{self, Awaited, Publication};
use super::signals::AppSignals;
use super::state::GuestState;
use tombolo::Region;
use tombolo::internal::sys::StoreId;
use tombolo::internal::{MemoryError, RegionCtxInternals as _, RegionInternals as _};
use tombolo::regions as wit;
use tombolo_exchange::{ChannelError, Unsent};

const CHANNELS: &str = "tombolo:app/channels@0.1.0";
const SCOPES: &str = "tombolo:app/scopes@0.1.0";
pub(super) const LIFECYCLE: &str = "tombolo:app/lifecycle";

type Store<'a> = StoreContextMut<'a, GuestState>;
type WitResult<T, E> = wasmtime::Result<(Result<T, E>,)>;

/// Adds the interfaces.
pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    channels(linker)?;
    scopes(linker)?;
    lifecycle(linker)
}

// Channels.

#[derive(ComponentType, Lower)]
#[component(variant)]
enum WitChannelError {
    #[component(name = "not-permitted")]
    NotPermitted,
    #[component(name = "would-block")]
    WouldBlock,
    #[component(name = "too-large")]
    TooLarge(String),
    #[component(name = "closed")]
    Closed,
    #[component(name = "refused")]
    Refused(String),
    #[component(name = "exhausted")]
    Exhausted(String),
}

impl From<ChannelError> for WitChannelError {
    fn from(refusal: ChannelError) -> WitChannelError {
        match refusal {
            ChannelError::NotPermitted => WitChannelError::NotPermitted,
            ChannelError::WouldBlock => WitChannelError::WouldBlock,
            ChannelError::TooLarge(text) => WitChannelError::TooLarge(text),
            ChannelError::Closed => WitChannelError::Closed,
            ChannelError::Refused(text) => WitChannelError::Refused(text),
            ChannelError::Exhausted(text) => WitChannelError::Exhausted(text),
        }
    }
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct WitMessage {
    #[component(name = "from")]
    from: String,
    bytes: Vec<u8>,
    regions: Vec<Resource<Region>>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct WitUnsent {
    why: WitChannelError,
    regions: Vec<Resource<Region>>,
}

type SendArgs = (Resource<SenderEnd>, WasmList<u8>, Vec<Resource<Region>>);

fn channels(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(CHANNELS)?;
    senders(&mut instance)?;
    receivers(&mut instance)
}

fn senders(instance: &mut LinkerInstance<'_, GuestState>) -> wasmtime::Result<()> {
    let sender = ResourceType::host::<SenderEnd>();
    instance.resource("sender", sender, |mut store, rep| {
        let end = Resource::<SenderEnd>::new_own(rep);
        store.data_mut().table.delete(end)?.close();
        Ok(())
    })?;
    instance.func_wrap(
        "[static]sender.open",
        |mut store: Store<'_>, (name,): (String,)| {
            let state = checked(&mut store)?;
            let end = state.grants.app.channels.sender(state.grants.guest, &name);
            opened(&mut state.table, end)
        },
    )?;
    instance.func_wrap("[method]sender.send", |store: Store<'_>, args: SendArgs| {
        Ok((send(store, args)?,))
    })?;
    instance.func_wrap(
        "[static]sender.finish",
        |mut store: Store<'_>, (end,): (Resource<SenderEnd>,)| {
            let state = checked(&mut store)?;
            state.table.delete(end)?.finish();
            Ok(())
        },
    )?;
    instance.func_wrap(
        "[method]sender.subscribe",
        |mut store: Store<'_>, (end,): (Resource<SenderEnd>,)| {
            let state = checked(&mut store)?;
            let writable = state.table.get(&end)?.writable();
            pollable(&mut state.table, WritablePoll(writable))
        },
    )
}

fn receivers(instance: &mut LinkerInstance<'_, GuestState>) -> wasmtime::Result<()> {
    let receiver = ResourceType::host::<ReceiverEnd>();
    instance.resource("receiver", receiver, |mut store, rep| {
        let end = Resource::<ReceiverEnd>::new_own(rep);
        store.data_mut().table.delete(end)?.close();
        Ok(())
    })?;
    instance.func_wrap(
        "[static]receiver.open",
        |mut store: Store<'_>, (name,): (String,)| {
            let state = checked(&mut store)?;
            let channels = &state.grants.app.channels;
            let end = channels.receiver(state.grants.guest, &name);
            opened(&mut state.table, end)
        },
    )?;
    instance.func_wrap(
        "[method]receiver.receive",
        |store: Store<'_>, (end,): (Resource<ReceiverEnd>,)| Ok((receive(store, &end)?,)),
    )?;
    instance.func_wrap(
        "[static]receiver.finish",
        |mut store: Store<'_>, (end,): (Resource<ReceiverEnd>,)| {
            let state = checked(&mut store)?;
            state.table.delete(end)?.finish();
            Ok(())
        },
    )?;
    instance.func_wrap(
        "[method]receiver.skip",
        |mut store: Store<'_>, (end,): (Resource<ReceiverEnd>,)| {
            let state = checked(&mut store)?;
            let skipped = state.table.get(&end)?.skip();
            Ok((skipped.map_err(WitChannelError::from),))
        },
    )?;
    instance.func_wrap(
        "[method]receiver.subscribe",
        |mut store: Store<'_>, (end,): (Resource<ReceiverEnd>,)| {
            let state = checked(&mut store)?;
            let readable = state.table.get(&end)?.readable();
            pollable(&mut state.table, ReadablePoll(readable))
        },
    )
}

/// The state of a guest that may go on.
fn checked<'a>(store: &'a mut Store<'_>) -> wasmtime::Result<&'a mut GuestState> {
    let state = store.data_mut();
    state.regions.check()?;
    Ok(state)
}

fn opened<E: Send + 'static>(
    table: &mut ResourceTable,
    end: Result<E, ChannelError>,
) -> WitResult<Resource<E>, WitChannelError> {
    let opened = end.map_err(WitChannelError::from);
    let kept = opened.map(|end| table.push(end));
    Ok((match kept {
        Ok(Ok(end)) => Ok(end),
        Ok(Err(ResourceTableError::Full)) => Err(WitChannelError::Exhausted(FULL.into())),
        Ok(Err(error)) => return Err(error.into()),
        Err(refusal) => Err(refusal),
    },))
}

/// The text for a guest that cannot have another endpoint or name.
const FULL: &str = "limit `descriptors`: all of them are in use";

fn pollable<P: Pollable>(
    table: &mut ResourceTable,
    pollable: P,
) -> wasmtime::Result<(Resource<DynPollable>,)> {
    let pollable = table.push(pollable)?;
    Ok((subscribe(table, pollable)?,))
}

/// Why regions were not taken from their sender.
enum Detach {
    Refused(String),
    Fatal(MemoryError),
}

/// Takes the regions of a message from the guest in the store in hand: all of them,
/// with their windows, or none.
fn detach(store: StoreId, message: &Message) -> Result<(), Detach> {
    for region in &message.regions {
        region.may_move().map_err(|refusal| {
            let name = region.name();
            Detach::Refused(format!("region `{name}` cannot be moved: {refusal}"))
        })?;
    }
    let mut regions = message.regions.iter();
    regions.try_for_each(|region| region.unmap_to_move(store).map_err(Detach::Fatal))
}

fn send(
    mut store: Store<'_>,
    (end, bytes, regions): SendArgs,
) -> wasmtime::Result<Result<(), WitUnsent>> {
    let id = StoreId::of(&store);
    let most = checked(&mut store)?.table.get(&end)?.message_bytes();
    // A message that is too long is not even copied.
    let bytes = bytes.as_le_slice(&store);
    let bytes = match bytes.len() as u64 > most {
        true => Err(bytes.len()),
        false => Ok(bytes.to_vec()),
    };
    let state = store.data_mut();
    let from = state.regions.owner().name.as_ref().into();
    let table = state.regions.region_table();
    let regions = regions.into_iter().map(|region| table.delete(region));
    let mut message = Message {
        from,
        bytes: Vec::new(),
        regions: regions.collect::<Result<_, _>>()?,
    };
    let end = state.table.get(&end)?;
    let (why, message) = match bytes {
        Err(length) => (end.too_large(length), message),
        Ok(bytes) => {
            message.bytes = bytes;
            match end.try_send(message, |message| detach(id, message)) {
                Ok(()) => return Ok(Ok(())),
                Err(Unsent::Refused(why, message)) => (why, message),
                Err(Unsent::Failed(Detach::Refused(why), message)) => {
                    (ChannelError::Refused(why), message)
                }
                Err(Unsent::Failed(Detach::Fatal(error), _)) => return Err(error.into()),
            }
        }
    };
    let table = state.regions.region_table();
    let back = message.regions.into_iter().map(|region| table.push(region));
    Ok(Err(WitUnsent {
        why: why.into(),
        regions: back.collect::<Result<_, _>>()?,
    }))
}

fn receive(
    mut store: Store<'_>,
    end: &Resource<ReceiverEnd>,
) -> wasmtime::Result<Result<WitMessage, WitChannelError>> {
    let state = checked(&mut store)?;
    let message = match state
        .table
        .get(end)?
        .try_receive(&state.regions.recipient())
    {
        Ok(message) => message,
        Err(refusal) => return Ok(Err(refusal.into())),
    };
    let table = state.regions.region_table();
    let regions = message.regions.into_iter().map(|region| table.push(region));
    Ok(Ok(WitMessage {
        from: message.from.to_string(),
        bytes: message.bytes,
        regions: regions.collect::<Result<_, _>>()?,
    }))
}

/// A wait for room in a channel, as a pollable.
struct WritablePoll(Writable);

#[async_trait]
impl Pollable for WritablePoll {
    async fn ready(&mut self) {
        self.0.ready().await;
    }
}

/// A wait for a message, as a pollable.
struct ReadablePoll(Readable);

#[async_trait]
impl Pollable for ReadablePoll {
    async fn ready(&mut self) {
        self.0.ready().await;
    }
}

// Scopes.

#[derive(ComponentType, Lower)]
#[component(variant)]
pub(super) enum WitScopeError {
    #[component(name = "not-permitted")]
    NotPermitted,
    #[component(name = "absent")]
    Absent,
    #[component(name = "taken")]
    Taken,
    #[component(name = "region")]
    Region(wit::ErrorCode),
}

impl From<scope::ScopeError> for WitScopeError {
    fn from(refusal: scope::ScopeError) -> WitScopeError {
        match refusal {
            scope::ScopeError::NotPermitted => WitScopeError::NotPermitted,
            scope::ScopeError::Absent => WitScopeError::Absent,
            scope::ScopeError::Taken => WitScopeError::Taken,
            scope::ScopeError::Region(error) => WitScopeError::Region(error.into()),
        }
    }
}

type PublishArgs = (String, String, Resource<Region>, wit::Rights);

fn scopes(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(SCOPES)?;
    let publication = ResourceType::host::<Publication>();
    instance.resource("publication", publication, |mut store, rep| {
        let publication = Resource::<Publication>::new_own(rep);
        store.data_mut().table.delete(publication)?;
        Ok(())
    })?;
    instance.func_wrap("publish", |mut store: Store<'_>, args: PublishArgs| {
        let state = checked(&mut store)?;
        let (scope, name, region, rights) = args;
        let region = state.regions.region_table().get(&region)?;
        let Grants { guest, app } = &state.grants;
        let published = app
            .scopes
            .publish(*guest, &scope, name, region, rights.into());
        answered(published, |publication| {
            Ok(state.table.push(publication)?)
        })
    })?;
    instance.func_wrap(
        "open",
        |mut store: Store<'_>, (scope, name): (String, String)| {
            let state = checked(&mut store)?;
            let Grants { guest, app } = &state.grants;
            let opened = app
                .scopes
                .open(*guest, &scope, &name, &state.regions.recipient());
            answered(opened, |region| {
                Ok(state.regions.region_table().push(region)?)
            })
        },
    )?;
    instance.func_wrap(
        "subscribe",
        |mut store: Store<'_>, (scope, name): (String, String)| {
            let state = checked(&mut store)?;
            let Grants { guest, app } = &state.grants;
            let awaited = app.scopes.awaited(*guest, &scope, &name);
            answered(awaited, |awaited| {
                let awaited = state.table.push(awaited)?;
                let place = awaited.rep();
                subscribe(&mut state.table, awaited).inspect_err(|_| {
                    // There was room for what is waited for, and none for the pollable.
                    let awaited = Resource::<Awaited>::new_own(place);
                    let _ = state.table.delete(awaited);
                })
            })
        },
    )
}

/// Keeps something in a table, or says that there is no room for it.
fn answered<T, R: 'static>(
    result: Result<T, scope::ScopeError>,
    keep: impl FnOnce(T) -> wasmtime::Result<Resource<R>>,
) -> WitResult<Resource<R>, WitScopeError> {
    Ok((match result.map(keep) {
        Ok(Ok(kept)) => Ok(kept),
        Ok(Err(error)) => match error.downcast_ref() {
            Some(ResourceTableError::Full) => {
                let code = wit::ErrorCode::Exhausted(FULL.into());
                Err(WitScopeError::Region(code))
            }
            _ => return Err(error),
        },
        Err(refusal) => Err(refusal.into()),
    },))
}

#[async_trait]
impl Pollable for Awaited {
    async fn ready(&mut self) {
        Awaited::ready(self).await;
    }
}

// Lifecycle.

fn lifecycle(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(&format!("{LIFECYCLE}@0.1.0"))?;
    instance.func_wrap("stopping", |mut store: Store<'_>, (): ()| {
        let state = checked(&mut store)?;
        Ok((state.grants.app.signals.is_stopping(),))
    })?;
    instance.func_wrap("subscribe", |mut store: Store<'_>, (): ()| {
        let state = checked(&mut store)?;
        let stopping = Stopping(state.grants.app.signals.clone());
        pollable(&mut state.table, stopping)
    })
}

/// Waits until the app is asked to stop.
struct Stopping(AppSignals);

#[async_trait]
impl Pollable for Stopping {
    async fn ready(&mut self) {
        self.0.stopping().await;
    }
}
