//! The tests of apps once more, in processes with other settings: with guests that share one
//! strand and so run each other on the spot, and with calls that all pass dynamic values.

use tombolo_test_util::child::tests_of_module;
use tombolo_test_util::run::DYNAMIC_CALLS;
use tombolo_test_util::three_guests::SHARE_STRAND;

/// Runs the tests of one module in a process with these environment variables.
#[track_caller]
fn pass(module: &str, settings: &[&str]) {
    let mut tests = tests_of_module(module);
    tests.envs(settings.iter().map(|setting| (setting, "1")));
    let output = tests.output().expect("this program can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{text}", output.status);
    // A filter that matches nothing passes as well.
    assert!(!text.contains("running 0 tests"), "{text}");
}

mod one_strand {
    use super::*;

    #[test]
    fn app_tests_pass() {
        pass("app::", &[SHARE_STRAND]);
    }

    #[test]
    fn kill_tests_pass() {
        pass("kill::", &[SHARE_STRAND]);
    }

    #[test]
    fn resource_tests_pass() {
        pass("resources::", &[SHARE_STRAND]);
    }
}

mod dynamic_values {
    use super::*;

    #[test]
    fn app_tests_pass() {
        pass("app::", &[DYNAMIC_CALLS]);
        pass("app::", &[DYNAMIC_CALLS, SHARE_STRAND]);
    }
}
