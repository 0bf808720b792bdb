//! Reads directories a few entries at a time.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, openat, statat};
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};
use wasmtime_wasi::runtime::spawn_blocking;

use tombolo_region::Charge;

/// The bytes that are read from the kernel at a time: about 100 entries.
const BATCH: usize = 4096;

/// A stream of a directory's entries, of which at most [`BATCH`] bytes are in memory. Its position
/// is that of its own file descriptor.
#[derive(Clone)]
pub(super) struct EntryStream(Arc<Mutex<DirectoryReader>>);

struct DirectoryReader {
    dir: OwnedFd,
    entries: VecDeque<Result<DirectoryEntry, ErrorCode>>,
    ended: bool,
    _charge: Charge,
}

impl EntryStream {
    /// The most host memory of a stream. Entries with short names take three times as much memory
    /// as in the kernel's buffer.
    pub(super) const BYTES: u64 = 4 * BATCH as u64;

    /// Opens a directory again, so that each stream has its own position.
    pub(super) async fn open(dir: Arc<File>, charge: Charge) -> io::Result<EntryStream> {
        let opened = spawn_blocking(move || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(&*dir, c".", flags, Mode::empty())
        });
        Ok(EntryStream(Arc::new(Mutex::new(DirectoryReader {
            dir: opened.await?,
            entries: VecDeque::new(),
            ended: false,
            _charge: charge,
        }))))
    }

    /// Returns the next entry, or `None` at the end. Blocks one of the guest's threads.
    pub(super) async fn next(self) -> Result<Option<DirectoryEntry>, ErrorCode> {
        match self.buffered() {
            Some(next) => next,
            None => spawn_blocking(move || self.reader().read()).await,
        }
    }

    fn reader(&self) -> std::sync::MutexGuard<'_, DirectoryReader> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next entry if it is known without a system call.
    fn buffered(&self) -> Option<Result<Option<DirectoryEntry>, ErrorCode>> {
        let mut reader = self.reader();
        match reader.entries.pop_front() {
            Some(next) => Some(next.map(Some)),
            None => reader.ended.then_some(Ok(None)),
        }
    }
}

impl DirectoryReader {
    /// Reads until an entry, or the end.
    fn read(&mut self) -> Result<Option<DirectoryEntry>, ErrorCode> {
        while self.entries.is_empty() && !self.ended {
            self.fill().map_err(|error| ErrorCode::from(&error))?;
        }
        self.entries.pop_front().transpose()
    }

    /// Reads one batch.
    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); BATCH];
        let mut batch = RawDir::new(&self.dir, &mut buffer);
        loop {
            let Some(entry) = batch.next() else {
                self.ended = true;
                return Ok(());
            };
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                let ty = match entry.file_type() {
                    // Some file systems do not report the type.
                    FileType::Unknown => statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW)
                        .map(|stat| FileType::from_raw_mode(stat.st_mode)),
                    known => Ok(known),
                };
                let entry = match (name.to_str(), ty) {
                    (Ok(name), Ok(ty)) => Ok(DirectoryEntry {
                        type_: descriptor_type(ty),
                        name: name.to_owned(),
                    }),
                    (Err(_), _) => Err(ErrorCode::IllegalByteSequence),
                    (_, Err(error)) => Err(ErrorCode::from(&io::Error::from(error))),
                };
                self.entries.push_back(entry);
            }
            if batch.is_buffer_empty() {
                return Ok(());
            }
        }
    }
}

fn descriptor_type(ty: FileType) -> DescriptorType {
    match ty {
        FileType::Directory => DescriptorType::Directory,
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::Socket => DescriptorType::Socket,
        _ => DescriptorType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombolo::internal::LimitsInternals as _;
    use tombolo_region::{Account, ChargeKind};

    fn charge() -> Charge {
        let account = Account::new("guest `a`", tombolo::Limits::default().quota());
        account
            .charge(ChargeKind::HostMemory, EntryStream::BYTES)
            .unwrap()
    }

    /// Returns all entries, and the most that were in memory at a time.
    async fn all(dir: &std::path::Path) -> (Vec<DirectoryEntry>, usize) {
        let dir = Arc::new(File::open(dir).unwrap());
        let stream = EntryStream::open(dir, charge()).await.unwrap();
        let (mut entries, mut most) = (Vec::new(), 0);
        while let Some(entry) = stream.clone().next().await.unwrap() {
            entries.push(entry);
            most = most.max(stream.reader().entries.len());
        }
        assert!(stream.next().await.unwrap().is_none(), "the end is final");
        (entries, most)
    }

    // rule 10
    #[tokio::test]
    async fn entries_are_returned_once_in_small_batches() {
        let dir = tempfile::tempdir().unwrap();
        let count = 3000;
        for number in 0..count {
            File::create(dir.path().join(number.to_string())).unwrap();
        }
        let (entries, most) = all(dir.path()).await;
        let mut numbers: Vec<u32> = entries
            .iter()
            .map(|entry| entry.name.parse().unwrap())
            .collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..count));
        assert!(most < 200, "{most} at a time");
    }

    #[tokio::test]
    async fn entries_have_their_types() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        File::create(dir.path().join("file")).unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
        let (mut entries, _) = all(dir.path()).await;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let types: Vec<_> = entries.iter().map(|entry| entry.type_).collect();
        let expected = [
            DescriptorType::Directory,
            DescriptorType::RegularFile,
            DescriptorType::SymbolicLink,
        ];
        assert_eq!(types, expected);
    }
}
