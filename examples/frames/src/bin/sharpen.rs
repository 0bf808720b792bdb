//! The third stage: sharpens frames.

use frames::{Failure, filters};

fn main() -> Result<(), Failure> {
    frames::filter("denoised", "sharpened", |pixels, header| {
        filters::sharpen(pixels, header.width as usize, header.height as usize);
    })
}
