//! A process stalls in a cgroup with too little memory, and a guest is told of the kernel's
//! report, with the default thresholds.
//!
//! The test needs pressure stall information and a memory cgroup. Otherwise it fails and
//! says what it needs.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tombolo::pressure::{Level, PressureSink, PressureSource, Psi, Thresholds};
use tombolo_app::{CommandExit, CommandSpec};
use tombolo_test_util::cgroup::{Group, Stalling, stall_if_told};

use crate::guests;
use tombolo_test_util::run::{builder, one_thread};
use tombolo_test_util::three_guests::program;

const NAME: &str = "kernel::guest_is_told_of_a_stall";

/// A source that records its reports.
struct Noting(Psi, Arc<Mutex<Vec<Level>>>);

impl PressureSource for Noting {
    fn name(&self) -> String {
        self.0.name()
    }

    fn start(self: Box<Self>, sink: PressureSink) -> io::Result<Box<dyn Send>> {
        let Noting(psi, levels) = *self;
        let sink = PressureSink::new(move |level| {
            levels.lock().unwrap().push(level);
            sink.report(level);
        });
        Box::new(psi).start(sink)
    }
}

// rule 8
#[test]
#[ignore = "needs root, to create a cgroup"]
fn guest_is_told_of_a_stall() {
    stall_if_told();
    let group = Group::make("heard");
    let psi = Psi::open("/proc/pressure/memory", Thresholds::default());
    let psi = psi.expect("this test needs pressure-stall information of the kernel");
    let levels = Arc::new(Mutex::new(Vec::new()));
    let outcome = one_thread().block_on(async {
        let command = CommandSpec {
            args: vec!["any".into()],
            ..CommandSpec::default()
        };
        let app = builder()
            .command(command)
            .guest(program("cache of the kernel's", guests::PRESSURE_CACHE))
            .pressure(Noting(psi, levels.clone()));
        let app = app.start().await.unwrap();
        let host = app.host().clone();
        let stalling = async {
            crate::signs(&host, 2).await;
            Stalling::start(&group, NAME)
        };
        let both = async { tokio::join!(app.run(), stalling) };
        let both = tokio::time::timeout(Duration::from_secs(120), both);
        both.await.expect("the kernel says something").0
    });
    drop(group);
    assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);
    assert!(outcome.report.budget.purged > 0);
    let levels = levels.lock().unwrap();
    assert!(levels.iter().any(|it| *it > Level::Normal), "{levels:?}");
    println!("the kernel reported {levels:?}");
}
