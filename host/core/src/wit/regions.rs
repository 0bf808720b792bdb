//! The interface `regions`.

use wasmtime::component::Resource;

use super::bindings::HostFailure;
use super::bindings::tombolo::memory::regions as wit;
use crate::ctx::RegionCtx;
use crate::error::{MemoryError, RegionError};
use crate::host::Region;
use tombolo_region::{Rights, SpanError};

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
