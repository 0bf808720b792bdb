//! Fills the ring with a tone that gets softer, in steps.

use std::f32::consts::TAU;
use std::time::Duration;

use meter::{BLOCK, Filler, NAME, SCOPE, SIZE};
use tombolo_guest::{Region, Rights, scopes};

/// How many blocks there are in all.
const BLOCKS: u32 = 200;
/// How many are equally loud.
const STEP: u32 = 25;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let region = Region::create("ring", SIZE)?;
    let window = region.try_live_write(..)?;
    // When the bytes are held: whoever cannot share them is told so.
    let _published = scopes::publish(SCOPE, NAME, &region, Rights::READ)?;
    let filler = Filler::new(&window);
    let mut at = 0;
    for block in 0..BLOCKS {
        // 480 Hz: whole periods in each block.
        let amplitude = 0.5f32.powi((block / STEP) as i32);
        let samples = std::array::from_fn(|_| {
            at = (at + 1) % 100;
            amplitude * (at as f32 / 100.0 * TAU).sin()
        });
        filler.write(&samples);
        // Others of the strand have their turn meanwhile.
        std::thread::sleep(Duration::from_millis(2));
    }
    filler.end();
    println!("filler: {BLOCKS} blocks of {BLOCK} samples");
    Ok(())
}
