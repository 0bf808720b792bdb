//! The ledger against its model: any steps, by several holders.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tombolo_core_tests::world::{Op, World};

fuzz_target!(|steps: Vec<Op>| {
    let mut world = World::new();
    // The model looks through its whole history at each step.
    for step in steps.iter().take(200) {
        world.step(step);
    }
    world.finish();
});
