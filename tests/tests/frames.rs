//! The example `frames`: a pipeline of four guests in parallel strands.

mod pipeline;

use std::collections::BTreeSet;

use tombolo_test_util::run::threads;

use pipeline::{Dirs, FRAME, REGIONS, check, pipeline as app};

#[test]
fn frames_equal_native_filtering() {
    let dirs = Dirs::new();
    let outcome = threads(4).block_on(async {
        let app = app(&dirs, 40, &[]).start().await.unwrap();
        app.run().await
    });
    check(&outcome);
    assert_eq!(dirs.check(40), BTreeSet::new());
    // The number of regions does not depend on the number of frames.
    assert!(outcome.report.regions_created <= REGIONS);
    assert!(outcome.report.budget.committed_peak <= REGIONS * FRAME);
}

// rule 9
#[test]
fn crashing_filter_loses_one_frame() {
    let dirs = Dirs::new();
    let outcome = threads(4).block_on(async {
        let app = app(&dirs, 20, &["--crash-on", "7"]);
        app.start().await.unwrap().run().await
    });
    check(&outcome);
    assert_eq!(dirs.check(20), BTreeSet::from([7]));
    assert_eq!(outcome.report.guests[1].restarts.len(), 1);
    assert!(outcome.report.budget.committed_peak <= REGIONS * FRAME);
}

/// An app that is told to stop finishes the frames in flight.
#[test]
fn frames_in_flight_finish_at_the_end() {
    let dirs = Dirs::new();
    let outcome = threads(4).block_on(async {
        let app = app(&dirs, 100_000, &[]);
        let app = app.stop_timeout(std::time::Duration::from_secs(60));
        let app = app.start().await.unwrap();
        let handle = app.handle();
        let running = tokio::spawn(app.run());
        while !dirs.out.path().join("000005.png").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        handle.stop();
        running.await.unwrap()
    });
    check(&outcome);
    let sent = std::fs::read_to_string(dirs.out.path().join("progress")).unwrap();
    let sent = sent.trim().parse().unwrap();
    assert!((6..100_000).contains(&sent), "{sent}");
    assert_eq!(dirs.check(sent), std::collections::BTreeSet::new());
}
