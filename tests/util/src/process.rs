//! Descriptors, mappings, memory and threads of a process, as the kernel reports them.
//!
//! Leak checks ask the kernel, because Tombolo would only report its own records. They
//! compare a process before and after. Tests of one program are threads of one process, so
//! such a check belongs into a program of its own.

use std::ffi::OsStr;
use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fs, str};

use tombolo::RegionHost;
use tombolo::pressure::Level;

/// A running process.
#[derive(Clone, Debug)]
pub struct Process(PathBuf);

/// An open file descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The number.
    pub number: u32,
    /// The file: a path, or for example `/memfd:music (deleted)`.
    pub target: PathBuf,
}

/// Consecutive pages with the same mapping: a line of `/proc/<pid>/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The addresses.
    pub range: Range<u64>,
    /// `rwxp`, with `-` for each missing permission and `s` for a shared mapping.
    pub permissions: String,
    /// The offset in the file, in bytes.
    pub offset: u64,
    /// The device of the file, as `major:minor`.
    pub device: String,
    /// The number of the file, or 0 without a file.
    pub inode: u64,
    /// A path, or for example `/memfd:music (deleted)` or `[heap]`. It may be empty.
    pub name: PathBuf,
}

/// A thread of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// The kernel's number of the thread.
    pub id: u32,
    /// The name, of at most 15 bytes.
    pub name: String,
}

/// Makes the host drop the mappings that it parked in this process, by a report of memory pressure
/// to a host without regions.
pub fn drop_parked_mappings() {
    let host = RegionHost::new();
    host.report_pressure(Level::Moderate);
}

impl Process {
    /// Returns the calling process.
    pub fn current() -> Self {
        Self("/proc/self".into())
    }

    /// Returns the process with this number.
    pub fn of(pid: u32) -> Self {
        Self(format!("/proc/{pid}").into())
    }

    /// Lists the open descriptors by number, without the one used to list them.
    ///
    /// # Errors
    ///
    /// Fails if the process has ended or belongs to another user.
    pub fn descriptors(&self) -> Result<Vec<Descriptor>> {
        let directory = self.0.join("fd");
        let mut descriptors = Vec::new();
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            match fs::read_link(entry.path()) {
                // The list contains its own descriptor.
                Ok(target) if is_descriptors(&target) => {}
                Ok(target) => descriptors.push(Descriptor {
                    number: number(entry.file_name().as_bytes())?,
                    target,
                }),
                // Another thread closed it meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        descriptors.sort_by_key(|it| it.number);
        Ok(descriptors)
    }

    /// Lists the mappings by address.
    ///
    /// # Errors
    ///
    /// Fails if the process has ended or belongs to another user.
    pub fn mappings(&self) -> Result<Vec<Mapping>> {
        fs::read(self.0.join("maps"))?
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| Mapping::parse(line).ok_or_else(|| invalid(&String::from_utf8_lossy(line))))
            .collect()
    }

    /// Returns the bytes of shared memory, memfds' included, that the process
    /// has in its page tables.
    ///
    /// # Errors
    ///
    /// Fails if the process has ended.
    pub fn shared_memory(&self) -> Result<u64> {
        self.status("RssShmem:")
    }

    /// Returns the bytes of all memory that the process has in its page tables.
    ///
    /// # Errors
    ///
    /// Fails if the process has ended.
    pub fn resident_memory(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    fn status(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(self.0.join("status"))?;
        let size = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_suffix("kB"))
            .ok_or_else(|| invalid(&format!("status without {name}")))?;
        Ok(number::<u64>(size.trim().as_bytes())? * 1024)
    }

