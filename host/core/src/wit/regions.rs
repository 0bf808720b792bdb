//! The interface `regions`.

use wasmtime::StoreContextMut;
use wasmtime::component::{
    ComponentNamedList, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType,
};

use super::answer;
use super::bindings::HostFailure;
use super::bindings::tombolo::memory::regions::{self as wit, HostRegion as _};
use super::getter::Getter;
use crate::ctx::RegionCtx;
use crate::error::{MemoryError, RegionError};
use crate::guest::guest_in;
use crate::host::Region;
use tombolo_region::{Rights, SpanError};

const INTERFACE: &str = "tombolo:memory/regions@0.1.0";

type Handle = Resource<Region>;

/// Adds the interface to a linker. The function that the bindings generate for this takes a
/// pointer to a function, and no getter that captures something, such as the number of a guest.
pub(super) fn add_to_linker<T, G>(linker: &mut Linker<T>, getter: &G) -> wasmtime::Result<()>
where
    T: 'static,
    G: Getter<T>,
{
    let mut instance = linker.instance(INTERFACE)?;
    let get = getter.clone();
    instance.resource(
        "region",
        ResourceType::host::<Region>(),
        move |store, rep| {
            // Not by the generated trait: this may end a lend within the guest, which takes the
            // store in hand.
            let mut guest = guest_in(store, &get);
            let (id, ctx) = guest.bound();
            let region = ctx.region_table.delete(Resource::new_own(rep))?;
            Ok(region.drop_in(id)?)
        },
    )?;
    let mut interface = Interface { instance, getter };
    type Create = (String, u64, bool);
    interface.func(
        "[static]region.create",
        |mut ctx, (name, size, pinned): Create| answer(ctx.create(name, size, pinned)),
    )?;
    interface.func("[method]region.id", |mut ctx, (it,): (Handle,)| {
        Ok((ctx.id(it)?,))
    })?;
    interface.func("[method]region.name", |mut ctx, (it,): (Handle,)| {
        Ok((ctx.name(it)?,))
    })?;
    interface.func("[method]region.size", |mut ctx, (it,): (Handle,)| {
        Ok((ctx.size(it)?,))
    })?;
    interface.func("[method]region.rights", |mut ctx, (it,): (Handle,)| {
        Ok((ctx.rights(it)?,))
    })?;
    interface.func("[method]region.duplicate", |mut ctx, (it, rights)| {
        answer(ctx.duplicate(it, rights))
    })?;
    interface.func("[method]region.restrict", |mut ctx, (it, rights)| {
        answer(ctx.restrict(it, rights))
    })?;
    interface.func("[method]region.freeze", |mut ctx, (it,): (Handle,)| {
        answer(ctx.freeze(it))
    })?;
    interface.func(
        "[method]region.clear-poison",
        |mut ctx, (it,): (Handle,)| answer(ctx.clear_poison(it)),
    )?;
    interface.func("[method]region.read-at", |mut ctx, (it, offset, length)| {
        answer(ctx.read_at(it, offset, length))
    })?;
    interface.func("[method]region.write-at", |mut ctx, (it, offset, bytes)| {
        answer(ctx.write_at(it, offset, bytes))
    })
}

/// The interface in a linker, for one guest.
struct Interface<'a, T: 'static, G> {
    instance: LinkerInstance<'a, T>,
    getter: &'a G,
}

impl<T: 'static, G: Getter<T>> Interface<'_, T, G> {
    /// Adds a function, which gets the guest's context.
    fn func<Params, Return>(
        &mut self,
        name: &str,
        act: impl Fn(&mut RegionCtx, Params) -> wasmtime::Result<Return> + Send + Sync + 'static,
    ) -> wasmtime::Result<()>
    where
        Params: ComponentNamedList + Lift + 'static,
        Return: ComponentNamedList + Lower + 'static,
    {
        let getter = self.getter.clone();
        let func = move |store: StoreContextMut<'_, T>, params| {
            act(guest_in(store, &getter).bound().1, params)
        };
        self.instance.func_wrap(name, func)
    }
}

impl From<wit::Rights> for Rights {
    fn from(rights: wit::Rights) -> Rights {
        [
            (wit::Rights::READ, Rights::READ),
            (wit::Rights::WRITE, Rights::WRITE),
            (wit::Rights::SHARE, Rights::SHARE),
        ]
        .into_iter()
        .filter(|(theirs, _)| rights.contains(*theirs))
        .fold(Rights::NONE, |all, (_, ours)| all | ours)
    }
}

impl From<Rights> for wit::Rights {
    fn from(rights: Rights) -> wit::Rights {
        [
            (wit::Rights::READ, Rights::READ),
            (wit::Rights::WRITE, Rights::WRITE),
            (wit::Rights::SHARE, Rights::SHARE),
        ]
        .into_iter()
        .filter(|(_, ours)| rights.contains(*ours))
        .fold(wit::Rights::empty(), |all, (theirs, _)| all | theirs)
    }
}

