//! Watches the ring, and prints its level.

use std::process::ExitCode;
use std::time::Duration;

use meter::levels::Levels;
use meter::{NAME, SCOPE, Seen, Watcher};
use tombolo_guest::scopes;

/// The number of blocks for each line.
const LINE: u32 = 25;

fn main() -> ExitCode {
    match watch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meter: {error}");
            ExitCode::FAILURE
        }
    }
}

fn watch() -> Result<(), Box<dyn std::error::Error>> {
    let region = scopes::open(SCOPE, NAME)?;
    let window = region.try_live_read(..)?;
    let mut watcher = Watcher::new(&window);
    let (mut blocks, mut missed, mut levels) = (0, 0, Levels::default());
    loop {
        match watcher.read() {
            Seen::Block(block) => {
                blocks += 1;
                levels.add(&block[..]);
                if blocks % LINE == 0 {
                    let (peak, rms) = (levels.peak(), levels.rms());
                    println!(
                        "{blocks:4}  peak {peak:6.1} dB  rms {rms:6.1} dB  {}",
                        levels.bar()
                    );
                    levels = Levels::default();
                }
            }
            Seen::Missed(count) => missed += count,
            Seen::Nothing => std::thread::sleep(Duration::from_millis(1)),
            Seen::End => break,
        }
    }
    println!("meter: {blocks} blocks seen, {missed} missed");
    Ok(())
}
