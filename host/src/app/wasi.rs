//! What a guest has of WASI.

use std::os::fd::AsRawFd;

use wasmtime_wasi::{FsPerms, WasiCtx};

use super::{CommandSpec, GuestSpec};

/// The WASI context of a guest: the standard streams if it shares them, and, for
/// the first command, what it was granted. No network.
pub(super) fn context(
    guest: &GuestSpec,
    command: Option<&CommandSpec>,
) -> wasmtime::Result<WasiCtx> {
    let mut wasi = WasiCtx::builder();
    wasi.arg(&guest.name);
    if guest.inherit_stdio {
        wasi.inherit_stdout().inherit_stderr();
    }
    if let Some(command) = command {
        if guest.inherit_stdio {
            wasi.inherit_stdin();
        }
        wasi.args(&command.args).envs(&command.env);
        for grant in &command.dirs {
            let perms = match grant.read_only {
                true => FsPerms::ReadOnly,
                false => FsPerms::ReadWrite,
            };
            // wasmtime-wasi takes a path; this one leads to the very directory
            // that was opened, whatever happened to its name since.
            let path = format!("/proc/self/fd/{}", grant.dir.as_raw_fd());
            wasi.preopened_dir(path, &grant.guest_path, perms)
                .map_err(|error| {
                    error.context(format!("directory `{}`", grant.host_path.display()))
                })?;
        }
    }
    Ok(wasi.build())
}
