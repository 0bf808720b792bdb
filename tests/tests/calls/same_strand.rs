//! The tests of apps once more, with guests that share one strand and so run each other in
//! place.

use tombolo_test_util::child::tests_of_module;
use tombolo_test_util::three_guests::SHARE_STRAND;

/// Runs the tests of one module in a process whose guests share a strand.
#[track_caller]
fn pass(module: &str) {
    let output = tests_of_module(module).env(SHARE_STRAND, "1").output();
    let output = output.expect("this program can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{text}", output.status);
    // A filter that matches nothing passes as well.
    assert!(!text.contains("running 0 tests"), "{text}");
}

#[test]
fn app_tests_pass() {
    pass("app::");
}

#[test]
fn kill_tests_pass() {
    pass("kill::");
}

#[test]
fn resource_tests_pass() {
    pass("resources::");
}
