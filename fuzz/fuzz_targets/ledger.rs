//! The ledgers of two regions against their models: any steps, by several
//! holders, within one budget.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tombolo_core_tests::world::{Step, World};

fuzz_target!(|steps: Vec<Step>| {
    let mut world = World::new();
    // The model looks through its whole history at each step.
    for step in steps.iter().take(200) {
        world.step(step);
    }
    world.finish();
});
