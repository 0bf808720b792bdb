//! A directory that is reached without its name.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::thread::UnshareFlags;

use super::kernel::ask;

/// Runs a function in a thread of its own whose current directory is this one. The function
/// reaches the directory as `.`, whatever its name is by now. No other thread's current directory
/// changes. Blocks until the function has returned.
///
/// # Errors
///
/// The kernel's error: no thread can be started, or a thread may not have a current directory
/// of its own.
pub fn within<T: Send>(directory: BorrowedFd<'_>, run: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let inside = std::thread::Builder::new().name("tombolo-directory".into());
        let inside = inside.spawn_scoped(scope, move || {
            ask(|| {
                // SAFETY: with `FS` alone the thread gets a current directory, a root and a
                // umask of its own. Descriptors stay shared, so that none changes its
                // meaning.
                unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }
            })?;
            ask(|| rustix::process::fchdir(directory))?;
            Ok(run())
        })?;
        match inside.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn directory_is_reached_without_a_name() {
        let outside = std::env::current_dir().unwrap();
        let there = tempfile::tempdir().unwrap();
        let moved = there.path().join("moved");
        let named = there.path().join("named");
        std::fs::create_dir(&named).unwrap();
        std::fs::write(named.join("file"), "it").unwrap();
        let directory = std::fs::File::open(&named).unwrap();
        std::fs::rename(&named, &moved).unwrap();
        let read = within(directory.as_fd(), || {
            let here = std::thread::spawn(std::env::current_dir);
            (std::fs::read_to_string("./file"), here.join().unwrap())
        });
        let (read, inherited) = read.unwrap();
        assert_eq!(read.unwrap(), "it");
        assert_eq!(inherited.unwrap(), moved);
        assert_eq!(std::env::current_dir().unwrap(), outside);
    }
}
