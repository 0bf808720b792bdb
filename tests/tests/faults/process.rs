//! The process's own faults, which reach the handlers that it had before.

use std::os::unix::process::ExitStatusExt;

use super::{busy_guest, exit_now, handle_faults, noticed};
use tombolo::{GRANULE, RegionHost};
use tombolo_test_util::child::again;
use tombolo_test_util::puppet::{Puppet, READ, filled, mappings_of};

/// An environment variable that is set in a child process, which must fault.
const CHILD: &str = "TOMBOLO_TEST_CHILD";

/// Returns whether this is the child process.
fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

#[track_caller]
fn child(name: &str) -> std::process::ExitStatus {
    let output = again(name).env(CHILD, "1").output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stderr));
    output.status
}

/// Writes to a read-only page.
#[allow(unsafe_code)]
fn write_to_a_read_only_page() {
    // SAFETY: the kernel chooses the address.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: none. The fault is intended.
    unsafe { page.cast::<u8>().write_volatile(1) }
}

/// Writes to an address without a page.
#[allow(unsafe_code)]
fn write_to_nowhere() {
    // SAFETY: none. The fault is intended.
    unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) }
}

extern "C" fn noticed_plainly(_: libc::c_int) {
    exit_now(44);
}

// rule 9
#[test]
fn unrelated_fault_reaches_the_earlier_handler() {
    let name = "process::unrelated_fault_reaches_the_earlier_handler";
    if is_child() {
        handle_faults(
            noticed as *const () as usize,
            libc::SA_SIGINFO | libc::SA_ONSTACK,
        );
        let host = RegionHost::new();
        let mut a = busy_guest(&host);
        // Faults of guests do not reach it.
        a.poke(u32::MAX, 1).unwrap_err();
        write_to_a_read_only_page();
        unreachable!("it did not fault");
    }
    assert_eq!(child(name).code(), Some(42));
}

// rule 9
#[test]
fn unmapped_fault_reaches_a_plain_handler() {
    let name = "process::unmapped_fault_reaches_a_plain_handler";
    if is_child() {
        handle_faults(noticed_plainly as *const () as usize, libc::SA_ONSTACK);
        let host = RegionHost::new();
        let _a = busy_guest(&host);
        write_to_nowhere();
        unreachable!("it did not fault");
    }
    assert_eq!(child(name).code(), Some(44));
}

// rule 9
#[test]
fn fault_beside_windows_reaches_the_handler() {
    let name = "process::fault_beside_windows_reaches_the_handler";
    if is_child() {
        handle_faults(
            noticed as *const () as usize,
            libc::SA_SIGINFO | libc::SA_ONSTACK,
        );
        let host = RegionHost::new();
        let mut a = Puppet::new(&host, "a");
        let region = filled(&host, "music", GRANULE, 1);
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let (_, at) = a.mapped(number, 1, READ);
        let base = mappings_of(&region)[0].range.start - u64::from(at);
        // The address is past the accessible part.
        let beyond = base + (1 << 32) - 4096;
        write_at(beyond);
        unreachable!("it did not fault");
    }
    assert_eq!(child(name).code(), Some(42));
}

#[allow(unsafe_code)]
fn write_at(address: u64) {
    let at = std::ptr::with_exposed_provenance_mut::<u8>(usize::try_from(address).unwrap());
    // SAFETY: none. The fault is intended.
    unsafe { at.write_volatile(1) }
}

// rule 9
#[test]
fn unhandled_fault_kills_the_process() {
    let name = "process::unhandled_fault_kills_the_process";
    if is_child() {
        handle_faults(libc::SIG_DFL, 0);
        let host = RegionHost::new();
        let _a = busy_guest(&host);
        write_to_a_read_only_page();
        unreachable!("it did not fault");
    }
    assert_eq!(child(name).signal(), Some(libc::SIGSEGV));
}

// rule 9
#[test]
fn fault_reaches_the_handler_of_std() {
    let name = "process::fault_reaches_the_handler_of_std";
    if is_child() {
        let host = RegionHost::new();
        let _a = busy_guest(&host);
        write_to_nowhere();
        unreachable!("it did not fault");
    }
    assert_eq!(child(name).signal(), Some(libc::SIGSEGV));
}
