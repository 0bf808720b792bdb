//! The host survives each act of a guest that could kill it. Guests of an app, guests that
//! the test embeds, and the process itself are tested.
//!
//! | module | content |
//! |---|---|
//! | `app` | guests of an app |
//! | `embedded` | guests in the test's own stores |
//! | `mappings` | the number of kernel mappings |
//! | `process` | faults of the process itself |
//! | `prepare` | when this process can map regions |
//! | `file` | the file behind a region |

mod app;
mod embedded;
mod file;
mod mappings;
mod prepare;
mod process;

use std::path::Path;

use tombolo::{GRANULE, RegionHost, WriteViolation};
use tombolo_test_util::puppet::{Puppet, READ};

tombolo_tests::guests!(faults);

const PAGE: u32 = 65536;

fn read(path: &str) -> Vec<u8> {
    std::fs::read(path).expect("the build script built the guest")
}

/// Returns the hostile guest that is written in WAT.
fn handmade() -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut module = wat::parse_file(root.join("wat/hostile.wat")).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    resolve.push_path(root.join("../wit/memory")).unwrap();
    let (package, _) = resolve.push_path(root.join("wit/faults.wit")).unwrap();
    let world = resolve.select_world(&[package], Some("hostile")).unwrap();
    let utf8 = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, utf8).unwrap();
    let mut encoder = wit_component::ComponentEncoder::default();
    encoder.module(&module).unwrap().encode().unwrap()
}

/// Checks that a guest was terminated because it wrote to its window.
#[track_caller]
fn assert_violation<R: std::fmt::Debug>(result: wasmtime::Result<R>) {
    let error = result.unwrap_err();
    assert!(error.is::<WriteViolation>(), "{error:?}");
    assert!(
        error
            .downcast_ref::<WriteViolation>()
            .unwrap()
            .to_string()
            .contains("guest `a`")
    );
}

extern "C" fn noticed(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // The handler received the kernel's arguments.
    let code = if info.is_null() { 43 } else { 42 };
    exit_now(code);
}

#[allow(unsafe_code)]
fn exit_now(code: i32) {
    // SAFETY: `_exit` may be called in a signal handler.
    unsafe { libc::_exit(code) }
}

#[allow(unsafe_code)]
fn handle_faults(handler: usize, flags: libc::c_int) {
    // SAFETY: a zeroed `sigaction` is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: the pointer is valid for the call, and the handler has the right signature.
    let result = unsafe { libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()) };
    assert_eq!(result, 0);
}

/// Creates a guest with windows, which the process's own faults do not concern.
fn busy_guest(host: &RegionHost) -> Puppet {
    let mut a = Puppet::new(host, "a");
    let number = a.create("music", GRANULE).unwrap().unwrap();
    let (_, at) = a.mapped(number, 1, READ);
    assert_eq!(a.byte(at), 0);
    a
}
