//! The ledgers of two regions against their models, with any steps of several holders within
//! one budget.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tombolo_region_tests::system_under_test::{Step, System};

fuzz_target!(|steps: Vec<Step>| {
    let mut system = System::new();
    // The model searches its whole history at each step.
    for step in steps.iter().take(200) {
        system.step(step);
    }
    system.finish();
});
