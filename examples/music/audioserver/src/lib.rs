//! Measures the samples in a region that it is lent. Limits them into a region of its own,
//! and moves that to the caller.

mod limiter;
mod measure;
mod sample;

use tombolo_guest::{Error, Region};

use bindings::exports::tombolo_examples::music::server;
use sample::Sample;
use server::{Failure, Format, Level, Played};

mod bindings {
    // Generated code, which calls the ABI of the component model.
    #![allow(unsafe_code, missing_docs, unreachable_pub)]

    wit_bindgen::generate!({
        path: "../wit",
        world: "audioserver",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
    });

    export!(Audioserver);

    pub(crate) struct Audioserver;
}

/// The maximum gain or attenuation, in dB.
const MAX_GAIN: f32 = 120.0;

impl server::Guest for bindings::Audioserver {
    fn play(buffer: &Region, format: Format, gain_db: f32) -> Result<Played, Failure> {
        match format.sample {
            server::Sample::Int16 => play::<i16>(buffer, format, gain_db),
            server::Sample::Float32 => play::<f32>(buffer, format, gain_db),
        }
    }

    fn touch(buffer: &Region) -> Result<(), Failure> {
        let window = buffer.try_read(..).map_err(lent_refused)?;
        drop(window);
        Ok(())
    }

    fn touch_bytes(samples: Vec<u8>) -> Result<u64, String> {
        Ok(samples.len() as u64)
    }
}

fn play<S: Sample>(buffer: &Region, format: Format, gain_db: f32) -> Result<Played, Failure> {
    let size = buffer.size();
    let channels = usize::from(format.channels);
    let frame = size_of::<S>() * channels;
    if frame == 0 || !size.is_multiple_of(frame as u64) {
        return Err(Failure::BadArgument(format!(
            "a region of {size} bytes does not hold whole frames of {frame} bytes"
        )));
    }
    if !(-MAX_GAIN..=MAX_GAIN).contains(&gain_db) {
        return Err(Failure::BadArgument(format!(
            "a gain of {gain_db} dB; it is between -{MAX_GAIN} and {MAX_GAIN} dB"
        )));
    }

    let samples = Region::create("music, processed", size).map_err(own_refused)?;
    let input = buffer.try_read(..).map_err(lent_refused)?;
    let mut output = samples.try_write(..).map_err(own_refused)?;

    let before = measure::<S>(&input, format)?;
    let limited = limiter::limit::<S>(
        input.as_slice_of(),
        output.as_mut_slice_of(),
        channels,
        format.rate,
        10_f32.powf(gain_db / 20.0),
    );
    let after = measure::<S>(&output, format)?;

    drop((input, output));
    Ok(Played {
        before,
        after,
        limited,
        samples,
    })
}

fn measure<S: Sample>(samples: &[u8], format: Format) -> Result<Vec<Level>, Failure> {
    let samples = tombolo_guest::bytemuck::cast_slice::<u8, S>(samples);
    measure::levels(samples, usize::from(format.channels), format.rate).map_err(|error| {
        Failure::BadArgument(format!("cannot measure at {} Hz: {error}", format.rate))
    })
}

fn lent_refused(error: Error) -> Failure {
    Failure::Refused(format!("the samples: {error}"))
}

fn own_refused(error: Error) -> Failure {
    Failure::Refused(format!("the processed samples: {error}"))
}
