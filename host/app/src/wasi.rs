//! The WASI interfaces and context of a guest.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use wasmtime::component::Linker;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder};

use super::output::{GuestStdin, Stdio};
use super::spec::{CommandSpec, Grant, GuestSpec};
use super::state::GuestState;
use super::{files, filesystem, random};
use tombolo::internal::sys;

/// Adds the interfaces of wasmtime-wasi. Replaces the functions by which a guest can hold host
/// memory, and those on files, which run on the guest's own threads.
pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    let added = files::add_to_linker(linker, GuestState::file_view)
        .and_then(|()| filesystem::add_to_linker(linker))
        .and_then(|()| random::add_to_linker(linker));
    linker.allow_shadowing(false);
    added
}

/// Adds the interfaces of WASI 0.3 that are sound for guests of an app: `cli`, `clocks` and
/// `random`. Files are not offered, because operations on them would not run on the guest's own
/// threads, and neither are sockets. The engine must support concurrency.
pub(super) fn add_p3_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p3::cli::add_to_linker(linker)?;
    wasmtime_wasi::p3::clocks::add_to_linker(linker)?;
    wasmtime_wasi::p3::random::add_to_linker(linker)?;
    linker.allow_shadowing(true);
    let added = random::add_p3_to_linker(linker);
    linker.allow_shadowing(false);
    added
}

/// Creates the WASI context of a guest, with its standard streams and grants. `command` has the
/// arguments and grants of the first command. There is no network.
pub(super) fn context(
    guest: &GuestSpec,
    command: Option<&CommandSpec>,
    stdio: &Stdio,
) -> wasmtime::Result<WasiCtx> {
    let mut wasi = WasiCtx::builder();
    wasi.arg(&guest.name).args(&guest.args).envs(&guest.env);
    if let Some(stdout) = stdio.stdout() {
        wasi.stdout(stdout);
    }
    if let Some(stderr) = stdio.stderr() {
        wasi.stderr(stderr);
    }
    let mut dirs: Vec<&Grant> = guest.dirs.iter().collect();
    if let Some(command) = command {
        if guest.inherit_stdio {
            wasi.stdin(GuestStdin(stdio.clone()));
        }
        wasi.args(&command.args).envs(&command.env);
        dirs.extend(&command.dirs);
    }
    for grant in dirs {
        preopen(&mut wasi, grant)
            .map_err(|error| error.context(format!("directory `{}`", grant.host_path.display())))?;
    }
    Ok(wasi.build())
}

/// Grants a directory. wasmtime-wasi takes a path, which must lead to the directory that was
/// opened, even if it was renamed or replaced since.
fn preopen(wasi: &mut WasiCtxBuilder, grant: &Grant) -> wasmtime::Result<()> {
    let perms = match grant.read_only {
        true => FsPerms::ReadOnly,
        false => FsPerms::ReadWrite,
    };
    let path = format!("/proc/self/fd/{}", grant.dir.as_raw_fd());
    let by_proc = wasi
        .preopened_dir(path, &grant.guest_path, perms)
        .map(|_| ());
    let Err(error) = by_proc else {
        return Ok(());
    };
    let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    if !error.downcast_ref::<io::Error>().is_some_and(missing) {
        return Err(error);
    }
    // The descriptor is open, so it is `/proc` that is missing.
    let inside = sys::within(grant.dir.as_fd(), || {
        wasi.preopened_dir(".", &grant.guest_path, perms)
            .map(|_| ())
    });
    inside.unwrap_or_else(|error| {
        Err(wasmtime::Error::new(error).context(
            "`/proc` is not mounted, and no thread can use the directory as its own current \
             directory instead; mount `/proc`",
        ))
    })
}
