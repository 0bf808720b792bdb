//! The file behind a region.

use tombolo::{GRANULE, RegionHost};
use tombolo_test_util::process::Process;
use tombolo_test_util::puppet::{assert_filled, filled};

// rule 9
#[test]
#[allow(unsafe_code)]
fn file_of_a_region_is_sealed() {
    let host = RegionHost::new();
    let region = filled(&host, "sealed music", GRANULE + 1, 1);
    let descriptors = Process::current().descriptors().unwrap();
    let is_its = |name: &std::ffi::OsStr| name == "tombolo:sealed music";
    let found: Vec<_> = descriptors
        .iter()
        .filter(|it| it.memfd().is_some_and(is_its))
        .collect();
    let [descriptor] = found[..] else {
        panic!("{found:?}")
    };
    let fd = i32::try_from(descriptor.number).unwrap();
    let last_error = || std::io::Error::last_os_error().raw_os_error().unwrap();

    for length in [0, 1, GRANULE, 2 * GRANULE - 1, 2 * GRANULE + 1, 1 << 40] {
        // SAFETY: the descriptor is that of the region, which lives.
        let result = unsafe { libc::ftruncate(fd, length.cast_signed()) };
        assert_eq!((result, last_error()), (-1, libc::EPERM), "{length:#x}");
    }
    // SAFETY: as above, and the bytes are readable.
    let result = unsafe { libc::pwrite(fd, [1u8].as_ptr().cast(), 1, 3 << 16) };
    assert_eq!((result, last_error()), (-1, libc::EPERM));
    // SAFETY: as above.
    let seals = unsafe { libc::fcntl(fd, libc::F_GET_SEALS) };
    let wanted = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    assert_eq!(seals & wanted, wanted);
    // A file that is sealed against writing could not be purged.
    assert_eq!(seals & (libc::F_SEAL_WRITE | libc::F_SEAL_FUTURE_WRITE), 0);
    for seal in [
        libc::F_SEAL_WRITE,
        libc::F_SEAL_FUTURE_WRITE,
        libc::F_SEAL_GROW,
    ] {
        // SAFETY: as above.
        let result = unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seal) };
        assert_eq!((result, last_error()), (-1, libc::EPERM));
    }
    // SAFETY: as above.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    assert_ne!(flags & libc::FD_CLOEXEC, 0);

    // Since Linux 6.3, the file is not executable and cannot become so.
    // SAFETY: as above.
    let result = unsafe { libc::fchmod(fd, 0o777) };
    const F_SEAL_EXEC: libc::c_int = 0x20;
    if seals & F_SEAL_EXEC != 0 {
        assert_eq!((result, last_error()), (-1, libc::EPERM));
        let path = format!("/proc/self/fd/{fd}");
        let error = std::process::Command::new(path).spawn().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    }
    assert_filled(&region, 1);
}
