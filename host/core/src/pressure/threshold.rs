//! Thresholds of cgroups v1: the kernel reports when memory use crosses one.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::event::{EventfdFlags, eventfd};

use super::about;

/// Returns a descriptor that becomes readable each time that the cgroup's use of
/// memory crosses `bytes`, in either direction.
///
/// # Errors
///
/// The error of the kernel. The call needs the right to write to `cgroup.event_control`, which
/// cgroups v2 do not have.
pub(super) fn register(directory: &Path, bytes: u64) -> io::Result<OwnedFd> {
    let usage = directory.join("memory.usage_in_bytes");
    let usage = File::open(&usage).map_err(|error| about(&usage, error))?;
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let control = directory.join("cgroup.event_control");
    let text = format!("{} {} {bytes}", event.as_raw_fd(), usage.as_raw_fd());
    // The file must be there: nothing is to be made where cgroups are not.
    fs::OpenOptions::new()
        .write(true)
        .open(&control)
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|error| about(&control, error))?;
    Ok(event)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use tombolo_test_util::cgroup::{Filling, Group, fill_if_told};

    use super::*;

    #[test]
    fn cgroup_without_thresholds_is_named() {
        let error = register(Path::new("/not/there"), 1).unwrap_err();
        assert!(error.to_string().starts_with("/not/there/memory.usage"));
    }

    // rule 8
    #[test]
    #[ignore = "needs root, to create a cgroup"]
    fn kernel_tells_when_use_crosses_the_threshold() {
        const NAME: &str =
            "pressure::threshold::tests::kernel_tells_when_use_crosses_the_threshold";
        fill_if_told();
        let group = Group::make("threshold");
        let registered = register(group.directory(), 8 << 20);
        if group.directory().join("memory.max").exists() {
            // A cgroup of the second kind has none.
            assert!(registered.is_err());
            return;
        }
        let event = registered.unwrap();
        let is_told = |within: Duration| {
            let mut polled = [PollFd::new(&event, PollFlags::IN)];
            let within = Timespec::try_from(within).unwrap();
            poll(&mut polled, Some(&within)).unwrap() > 0
        };
        assert!(!is_told(Duration::ZERO), "nothing is in it");
        let begun = Instant::now();
        let filling = Filling::start(&group, NAME, 16 << 20);
        assert!(is_told(Duration::from_secs(60)), "{:?}", begun.elapsed());
        drop(filling);
    }
}
