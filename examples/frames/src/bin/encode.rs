//! The last stage: encodes, and writes into `/out`.

use std::path::Path;

use frames::Failure;

fn main() -> Result<(), Failure> {
    frames::sink("sharpened", Path::new("/out"))
}
