//! The template from which each incarnation of a guest is made.

use std::sync::{Arc, OnceLock};

use wasmtime::component::Component;

use super::files::FileThreads;
use super::grants::Grants;
use super::instance_size::InstanceSize;
use super::output::Stdio;
use super::spec::{CommandSpec, GuestSpec};
use super::state::GuestState;
use super::strand::AppStrand;
use super::wasi;
use tombolo::internal::{RegionCtxBuilderInternals as _, RegionCtxInternals as _};
use tombolo::{Limits, RegionHost};
use tombolo_region::Account;

/// Everything that a guest is made from, at its start and at each restart.
pub(super) struct GuestTemplate {
    pub(super) spec: GuestSpec,
    /// The first command's further arguments, variables and directories.
    pub(super) command: Option<CommandSpec>,
    pub(super) limits: Limits,
    /// The strand on which the guest runs.
    pub(super) strand: AppStrand,
    pub(super) component: Component,
    /// Whether it has async functions, so that it answers several calls at a time.
    pub(super) tasks: bool,
    /// The host memory of its core instances.
    pub(super) size: InstanceSize,
    /// The most bytes of host memory for each unit of fuel, in the values of its calls.
    pub(super) lift_ratio: u64,
    /// The name of its export `wasi:cli/run`, if it is a command.
    pub(super) run: Option<String>,
    /// Whether it imports `tombolo:app/lifecycle`, so that it learns that the app stops.
    pub(super) hears_stop: bool,
    /// Its standard streams, which all incarnations share.
    pub(super) stdio: Stdio,
    /// Runs its file operations, those of all incarnations.
    pub(super) files: Arc<FileThreads>,
    /// The account of all incarnations: what one queued still counts in the next.
    pub(super) account: OnceLock<Arc<Account>>,
}

impl GuestTemplate {
    /// Makes the data of a new store.
    ///
    /// # Errors
    ///
    /// If a directory cannot be granted.
    pub(super) fn state(&self, host: &RegionHost, grants: Grants) -> wasmtime::Result<GuestState> {
        let wasi = wasi::context(&self.spec, self.command.as_ref(), &self.stdio)?;
        let regions = host
            .context(self.spec.name.clone())
            .limits(self.limits.clone())
            .account(self.account.get().cloned())
            .run_by_us(&self.strand.id)
            .build();
        let _ = self.account.set(regions.owner().account.clone());
        Ok(GuestState::new(
            wasi,
            self.files.clone(),
            regions,
            grants,
            &self.limits,
            self.lift_ratio,
        ))
    }
}
