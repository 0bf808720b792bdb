//! What a guest has of WASI.

use std::os::fd::AsRawFd;

use wasmtime_wasi::{FsPerms, WasiCtx};

use super::{CommandSpec, Grant, GuestSpec};

/// The WASI context of a guest: the standard streams if it shares them, and what
/// it was granted, also as the first command. No network.
pub(super) fn context(
    guest: &GuestSpec,
    command: Option<&CommandSpec>,
) -> wasmtime::Result<WasiCtx> {
    let mut wasi = WasiCtx::builder();
    wasi.arg(&guest.name).args(&guest.args).envs(&guest.env);
    if guest.inherit_stdio {
        wasi.inherit_stdout().inherit_stderr();
    }
    let mut dirs: Vec<&Grant> = guest.dirs.iter().collect();
    if let Some(command) = command {
        if guest.inherit_stdio {
            wasi.inherit_stdin();
        }
        wasi.args(&command.args).envs(&command.env);
        dirs.extend(&command.dirs);
    }
    for grant in dirs {
        let perms = match grant.read_only {
            true => FsPerms::ReadOnly,
            false => FsPerms::ReadWrite,
        };
        // wasmtime-wasi takes a path; this one leads to the very directory
        // that was opened, whatever happened to its name since.
        let path = format!("/proc/self/fd/{}", grant.dir.as_raw_fd());
        wasi.preopened_dir(path, &grant.guest_path, perms)
            .map_err(|error| error.context(format!("directory `{}`", grant.host_path.display())))?;
    }
    Ok(wasi.build())
}
