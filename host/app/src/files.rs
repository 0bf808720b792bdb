//! Runs the file operations of each guest on threads of its own.
//!
//! The kernel may block forever on a file, such as a FIFO without a writer, or a file of a server
//! that is gone. wasmtime-wasi makes such calls on the blocking threads of the current tokio
//! runtime. An app's runtime has a bounded number of these for all guests, and its shutdown waits
//! for them.
//!
//! So each guest has a runtime for its file operations, with at most four threads. It is entered
//! while one of the guest's operations is polled, and serves all its incarnations. A guest that is
//! stuck in the kernel uses up only its own threads. Its deadlines hold, because it waits in a host
//! call. Stuck threads are left behind, and the program ends without them.

use std::future::Future;
use std::io;
use std::mem::replace;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use pin_project_lite::pin_project;
use tokio::runtime::{Builder, Handle, Runtime};
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Descriptor, DirectoryEntryStream, Filesize, HostDescriptor, HostDirectoryEntryStream,
    PathFlags,
};
use wasmtime_wasi::p2::pipe::{ClosedInputStream, ClosedOutputStream};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsError, FsResult, InputStream, OutputStream, Pollable,
    StreamError, StreamResult,
};

/// The most file operations of a guest at a time. Further ones wait until a thread is free.
const THREADS: usize = 4;

/// The stack size of these threads, enough for a system call and the resolution of a path.
const STACK: usize = 512 << 10;

/// The threads on which a guest's file operations block. All incarnations of the guest share them,
/// so threads that are stuck in the kernel stay counted. They start when they are needed. The
/// program does not wait for them when it ends.
#[derive(Debug, Default)]
pub(super) struct FileThreads(Mutex<Option<Runtime>>);

impl FileThreads {
    /// Returns the guest's runtime. If no thread can be started for it, returns the current
    /// runtime, whose threads the guest then shares.
    ///
    /// # Errors
    ///
    /// No thread can be started, and there is no current runtime.
    fn handle(&self) -> io::Result<Handle> {
        self.own()
            .or_else(|error| Handle::try_current().map_err(|_| error))
    }

    /// Runs a future. The blocking work that it starts runs on these threads.
    ///
    /// # Errors
    ///
    /// No thread can be started, and there is no current runtime.
    pub(super) async fn run<F: Future>(&self, future: F) -> io::Result<F::Output> {
        let handle = self.handle()?;
        Ok(On { future, handle }.await)
    }

    fn own(&self) -> io::Result<Handle> {
        let mut runtime = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.handle().clone());
        }
        // tokio panics if it cannot start its first thread, so that is tried before.
        let tried = std::thread::Builder::new().stack_size(STACK).spawn(|| ())?;
        let _ = tried.join();
        let made = Builder::new_current_thread()
            .max_blocking_threads(THREADS)
            .thread_name("tombolo-files")
            .thread_stack_size(STACK)
            // As long as one thread exists, tokio tolerates that it cannot start another.
            .thread_keep_alive(Duration::MAX)
            .build()?;
        let first = AssertUnwindSafe(|| drop(made.spawn_blocking(|| ())));
        if catch_unwind(first).is_err() {
            made.shutdown_background();
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(runtime.insert(made).handle().clone())
    }
}

impl Drop for FileThreads {
    fn drop(&mut self) {
        let runtime = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pin_project! {
    /// A future that is polled in the context of a runtime.
    struct On<F> {
        #[pin]
        future: F,
        handle: Handle,
    }
}

impl<F: Future> Future for On<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.handle.enter();
        this.future.poll(context)
    }
}

/// Replaces wasmtime-wasi's functions. The linker must allow shadowing. `view` returns the files of
/// a store's data.
pub(super) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> FileView<'_>,
) -> wasmtime::Result<()> {
    types::add_to_linker::<T, HasFiles>(linker, view)
}

struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = FileView<'a>;
}

/// The files of a guest, for its host functions.
pub(super) struct FileView<'a> {
    pub(super) wasi: WasiFilesystemCtxView<'a>,
    pub(super) threads: &'a Arc<FileThreads>,
}

/// Calls a function of wasmtime-wasi on the guest's threads.
macro_rules! on_threads {
    ($view:ident . $call:ident ( $($argument:expr),* )) => {{
        $view.threads.run($view.wasi.$call($($argument),*)).await?
    }};
}

type File = Resource<Descriptor>;

impl types::Host for FileView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<types::ErrorCode> {
        self.wasi.convert_error_code(error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<types::ErrorCode>> {
        self.wasi.filesystem_error_code(error)
    }
}

impl HostDescriptor for FileView<'_> {
    async fn advise(
        &mut self,
        file: File,
        offset: Filesize,
        length: Filesize,
        advice: types::Advice,
    ) -> FsResult<()> {
        on_threads!(self.advise(file, offset, length, advice))
    }

    async fn sync_data(&mut self, file: File) -> FsResult<()> {
        on_threads!(self.sync_data(file))
    }

    async fn get_flags(&mut self, file: File) -> FsResult<types::DescriptorFlags> {
        on_threads!(self.get_flags(file))
    }

    async fn get_type(&mut self, file: File) -> FsResult<types::DescriptorType> {
        on_threads!(self.get_type(file))
    }

    async fn set_size(&mut self, file: File, size: Filesize) -> FsResult<()> {
        on_threads!(self.set_size(file, size))
    }

    async fn set_times(
        &mut self,
        file: File,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        on_threads!(self.set_times(file, accessed, modified))
    }

    async fn read(
        &mut self,
        file: File,
        length: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        on_threads!(self.read(file, length, offset))
    }

