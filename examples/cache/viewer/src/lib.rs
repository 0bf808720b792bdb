//! Analyses images in regions that it is lent.

mod look;

use tombolo_guest::Region;

use bindings::exports::tombolo_examples::cache::viewing;
use viewing::{Failure, Impression};

mod bindings {
    // Generated code, which calls the ABI of the component model.
    #![allow(unsafe_code, missing_docs, unreachable_pub)]

    wit_bindgen::generate!({
        path: "../wit",
        world: "viewer",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
    });

    export!(Viewer);

    pub(crate) struct Viewer;
}

impl viewing::Guest for bindings::Viewer {
    fn view(pixels: &Region) -> Result<Impression, Failure> {
        let window = pixels
            .try_read(..)
            .map_err(|error| Failure::Refused(error.to_string()))?;
        look::at(&window).ok_or_else(|| {
            Failure::BadArgument(format!(
                "a region of {} bytes does not hold whole pixels of {} bytes",
                window.len(),
                look::PIXEL
            ))
        })
    }
}
