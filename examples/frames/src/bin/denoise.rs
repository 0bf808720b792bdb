//! The second stage: removes specks.

use frames::{Failure, filters};

fn main() -> Result<(), Failure> {
    let crash: Option<u32> = crash_on()?;
    frames::filter("decoded", "denoised", |pixels, header| {
        if crash == Some(header.number) {
            panic!("told to crash on frame {}", header.number);
        }
        filters::denoise(pixels, header.width as usize, header.height as usize);
    })
}

/// The value of `--crash-on N`, which shows the cost of a crash.
fn crash_on() -> Result<Option<u32>, Failure> {
    use lexopt::prelude::*;

    let mut crash = None;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("crash-on") => crash = Some(arguments.value()?.parse()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(crash)
}