    async fn write(&mut self, file: File, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        on_threads!(self.write(file, bytes, offset))
    }

    async fn read_directory(&mut self, dir: File) -> FsResult<Resource<DirectoryEntryStream>> {
        on_threads!(self.read_directory(dir))
    }

    async fn sync(&mut self, file: File) -> FsResult<()> {
        on_threads!(self.sync(file))
    }

    async fn create_directory_at(&mut self, dir: File, path: String) -> FsResult<()> {
        on_threads!(self.create_directory_at(dir, path))
    }

    async fn stat(&mut self, file: File) -> FsResult<types::DescriptorStat> {
        on_threads!(self.stat(file))
    }

    async fn stat_at(
        &mut self,
        dir: File,
        flags: PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        on_threads!(self.stat_at(dir, flags, path))
    }

    async fn set_times_at(
        &mut self,
        dir: File,
        flags: PathFlags,
        path: String,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        on_threads!(self.set_times_at(dir, flags, path, accessed, modified))
    }

    async fn link_at(
        &mut self,
        dir: File,
        flags: PathFlags,
        path: String,
        new_dir: File,
        new_path: String,
    ) -> FsResult<()> {
        on_threads!(self.link_at(dir, flags, path, new_dir, new_path))
    }

    async fn open_at(
        &mut self,
        dir: File,
        path_flags: PathFlags,
        path: String,
        open_flags: types::OpenFlags,
        flags: types::DescriptorFlags,
    ) -> FsResult<File> {
        on_threads!(self.open_at(dir, path_flags, path, open_flags, flags))
    }

    fn drop(&mut self, file: File) -> wasmtime::Result<()> {
        HostDescriptor::drop(&mut self.wasi, file)
    }

    async fn readlink_at(&mut self, dir: File, path: String) -> FsResult<String> {
        on_threads!(self.readlink_at(dir, path))
    }

    async fn remove_directory_at(&mut self, dir: File, path: String) -> FsResult<()> {
        on_threads!(self.remove_directory_at(dir, path))
    }

    async fn rename_at(
        &mut self,
        dir: File,
        path: String,
        new_dir: File,
        new_path: String,
    ) -> FsResult<()> {
        on_threads!(self.rename_at(dir, path, new_dir, new_path))
    }

    async fn symlink_at(&mut self, dir: File, target: String, path: String) -> FsResult<()> {
        on_threads!(self.symlink_at(dir, target, path))
    }

    async fn unlink_file_at(&mut self, dir: File, path: String) -> FsResult<()> {
        on_threads!(self.unlink_file_at(dir, path))
    }

    fn read_via_stream(
        &mut self,
        file: File,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let stream = self.wasi.read_via_stream(file, offset)?;
        let slot = self.wasi.table.get_mut(&stream)?;
        let inner = replace(slot, Box::new(ClosedInputStream));
        *slot = Box::new(FileStream {
            inner,
            threads: self.threads.clone(),
        });
        Ok(stream)
    }

    fn write_via_stream(
        &mut self,
        file: File,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.wasi.write_via_stream(file, offset)?;
        self.on_own_threads(stream)
    }

    fn append_via_stream(&mut self, file: File) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.wasi.append_via_stream(file)?;
        self.on_own_threads(stream)
    }

    async fn is_same_object(&mut self, one: File, other: File) -> wasmtime::Result<bool> {
        on_threads!(self.is_same_object(one, other))
    }

    async fn metadata_hash(&mut self, file: File) -> FsResult<types::MetadataHashValue> {
        on_threads!(self.metadata_hash(file))
    }

    async fn metadata_hash_at(
        &mut self,
        dir: File,
        flags: PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        on_threads!(self.metadata_hash_at(dir, flags, path))
    }
}

impl FileView<'_> {
    fn on_own_threads(
        &mut self,
        stream: Resource<DynOutputStream>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let slot = self.wasi.table.get_mut(&stream)?;
        let inner = replace(slot, Box::new(ClosedOutputStream));
        *slot = Box::new(FileStream {
            inner,
            threads: self.threads.clone(),
        });
        Ok(stream)
    }
}

impl HostDirectoryEntryStream for FileView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        self.wasi.read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.wasi, stream)
    }
}

/// A stream of a file's bytes that uses the guest's threads.
struct FileStream<S: ?Sized> {
    threads: Arc<FileThreads>,
    inner: Box<S>,
}

impl<S: ?Sized> FileStream<S> {
    fn handle(&self) -> StreamResult<Handle> {
        let handle = self.threads.handle();
        handle.map_err(|error| StreamError::LastOperationFailed(error.into()))
    }
}

#[async_trait]
impl Pollable for FileStream<dyn InputStream> {
    async fn ready(&mut self) {
        // Without a thread, the next `read` returns the error.
        if let Ok(handle) = self.threads.handle() {
            let future = self.inner.ready();
            On { future, handle }.await;
        }
    }
}

#[async_trait]
impl InputStream for FileStream<dyn InputStream> {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let handle = self.handle()?;
        let _entered = handle.enter();
        self.inner.read(size)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        let handle = self.handle()?;
        let future = self.inner.blocking_read(size);
        On { future, handle }.await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[async_trait]
impl Pollable for FileStream<dyn OutputStream> {
    async fn ready(&mut self) {
        // It waits for an operation that was started before, on any thread.
        self.inner.ready().await;
    }
}

#[async_trait]
impl OutputStream for FileStream<dyn OutputStream> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let handle = self.handle()?;
        let _entered = handle.enter();
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.inner.check_write()
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        let handle = self.handle()?;
        let future = self.inner.blocking_write_and_flush(bytes);
        On { future, handle }.await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}