impl From<RegionError> for wit::ErrorCode {
    /// Converts a refusal into a code for guests. No other place does this.
    fn from(error: RegionError) -> wit::ErrorCode {
        match error {
            RegionError::Name(error) => wit::ErrorCode::InvalidArgument(error.to_string()),
            RegionError::Size { .. } | RegionError::At { .. } => {
                wit::ErrorCode::InvalidArgument(error.to_string())
            }
            RegionError::Span(error @ SpanError::Misaligned { .. }) => {
                wit::ErrorCode::Misaligned(error.to_string())
            }
            RegionError::Span(error @ SpanError::OutOfBounds { .. }) => {
                wit::ErrorCode::OutOfBounds(error.to_string())
            }
            RegionError::Span(error) => wit::ErrorCode::InvalidArgument(error.to_string()),
            RegionError::NotPermitted => wit::ErrorCode::NotPermitted,
            RegionError::WouldBlock => wit::ErrorCode::WouldBlock,
            RegionError::Frozen => wit::ErrorCode::Frozen,
            RegionError::Unpinned => wit::ErrorCode::Unpinned,
            RegionError::Purged => wit::ErrorCode::Purged,
            RegionError::Poisoned => wit::ErrorCode::Poisoned,
            RegionError::Gone => wit::ErrorCode::Gone,
            RegionError::Overlap => wit::ErrorCode::Overlap,
            RegionError::Exhausted(error) => wit::ErrorCode::Exhausted(error.to_string()),
            RegionError::Limit(text) => wit::ErrorCode::Exhausted(text),
            RegionError::OtherStrand
            | RegionError::NotLive
            | RegionError::Unsupported
            | RegionError::OtherHost
            | RegionError::Forked => wit::ErrorCode::Unsupported(error.to_string()),
            // The kernel's message is for the log, because it may reveal something of the host.
            RegionError::System(error) => {
                // Not a warning, because a guest could fill the log with them.
                tracing::debug!(%error, "the kernel refused a guest's operation on a region");
                wit::ErrorCode::Exhausted("the host's system refused".into())
            }
        }
    }
}

impl From<RegionError> for HostFailure {
    fn from(error: RegionError) -> HostFailure {
        HostFailure::Code(error.into())
    }
}

impl From<MemoryError> for HostFailure {
    fn from(error: MemoryError) -> HostFailure {
        match error {
            MemoryError::Guest(error) => error.into(),
            error @ MemoryError::Fatal(_) => HostFailure::Trap(error.into()),
        }
    }
}

impl From<wasmtime::Error> for HostFailure {
    fn from(error: wasmtime::Error) -> HostFailure {
        HostFailure::Trap(error)
    }
}

impl RegionCtx {
    /// Returns the region that a guest names by a handle. The component model guarantees that the
    /// guest has the handle. A bad one is a mistake of the host, and traps.
    fn named(&self, region: &Resource<Region>) -> wasmtime::Result<&Region> {
        self.check()?;
        Ok(self.region_table.get(region)?)
    }

    fn keep(&mut self, region: Region) -> wasmtime::Result<Resource<Region>> {
        Ok(self.region_table.push(region)?)
    }
}

impl wit::Host for &mut RegionCtx {
    fn convert_error_code(&mut self, error: HostFailure) -> wasmtime::Result<wit::ErrorCode> {
        match error {
            HostFailure::Code(code) => Ok(code),
            HostFailure::Trap(error) => Err(error),
        }
    }
}

impl wit::HostRegion for &mut RegionCtx {
    fn create(
        &mut self,
        name: String,
        size: u64,
        pinned: bool,
    ) -> Result<Resource<Region>, HostFailure> {
        self.check().map_err(wasmtime::Error::from)?;
        let region = Region::create(self.host(), &self.owner, &name, size, pinned)?;
        self.created += 1;
        Ok(self.keep(region)?)
    }

    fn id(&mut self, region: Resource<Region>) -> wasmtime::Result<u64> {
        Ok(self.named(&region)?.id().into())
    }

    fn name(&mut self, region: Resource<Region>) -> wasmtime::Result<String> {
        Ok(self.named(&region)?.name().to_owned())
    }

    fn size(&mut self, region: Resource<Region>) -> wasmtime::Result<u64> {
        Ok(self.named(&region)?.size())
    }

    fn rights(&mut self, region: Resource<Region>) -> wasmtime::Result<wit::Rights> {
        Ok(self.named(&region)?.rights().into())
    }

    fn duplicate(
        &mut self,
        region: Resource<Region>,
        rights: wit::Rights,
    ) -> Result<Resource<Region>, HostFailure> {
        let region = self.named(&region)?.duplicate(rights.into())?;
        Ok(self.keep(region)?)
    }

    fn restrict(
        &mut self,
        region: Resource<Region>,
        rights: wit::Rights,
    ) -> Result<Resource<Region>, HostFailure> {
        let region = self.named(&region)?.restrict(rights.into())?;
        Ok(self.keep(region)?)
    }

    fn freeze(&mut self, region: Resource<Region>) -> Result<(), HostFailure> {
        Ok(self.named(&region)?.freeze()?)
    }

    fn clear_poison(&mut self, region: Resource<Region>) -> Result<(), HostFailure> {
        Ok(self.named(&region)?.clear_poison()?)
    }

    fn read_at(
        &mut self,
        region: Resource<Region>,
        offset: u64,
        length: u64,
    ) -> Result<Vec<u8>, HostFailure> {
        Ok(self.named(&region)?.copy_out(offset, length)?)
    }

    fn write_at(
        &mut self,
        region: Resource<Region>,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<(), HostFailure> {
        Ok(self.named(&region)?.write_at(offset, &bytes)?)
    }

    fn drop(&mut self, region: Resource<Region>) -> wasmtime::Result<()> {
        self.region_table.delete(region)?;
        Ok(())
    }
}
