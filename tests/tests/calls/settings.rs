//! The tests of apps once more, in processes with other settings: with guests that share one
//! strand and so run each other in place, and with calls whose types Tombolo knows, which pass by
//! these types or as dynamic values.

use tombolo_test_util::child::tests_of_module;
use tombolo_test_util::run::DYNAMIC_CALLS;
use tombolo_test_util::three_guests::{SHARE_STRAND, SHORT_CALLS};

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

/// Scripts are short enough for functions of scalars, which are linked by types.
mod short {
    use super::*;

    #[test]
    fn app_tests_pass() {
        pass("app::", &[SHORT_CALLS]);
        pass("app::", &[SHORT_CALLS, SHARE_STRAND]);
        pass("app::", &[SHORT_CALLS, SHARE_STRAND, DYNAMIC_CALLS]);
    }

    #[test]
    fn kill_tests_pass() {
        pass("kill::", &[SHORT_CALLS, SHARE_STRAND]);
    }
}
