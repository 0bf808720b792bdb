//! The functions of `wasi:filesystem/types` by which a guest can hold host memory.
//!
//! For each stream of entries, wasmtime-wasi reads the whole directory into memory. Its files and
//! file streams take a write of any length. The functions here are bounded. The memory of a stream
//! is charged to the guest's `host-memory` before it is opened. All of them block on the guest's
//! own threads: see `files`.

mod directory;
mod stream;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType, WasmList};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::filesystem::types::{DirectoryEntry, ErrorCode, HostDescriptor};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsResult};

use self::directory::EntryStream;
use self::stream::ChargedStream;
use super::files::FileView;
use super::state::GuestState;
use tombolo_region::Charge;

/// The interface, in the version that wasmtime-wasi implements.
const TYPES: &str = "wasi:filesystem/types@0.2.12";

/// The most bytes of one `write`, as many as a stream takes at a time. The result is the number of
/// bytes written, and the guest continues from there. If the file blocks for longer than the guest
/// lives, the bytes stay in memory.
const WRITTEN: usize = 64 << 10;

type WriteArgs = (Resource<Descriptor>, WasmList<u8>, u64);

type GuestStore<'a> = StoreContextMut<'a, GuestState>;
type FileResult<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

/// Replaces wasmtime-wasi's functions. The linker must allow shadowing.
pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    let mut types = linker.instance(TYPES)?;
    let entries = ResourceType::host::<EntryStream>();
    types.resource("directory-entry-stream", entries, |mut store, rep| {
        let stream = Resource::<EntryStream>::new_own(rep);
        store.data_mut().table.delete(stream)?;
        Ok(())
    })?;
    types.func_wrap_async(
        "[method]descriptor.read-directory",
        |mut store: GuestStore<'_>, (descriptor,): (Resource<Descriptor>,)| {
            Box::new(async move { read_directory(store.data_mut(), &descriptor).await })
        },
    )?;
    types.func_wrap_async(
        "[method]directory-entry-stream.read-directory-entry",
        |store: GuestStore<'_>, (stream,): (Resource<EntryStream>,)| {
            Box::new(async move { next_entry(store, &stream).await })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.write",
        |mut store: GuestStore<'_>, (descriptor, bytes, offset): WriteArgs| {
            Box::new(async move {
                // The rest is not even copied.
                let bytes = bytes.as_le_slice(&store);
                let bytes = bytes[..bytes.len().min(WRITTEN)].to_vec();
                let mut files = store.data_mut().file_view();
                let written = files.write(descriptor, bytes, offset).await;
                Ok((match written {
                    Ok(written) => Ok(written),
                    Err(error) => Err(error.downcast()?),
                },))
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.read-via-stream",
        |mut store: GuestStore<'_>, (descriptor, offset): (Resource<Descriptor>, u64)| {
            open_input(store.data_mut(), |files| {
                files.read_via_stream(descriptor, offset)
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.write-via-stream",
        |mut store: GuestStore<'_>, (descriptor, offset): (Resource<Descriptor>, u64)| {
            open_output(store.data_mut(), |files| {
                files.write_via_stream(descriptor, offset)
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.append-via-stream",
        |mut store: GuestStore<'_>, (descriptor,): (Resource<Descriptor>,)| {
            open_output(store.data_mut(), |files| {
                files.append_via_stream(descriptor)
            })
        },
    )
}

/// Charges the memory of a stream. The error code cannot carry the reason, so it is logged, once
/// per incarnation.
fn charge(state: &mut GuestState, what: &str, bytes: u64) -> Result<Charge, ErrorCode> {
    state.charge(bytes).map_err(|exhausted| {
        if state.is_first_refusal() {
            let guest = state.regions.name();
            tracing::warn!(guest, "cannot open {what}: {exhausted}");
        }
        ErrorCode::InsufficientMemory
    })
}

async fn read_directory(
    state: &mut GuestState,
    descriptor: &Resource<Descriptor>,
) -> FileResult<Resource<EntryStream>> {
    let dir = match state.table.get(descriptor)? {
        Descriptor::Dir(dir) => dir.dir.clone(),
        Descriptor::File(_) => return Ok((Err(ErrorCode::NotDirectory),)),
    };
    let charge = match charge(state, "a directory", EntryStream::BYTES) {
        Ok(charge) => charge,
        Err(code) => return Ok((Err(code),)),
    };
    let opened = state.files.run(EntryStream::open(dir, charge)).await;
    Ok((match opened.flatten() {
        Ok(stream) => Ok(state.table.push(stream)?),
        Err(error) => Err(ErrorCode::from(&error)),
    },))
}

async fn next_entry(
    mut store: GuestStore<'_>,
    stream: &Resource<EntryStream>,
) -> FileResult<Option<DirectoryEntry>> {
    let state = store.data_mut();
    let stream = state.table.get(stream)?.clone();
    let next = state.files.run(stream.next()).await;
    Ok((next.unwrap_or_else(|error| Err(ErrorCode::from(&error))),))
}

fn open_input(
    state: &mut GuestState,
    open: impl FnOnce(&mut FileView<'_>) -> FsResult<Resource<DynInputStream>>,
) -> FileResult<Resource<DynInputStream>> {
    let charge = match charge(state, "a stream of a file", stream::BYTES) {
        Ok(charge) => charge,
        Err(code) => return Ok((Err(code),)),
    };
    Ok((match open(&mut state.file_view()) {
        Ok(opened) => {
            let inner = state.table.delete(opened)?;
            let charged: DynInputStream = Box::new(ChargedStream::new(inner, charge));
            Ok(state.table.push(charged)?)
        }
        Err(error) => Err(error.downcast()?),
    },))
}

fn open_output(
    state: &mut GuestState,
    open: impl FnOnce(&mut FileView<'_>) -> FsResult<Resource<DynOutputStream>>,
) -> FileResult<Resource<DynOutputStream>> {
    let charge = match charge(state, "a stream of a file", stream::BYTES) {
        Ok(charge) => charge,
        Err(code) => return Ok((Err(code),)),
    };
    Ok((match open(&mut state.file_view()) {
        Ok(opened) => {
            let inner = state.table.delete(opened)?;
            let charged: DynOutputStream = Box::new(ChargedStream::new(inner, charge));
            Ok(state.table.push(charged)?)
        }
        Err(error) => Err(error.downcast()?),
    },))
}
