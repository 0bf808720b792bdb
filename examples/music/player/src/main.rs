//! Reads a recording into a region, lends it to an audio server, and writes the result to a
//! file.

mod args;
mod output;
mod pcm;
mod render;
mod report;
mod riff;
mod timing;
mod wav;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tombolo_guest::{Error, Region};

use args::{Args, Parsed};
use bindings::tombolo_examples::music::server::{self, Failure, Format};
use pcm::Pcm;
use wav::Wav;

mod bindings {
    // Generated code, which calls the ABI of the component model.
    #![allow(unsafe_code, missing_docs, unreachable_pub)]

    wit_bindgen::generate!({
        path: "../wit",
        world: "player",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
    });
}

fn main() -> ExitCode {
    let args = match args::parse() {
        Ok(Parsed::Run(args)) => args,
        Ok(Parsed::Help) => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&format!("{error}; `--help` shows what there is")),
    };
    match run(&args) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(message) => fail(&message),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("player: {message}");
    ExitCode::FAILURE
}

fn run(args: &Args) -> Result<String, String> {
    let music = Music::open(args)?;
    let region = music.into_region(args.max_bytes)?;

    let handover = timing::measure(&region.samples).map_err(|error| region.says(error))?;
    let played = server::play(&region.samples, region.format, args.gain)
        .map_err(|failure| format!("{}: {}", region.name, explain(&failure)))?;
    if let Some(path) = &args.output {
        write(path, &played.samples, region.spec)?;
    }
    Ok(report::text(&region, args, &played, &handover))
}

/// Returns the text of a failure.
fn explain(failure: &Failure) -> String {
    match failure {
        Failure::BadArgument(text) => format!("the audio server cannot use it: {text}"),
        Failure::Refused(text) => format!("the audio server was refused {text}"),
        Failure::PeerFailed(text) => format!("the audio server failed: {text}"),
    }
}

/// The source of the samples.
enum Music {
    Rendered,
    Recorded { path: PathBuf, wav: Wav },
}

/// Samples in a region.
struct Samples {
    /// The name of the samples in the output.
    name: String,
    samples: Region,
    format: Format,
    /// The file format of the samples.
    spec: hound::WavSpec,
}

impl Samples {
    fn says(&self, error: impl std::fmt::Display) -> String {
        format!("{}: {error}", self.name)
    }
}

impl Music {
    fn open(args: &Args) -> Result<Self, String> {
        match &args.input {
            None => Ok(Self::Rendered),
            Some(path) => match Wav::open(path) {
                Ok(wav) => Ok(Self::Recorded {
                    path: path.clone(),
                    wav,
                }),
                Err(defect) => Err(format!("{} {defect}", path.display())),
            },
        }
    }

    /// Copies the samples into a region of exactly their size.
    fn into_region(self, max_bytes: u64) -> Result<Samples, String> {
        let (name, spec, frames) = match &self {
            Self::Rendered => (
                "the rendered music".to_owned(),
                render::SPEC,
                render::FRAMES,
            ),
            Self::Recorded { path, wav } => (path.display().to_string(), wav.spec(), wav.frames()),
        };
        let pcm = Pcm::of(spec);
        let size = u64::from(spec.channels) * u64::from(frames) * pcm.bytes();
        if size > max_bytes {
            return Err(format!(
                "{name} is too big: its samples take {size} bytes, and the most is {max_bytes}; \
                 take a shorter recording, or raise it with `--max-bytes {size}`"
            ));
        }
        let refused = |error: Error| match error {
            Error::Exhausted(why) | Error::InvalidArgument(why) => format!(
                "{name} is too big: its samples take {size} bytes ({why}); take a shorter \
                 recording, or raise the limit"
            ),
            other => format!("{name}: {other}"),
        };

        let samples = Region::create("music", size).map_err(refused)?;
        let mut window = samples.try_write(..).map_err(refused)?;
        match self {
            Self::Rendered => render::render(window.as_mut_slice_of()),
            Self::Recorded { wav, .. } => match pcm {
                Pcm::Int16 => wav.decode_int16(window.as_mut_slice_of()),
                Pcm::Float32 => wav.decode_float32(window.as_mut_slice_of()),
            }
            .map_err(|defect| format!("{name} {defect}"))?,
        }
        drop(window);

        Ok(Samples {
            format: Format {
                sample: match pcm {
                    Pcm::Int16 => server::Sample::Int16,
                    Pcm::Float32 => server::Sample::Float32,
                },
                channels: spec.channels,
                rate: spec.sample_rate,
            },
            name,
            samples,
            spec,
        })
    }
}

/// Writes the samples of a region to a file, in their original format.
fn write(path: &Path, samples: &Region, spec: hound::WavSpec) -> Result<(), String> {
    let window = samples
        .try_read(..)
        .map_err(|error| format!("{}: the processed samples: {error}", path.display()))?;
    let written = match Pcm::of(spec) {
        Pcm::Int16 => output::write(path, |file| {
            wav::encode_int16(file, spec, window.as_slice_of())
        }),
        Pcm::Float32 => output::write(path, |file| {
            wav::encode_float32(file, spec, window.as_slice_of())
        }),
    };
    written.map_err(|error| {
        format!(
            "{}: cannot be written: {error}; give a path in a directory that the player may \
             write to",
            path.display()
        )
    })
}
