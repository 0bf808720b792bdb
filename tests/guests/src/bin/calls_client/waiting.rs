//! Calls that would never return, and callees past their time.

use super::near;
use super::{POISONED, all_is_well, create, far_is_well, has, write};
use tombolo_test_guests::node::outcomes;

pub(super) fn cycle() {
    let refused = near::say("home ping").unwrap_err();
    let names = "`near` waits for `client` waits for `near`";
    has(&refused, &["never return", names]);
    let refused = near::say("far home ping").unwrap_err();
    let names = "`far` waits for `client` waits for `near` waits for `far`";
    has(&refused, &["never return", names]);
    // During a lend as well, which ends as usual.
    let region = create("cycle");
    let page = write(&region, 1);
    assert!(near::lend("on gate ping", &region).is_err());
    assert_eq!((page.get(0), page.get(1)), (41, 42));
    all_is_well();
}

pub(super) fn cycle_roomless() {
    has(&near::say_roomless("home ping"), &["never return"]);
    all_is_well();
}

/// A callee whose deadline has passed.
pub(super) fn late(how: &str) {
    let region = create("late");
    let page = write(&region, 3);
    let died = near::lend(&format!("writing {how}"), &region).unwrap_err();
    has(&died, &["`near`", "test:calls/near.lend"]);
    // The text does not name the deadline.
    assert!(died.ends_with(": its time is up"), "{died}");
    // Its window is gone, and the region is poisoned.
    assert_eq!(page.get(0), 3);
    drop(page);
    assert_eq!(outcomes(&region), POISONED);
    assert_eq!(near::say("ping").as_ref(), Err(&died));
    far_is_well();
}

/// Waits until its deadline has passed.
pub(super) fn wait_long(how: &str) {
    assert_eq!(near::say(how).as_deref(), Ok("done"));
    all_is_well();
}
