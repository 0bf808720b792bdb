//! The last stage: encodes frames, and writes them into `/out`.

use std::path::Path;

use frames::Failure;

fn main() -> Result<(), Failure> {
    frames::sink("sharpened", Path::new("/out"))
}
