//! The example `frames`, whose guests are killed at random moments.
//!
//! `TOMBOLO_CHAOS_SECONDS` sets the duration, by default three seconds. `TOMBOLO_CHAOS_SEED`
//! repeats the choices of an earlier run.

mod pipeline;

use std::time::{Duration, Instant};

use tombolo_test_util::run::threads;

use pipeline::{Dirs, check, pipeline as app};
use tombolo_test_util::process::Process;

/// Kills guests at random moments.
// rules 6, 9
#[test]
fn frames_survive_random_kills() {
    let variable = |name: &str| std::env::var(name).ok();
    let seconds = variable("TOMBOLO_CHAOS_SECONDS").map_or(3.0, |it| it.parse().unwrap());
    let seed =
        variable("TOMBOLO_CHAOS_SEED").map_or_else(|| fastrand::u64(..), |it| it.parse().unwrap());
    eprintln!("TOMBOLO_CHAOS_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let mut before = None;
    loop {
        kill(random.fork());
        // The first round creates what a process has once.
        let now = counts();
        match &before {
            None => before = Some(now),
            Some(before) => assert_eq!(*before, now, "descriptors, mapped regions, threads"),
        }
        if Instant::now() >= until {
            return;
        }
    }
}

/// Returns the numbers of descriptors, mapped regions and threads of the process.
fn counts() -> (usize, usize, usize) {
    let process = Process::current();
    let mappings = process.mappings().unwrap();
    (
        process.descriptors().unwrap().len(),
        mappings.iter().filter(|it| it.memfd().is_some()).count(),
        process.threads().unwrap().len(),
    )
}

/// Runs one app, and kills its guests.
fn kill(mut random: fastrand::Rng) {
    const FRAMES: u32 = 60;
    let dirs = Dirs::new();
    let runtime = threads(4);
    let outcome = runtime.block_on(async {
        let app = app(&dirs, FRAMES, &[]).start().await.unwrap();
        let handle = app.handle();
        let running = tokio::spawn(app.run());
        while !running.is_finished() {
            let guest = random
                .choice(["decode", "denoise", "sharpen", "encode"])
                .unwrap();
            handle.end_guest(guest, "chaos").unwrap();
            tokio::time::sleep(Duration::from_millis(random.u64(5..60))).await;
        }
        tokio::time::timeout(Duration::from_secs(120), running)
            .await
            .unwrap()
            .unwrap()
    });
    // The sink may have been killed after it wrote a frame and before it reported it, so the
    // directory is checked.
    check(&outcome);
    dirs.check(FRAMES);
    let restarts: usize = outcome
        .report
        .guests
        .iter()
        .map(|it| it.restarts.len())
        .sum();
    assert!(restarts > 0);
}
