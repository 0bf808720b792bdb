//! Writes a mebibyte to a file in one call. Then asks for more random bytes than its limit
//! allows.

mod bindings {
    #![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)] // Generated.
    wit_bindgen::generate!({
        path: "../wit/files.wit",
        world: "test:files/user",
        generate_all,
    });
}

use bindings::wasi::filesystem::preopens::get_directories;
use bindings::wasi::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};
use bindings::wasi::random::random::get_random_bytes;

fn main() {
    let directories = get_directories();
    let (directory, _) = directories.first().expect("one is granted");
    let file = directory
        .open_at(
            PathFlags::empty(),
            "written",
            OpenFlags::CREATE,
            DescriptorFlags::WRITE,
        )
        .expect("the directory is granted to write");
    let written = file.write(&vec![7; 1 << 20], 0);
    println!("wrote {}", written.expect("there is room"));
    println!("got {} random bytes", get_random_bytes(1 << 20).len());
    println!("got {} random bytes", get_random_bytes(48 << 20).len());
}
