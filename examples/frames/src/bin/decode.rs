//! The first stage: decodes images, and counts all frames.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use frames::images::{self, Image};
use frames::{Failure, Gone, Progress, Source};
use tombolo_guest::lifecycle;

const HELP: &str = "\
Decodes the PNG images in /images, and sends them through a pipeline

Usage: decode [OPTIONS]

Options:
      --frames N   Send so many frames, the images over and over [default: each once]
      --regions N  Have so many regions go round at most [default: 6]
      --make N     Make so many images first, if there is none
  -h, --help       Print this
";

struct Options {
    frames: Option<u32>,
    regions: usize,
    make: Option<u32>,
}

fn main() -> Result<(), Failure> {
    let Some(options) = parse()? else {
        print!("{HELP}");
        return Ok(());
    };
    let (images, out) = (Path::new("/images"), Path::new("/out"));
    let mut files = images::list(images)?;
    if let (true, Some(count)) = (files.is_empty(), options.make) {
        images::make(images, count, 512, 384)?;
        files = images::list(images)?;
    }
    if files.is_empty() {
        return Err("there are no PNG images in /images; --make 8 makes some".into());
    }
    run(&files, out, &options)
}

fn run(files: &[PathBuf], out: &Path, options: &Options) -> Result<(), Failure> {
    let frames = options.frames.unwrap_or(u32::try_from(files.len())?);
    let size = |file: &PathBuf| Image::open(file).ok().map(|image| image.size());
    let largest = files.iter().filter_map(size);
    let largest = largest.map(|(width, height)| 4 * u64::from(width) * u64::from(height));
    let largest = largest.max().ok_or("none of the images can be opened")?;

    let mut source = Source::new(options.regions, largest)?;
    let progress = Progress::new(out);
    let first = progress.next();
    if first > 0 {
        // This guest was restarted. Frames that it sent before are still in the ring.
        source.settle()?;
    }
    let mut bar = Bar::new(frames);
    for number in first..frames {
        if lifecycle::stopping() {
            break;
        }
        // Before the frame is sent, so that a frame that kills this guest is not sent
        // twice.
        progress.note(number + 1)?;
        let file = &files[number as usize % files.len()];
        let sent = Image::open(file).map_err(Failure::from);
        match sent.and_then(|image| source.send(number, image)) {
            Ok(()) => {}
            Err(error) if error.is::<Gone>() => return Err(error),
            Err(error) => {
                bar.clear();
                eprintln!("frame {number}: {error}");
            }
        }
        source.catch_up()?;
        bar.draw(source.back(), first);
    }
    source.settle()?;
    let sent = progress.next();
    let lost = frames::lost(out, sent);
    bar.clear();
    let rate = f64::from(source.back()) / bar.begun.elapsed().as_secs_f64();
    println!(
        "{} frames, {rate:.1} frames/s",
        sent - u32::try_from(lost.len())?
    );
    let lost: Vec<String> = lost.iter().map(u32::to_string).collect();
    if !lost.is_empty() {
        println!("lost: {}", lost.join(" "));
    }
    Ok(fs::write(out.join("lost"), lost.join("\n"))?)
}

/// A progress bar on standard error, if that is a terminal. It is drawn by hand, because
/// crates for progress bars do not recognise terminals in a guest.
struct Bar {
    of: u32,
    begun: Instant,
    drawn: Option<Instant>,
    shown: bool,
}

impl Bar {
    fn new(of: u32) -> Bar {
        Bar {
            of,
            begun: Instant::now(),
            drawn: None,
            shown: std::io::stderr().is_terminal(),
        }
    }

    fn draw(&mut self, back: u32, before: u32) {
        const WIDTH: u32 = 40;
        let often = self
            .drawn
            .is_some_and(|drawn| drawn.elapsed() < Duration::from_millis(100));
        if !self.shown || often {
            return;
        }
        self.drawn = Some(Instant::now());
        let done = before + back;
        let full = (WIDTH * done / self.of.max(1)).min(WIDTH) as usize;
        let rate = f64::from(back) / self.begun.elapsed().as_secs_f64();
        eprint!(
            "\r[{:<40}] {done}/{} frames, {rate:.1} frames/s ",
            "#".repeat(full),
            self.of
        );
    }

    /// Clears the line for other output.
    fn clear(&mut self) {
        if self.drawn.take().is_some() {
            eprint!("\r\x1b[2K");
        }
    }
}

fn parse() -> Result<Option<Options>, Failure> {
    use lexopt::prelude::*;

    let mut options = Options {
        frames: None,
        regions: 6,
        make: None,
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("frames") => options.frames = Some(arguments.value()?.parse()?),
            Long("regions") => options.regions = arguments.value()?.parse()?,
            Long("make") => options.make = Some(arguments.value()?.parse()?),
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    if options.regions == 0 {
        return Err("--regions: at least one has to go round".into());
    }
    Ok(Some(options))
}
