//! The cost of a hand-over does not depend on the size. This is a program of its own, so
//! that no other test runs during the measurement.

mod plugin;

use std::time::{Duration, Instant};

use plugin::plugin;
use tombolo::{Region, RegionHost, Rights};

const SMALL: u64 = 64 << 10;
const LARGE: u64 = 100 << 20;
const REPEATS: usize = 2_000;
/// Other programs run on the machine too.
const ATTEMPTS: usize = 5;

#[test]
fn hand_over_costs_the_same_for_all_sizes() {
    let host = RegionHost::new();
    let (mut store, plugin) = plugin(&host);
    let handler = plugin.tombolo_examples_embed_handler();
    let [small, large] = [SMALL, LARGE].map(|size| {
        let region = host.create("body", size).unwrap();
        // The body is there before anything is measured.
        region.try_write(0..size).unwrap().fill(b'x');
        region
    });
    let mut hand_over = |region: &Region| {
        let began = Instant::now();
        let lent = region.lend(&mut store, Rights::READ).unwrap();
        let returned = handler.call_touch(&mut store, lent.resource());
        let touched = lent.end(&mut store, returned).unwrap();
        let took = began.elapsed();
        touched.unwrap();
        took
    };
    // The guest's memory grows to what it needs.
    hand_over(&small);
    hand_over(&large);

    let mut ratios = Vec::new();
    for _ in 0..ATTEMPTS {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..REPEATS {
            times[0].push(hand_over(&small));
            times[1].push(hand_over(&large));
        }
        let [small, large] = times.map(median);
        let ratio = large.as_secs_f64() / small.as_secs_f64();
        println!("lend, map, unmap: 64 KiB {small:?}, 100 MiB {large:?}, ratio {ratio:.2}");
        if (1.0 / 1.5..=1.5).contains(&ratio) {
            return;
        }
        ratios.push(ratio);
    }
    panic!("100 MiB should cost what 64 KiB cost; ratios {ratios:.2?}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
