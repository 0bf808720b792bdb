//! Guests that are terminated, and what their callers learn.

use std::time::{Duration, Instant};

use super::bindings::test::calls::far;
use super::near;
use super::{POISONED, create, far_is_well, has, map, write};
use tombolo_test_guests::node::{self, outcome, outcomes};
use tombolo_test_guests::raw::regions::Rights;
use tombolo_test_guests::raw::windows::Access;

/// A callee that is killed from outside during a call, with a window to write on the lent
/// region.
pub(super) fn killed(how: &str) {
    let region = create("killed");
    let page = write(&region, 2);
    let died = near::lend(&format!("writing {how}"), &region).unwrap_err();
    has(
        &died,
        &[
            "guest `near` was ended in `test:calls/near",
            ".lend`: enough",
        ],
    );
    // The region is back. The windows of the borrowers are gone, and the region is
    // poisoned.
    assert_eq!((page.get(0), page.get(1)), (3, 2));
    page.set(1, 4);
    drop(page);
    assert_eq!(outcomes(&region), POISONED);
    region.clear_poison().unwrap();
    assert_eq!(outcomes(&region), "ok ok ok ok ok");
    assert_eq!(near::say("ping").as_ref(), Err(&died));
    far_is_well();
}

/// A callee that is in a call with a region when the app is to stop.
pub(super) fn killed_writing(how: &str) {
    let region = create("writing");
    let _ = near::lend(&format!("writing {how}"), &region);
    panic!("it is ended before");
}

/// A callee that is killed because memory is short.
pub(super) fn dead_of_pressure(how: &str) {
    let region = create("short");
    let died = match how {
        "failing" => match near::say_failing("sleep").unwrap_err() {
            near::Failure::PeerFailed(died) => died,
            other => panic!("{other:?}"),
        },
        _ => near::lend("reading sleep", &region).unwrap_err(),
    };
    has(
        &died,
        &[
            "guest `near` was ended in `",
            "the host is short of memory",
            "score is 501",
        ],
    );
    assert_eq!(outcomes(&region), "ok ok ok ok ok");
    far_is_well();
}

/// A callee that is restarted with fresh memory, twice at most.
pub(super) fn restarted() {
    let region = create("lent");
    for _ in 0..2 {
        near::move_("keep", create("its own")).unwrap();
        let died = near::lend("writing trap", &region).unwrap_err();
        has(&died, &["guest `near`", "unreachable"]);
        assert_eq!(outcomes(&region), POISONED);
        region.clear_poison().unwrap();
        // At once: the call waits for the restart.
        assert_eq!(near::say("ping").unwrap(), "pong");
        near::lend("fill 8", &region).unwrap();
        assert_eq!(region.read_at(0, 1).unwrap(), [8]);
    }
    let died = near::say("trap").unwrap_err();
    assert_eq!(near::say("ping").unwrap_err(), died);
    far_is_well();
}

/// A callee that dies in the call of another guest, while this guest's call is queued.
pub(super) fn queued_at_death() {
    let begun = Instant::now();
    let died = loop {
        match near::say("ping") {
            Ok(answer) => assert_eq!(answer, "pong"),
            Err(died) => break died,
        }
        // A call that begins too late reaches the restarted callee only.
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not die");
    };
    has(&died, &["guest `near`", "unreachable"]);
    // At once: the call waits for the restart.
    assert_eq!(near::say("ping").unwrap(), "pong");
}

/// A callee that was killed before it was called.
pub(super) fn killed_idle() {
    let died = near::say("ping").unwrap_err();
    assert_eq!(died, "guest `near` was ended: enough");
    let region = create("kept");
    let page = write(&region, 5);
    assert_eq!(near::lend("fill 1", &region).as_ref(), Err(&died));
    assert!(page.is_all(5));
    far_is_well();
}

