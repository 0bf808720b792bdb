//! Reads streams into its region, and writes it to streams.
#![allow(unsafe_code, missing_docs)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/bodies.wit"],
        world: "test:bodies/node",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });
    export!(Node);
    pub(crate) struct Node;
}

use std::cell::RefCell;

use bindings::exports::test::bodies::acts::Guest;
use bindings::wasi::io::streams::{InputStream, OutputStream};
use tombolo_guest::Region;
use tombolo_guest::streams::StreamError;

tombolo_guest::impl_streams!(bindings::wasi::io::streams);

thread_local! {
    static REGION: RefCell<Option<Region>> = const { RefCell::new(None) };
}

fn with<R>(act: impl FnOnce(&Region) -> Result<R, StreamError>) -> Result<R, String> {
    let acted = REGION.with_borrow(|region| act(region.as_ref().expect("it was given one")));
    acted.map_err(|error| error.to_string())
}

impl Guest for bindings::Node {
    fn keep(region: Region) {
        REGION.set(Some(region));
    }

    fn drop_region() {
        REGION.set(None);
    }

    fn read(from: &InputStream, offset: u64, most: u64) -> Result<u64, String> {
        with(|region| region.read_from(from, offset..offset + most))
    }

    fn read_in_use(from: &InputStream, offset: u64, most: u64) -> Result<u64, String> {
        with(|region| {
            let _window = region.try_read(..tombolo_guest::GRANULE)?;
            region.read_from(from, offset..offset + most)
        })
    }

    fn fill(from: &InputStream, offset: u64, most: u64) -> Result<u64, String> {
        with(|region| region.fill_from(from, offset..offset + most))
    }

    fn write(to: &OutputStream, offset: u64, length: u64) -> Result<(), String> {
        with(|region| region.write_to(to, offset..offset + length))
    }

    fn write_lent(to: &OutputStream, region: &Region) -> Result<(), String> {
        region.write_to(to, ..).map_err(|error| error.to_string())
    }
}

fn main() {}
