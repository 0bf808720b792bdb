//! Fills the ring with a tone that gets quieter in steps.

use std::f32::consts::TAU;
use std::time::Duration;

use meter::{BLOCK, Filler, NAME, SCOPE, SIZE};
use tombolo_guest::{Region, Rights, scopes};

/// The total number of blocks.
const BLOCKS: u32 = 200;
/// The number of blocks with the same level.
const STEP: u32 = 25;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let region = Region::create("ring", SIZE)?;
    let window = region.try_live_write(..)?;
    // Published while the bytes are locked: a guest in another strand cannot map them, and
    // learns the reason.
    let _published = scopes::publish(SCOPE, NAME, &region, Rights::READ)?;
    let filler = Filler::new(&window);
    let mut at = 0;
    for block in 0..BLOCKS {
        // 480 Hz, so that each block has whole periods.
        let amplitude = 0.5f32.powi((block / STEP) as i32);
        let samples = std::array::from_fn(|_| {
            at = (at + 1) % 100;
            amplitude * (at as f32 / 100.0 * TAU).sin()
        });
        filler.write(&samples);
        // Other guests of the strand run meanwhile.
        std::thread::sleep(Duration::from_millis(2));
    }
    filler.end();
    println!("filler: {BLOCKS} blocks of {BLOCK} samples");
    Ok(())
}