/// A callee that is killed while it waits for a third guest. It had re-lent the region to
/// that guest, and has a window to write itself. The third guest keeps running.
pub(super) fn killed_between() {
    let region = create("between");
    let page = map(&region, Access::Write);
    let died = near::lend("on-writing outlive", &region).unwrap_err();
    has(
        &died,
        &[
            "guest `near` was ended in `test:calls/near",
            ".lend`: enough",
        ],
    );
    // The lent region is back only now, with the last bytes that the third guest wrote.
    let heard: Vec<u8> = (0..)
        .map(|at| page.get(at))
        .take_while(|it| *it != 0)
        .collect();
    let heard = String::from_utf8(heard).unwrap();
    let names = "`far` waits for `client` waits for `near` waits for `far`";
    has(&heard, &["never return", names]);
    drop(page);
    assert_eq!(outcomes(&region), POISONED);
    far_is_well();
}

/// A callee that ends in the given way.
pub(super) fn dead(how: &str) {
    let word = if how.starts_with("exit") {
        "exited with code"
    } else {
        "unreachable"
    };
    let died = near::say(how).unwrap_err();
    has(&died, &["guest `near`", "test:calls/near.say", word]);
    // Later calls get the same error, through every function.
    assert_eq!(near::say("ping").as_ref(), Err(&died));
    let Err(near::Failure::PeerFailed(again)) = near::say_failing("ping") else {
        panic!("a variant has room, too")
    };
    assert_eq!(again, died);
    let region = create("lent");
    let page = write(&region, 3);
    assert_eq!(near::lend("fill 1", &region).as_ref(), Err(&died));
    assert!(page.is_all(3));
    assert_eq!(near::move_("fill 1", region).as_ref(), Err(&died));
    assert!(page.is_all(3));
    far_is_well();
}

pub(super) fn poison() {
    let region = create("poisoned");
    let page = map(&region, Access::Read);
    let died = near::lend("writing trap", &region).unwrap_err();
    has(&died, &["guest `near`", "unreachable"]);
    // Existing windows are unchanged.
    assert_eq!(page.get(0), 3);
    drop(page);
    assert_eq!(outcomes(&region), POISONED);
    // Other claims and borrowers see the poison as well.
    let other = region.duplicate(Rights::all()).unwrap();
    assert_eq!(outcomes(&other), POISONED);
    assert_eq!(
        far::lend("outcomes", &region).as_deref(),
        Ok("poisoned poisoned poisoned poisoned not-permitted")
    );
    // Only a holder of `write` clears it.
    let reading = region.duplicate(Rights::READ).unwrap();
    assert_eq!(outcome(reading.clear_poison()), "not-permitted");
    assert_eq!(outcomes(&region), POISONED);
    assert_eq!(outcome(other.clear_poison()), "ok");
    assert_eq!(reading.read_at(0, 1).unwrap(), [3]);
    assert_eq!(outcomes(&region), "ok ok ok ok ok");
    // A frozen region is never poisoned.
    assert_eq!(outcome(other.clear_poison()), "ok");
    far_is_well();
}

/// Orderly ends do not poison.
pub(super) fn poison_not(how: &str) {
    let region = create("whole");
    let page = map(&region, Access::Read);
    let dies = !how.ends_with("return") && how != "fill-keep 3";
    assert_eq!(near::lend(how, &region).is_err(), dies);
    let wrote = !how.starts_with("reading");
    assert_eq!(page.get(0), if wrote { 3 } else { 0 });
    drop(page);
    assert_eq!(outcomes(&region), "ok ok ok ok ok");
    far_is_well();
}

/// Ends in the given way, while it writes a region that the near guest has as well.
pub(super) fn leave(how: &str) {
    let region = create("left");
    let copy = region.duplicate(Rights::all()).unwrap();
    assert_eq!(near::move_("keep", copy).as_deref(), Ok("done"));
    if how == "reading" {
        node::keep_page(map(&region, Access::Read));
        core::arch::wasm32::unreachable();
    }
    node::keep_page(write(&region, 70));
    match how {
        "return" => {}
        "trap" => core::arch::wasm32::unreachable(),
        code => std::process::exit(code.parse().expect("a code")),
    }
}