    /// Lists the threads by number.
    ///
    /// # Errors
    ///
    /// Fails if the process has ended.
    pub fn threads(&self) -> Result<Vec<Thread>> {
        let mut threads = Vec::new();
        for entry in fs::read_dir(self.0.join("task"))? {
            let entry = entry?;
            match fs::read_to_string(entry.path().join("comm")) {
                Ok(name) => threads.push(Thread {
                    id: number(entry.file_name().as_bytes())?,
                    name: name.trim_end_matches('\n').to_owned(),
                }),
                // The thread ended meanwhile: ENOENT, or ESRCH on the way.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        threads.sort_by_key(|it| it.id);
        Ok(threads)
    }
}

impl Descriptor {
    /// Returns the name of the memfd, if the file is one.
    pub fn memfd(&self) -> Option<&OsStr> {
        memfd(&self.target)
    }
}

impl Mapping {
    /// Returns the name of the memfd, if the file is one.
    pub fn memfd(&self) -> Option<&OsStr> {
        memfd(&self.name)
    }

    /// Returns whether writes reach the file and its other mappings.
    pub fn is_shared(&self) -> bool {
        self.permissions.ends_with('s')
    }

    /// Parses a line: `7f00-7f10 rw-s 00010000 00:01 1234    /memfd:music (deleted)`.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut rest = line;
        let mut field = || {
            let end = rest.iter().position(|byte| *byte == b' ');
            let (field, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after.trim_ascii_start();
            str::from_utf8(field).ok()
        };
        let hexadecimal = |field| u64::from_str_radix(field, 16).ok();
        let (start, end) = field()?.split_once('-')?;
        Some(Self {
            range: hexadecimal(start)?..hexadecimal(end)?,
            permissions: field()?.to_owned(),
            offset: hexadecimal(field()?)?,
            device: field()?.to_owned(),
            inode: field()?.parse().ok()?,
            name: OsStr::from_bytes(rest).into(),
        })
    }
}

fn memfd(target: &Path) -> Option<&OsStr> {
    let name = target.as_os_str().as_bytes().strip_prefix(b"/memfd:")?;
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    Some(OsStr::from_bytes(name))
}

/// Returns whether `target` is the list of descriptors of a process, `/proc/…/fd`.
fn is_descriptors(target: &Path) -> bool {
    target.starts_with("/proc") && target.ends_with("fd")
}

/// Returns whether `error` is the kernel's error for a thread that has ended.
fn is_gone(error: &Error) -> bool {
    const ESRCH: i32 = 3;
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}

fn number<T: str::FromStr>(text: &[u8]) -> Result<T> {
    str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| invalid(&String::from_utf8_lossy(text)))
}

fn invalid(text: &str) -> Error {
    Error::new(
        ErrorKind::InvalidData,
        format!("unexpected text in /proc: {text:?}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapping_with_spaces_in_its_name_parses() {
        let line =
            b"7f0000010000-7f0000020000 r--s 00030000 00:01 2061   /memfd:two words (deleted)";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!(mapping.range, 0x7f00_0001_0000..0x7f00_0002_0000);
        assert_eq!(mapping.permissions, "r--s");
        assert_eq!(mapping.offset, 0x3_0000);
        assert_eq!(mapping.device, "00:01");
        assert_eq!(mapping.inode, 2061);
        assert_eq!(mapping.memfd(), Some(OsStr::new("two words")));
        assert!(mapping.is_shared());
    }

    #[test]
    fn mapping_without_name_parses() {
        let mapping = Mapping::parse(b"7f00-7f10 ---p 00000000 00:00 0 ").unwrap();
        assert_eq!(mapping.name, Path::new(""));
        assert_eq!(mapping.memfd(), None);
        assert!(!mapping.is_shared());
    }

    #[test]
    fn opened_file_appears_among_descriptors_and_goes() {
        use std::os::fd::AsRawFd;
        let file = fs::File::open(env!("CARGO_MANIFEST_DIR")).unwrap();
        let number = u32::try_from(file.as_raw_fd()).unwrap();
        let target = Path::new(env!("CARGO_MANIFEST_DIR"))
            .canonicalize()
            .unwrap();
        let opened = Descriptor { number, target };
        assert!(Process::current().descriptors().unwrap().contains(&opened));
        drop(file);
        assert!(!Process::current().descriptors().unwrap().contains(&opened));
    }

    #[test]
    fn address_of_code_lies_in_an_executable_mapping_of_this_program() {
        let address = invalid as fn(&str) -> Error as usize as u64;
        let mappings = Process::of(std::process::id()).mappings().unwrap();
        let mapping = mappings
            .iter()
            .find(|it| it.range.contains(&address))
            .unwrap();
        assert_eq!(mapping.permissions, "r-xp");
        assert_eq!(mapping.name, std::env::current_exe().unwrap());
        assert_ne!(mapping.inode, 0);
    }

    #[test]
    fn started_thread_appears_by_name() {
        let (send, receive) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("procfs-test".into())
            .spawn(move || receive.recv().is_err())
            .unwrap();
        let is_there = || {
            let threads = Process::current().threads().unwrap();
            threads.iter().any(|it| it.name == "procfs-test")
        };
        // The thread sets its name when it runs.
        while !is_there() {
            std::thread::yield_now();
        }
        drop(send);
        assert!(thread.join().unwrap());
    }

    #[test]
    fn shared_memory_is_counted_in_whole_pages() {
        assert_eq!(Process::current().shared_memory().unwrap() % 4096, 0);
    }
}
