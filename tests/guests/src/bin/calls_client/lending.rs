//! Regions that are lent.

use super::bindings::test::calls::far;
use super::near;
use super::{all_is_well, create, has, map, write};
use tombolo_test_guests::node::{self, outcome};
use tombolo_test_guests::raw::regions::Rights;
use tombolo_test_guests::raw::windows::Access;

pub(super) fn lend_kept_windows() {
    // A window to write stays, and shows the bytes that the borrower wrote.
    let region = create("kept");
    let page = write(&region, 7);
    assert_eq!(near::lend("see", &region).as_deref(), Ok("7"));
    assert_eq!(near::lend("fill 9", &region).as_deref(), Ok("done"));
    assert!(page.is_all(9));
    page.fill(10);
    assert_eq!(near::lend("copy 11", &region).as_deref(), Ok("11"));
    assert_eq!((page.get(0), page.get(1)), (11, 10));
    // It is still a window to write, and conflicts with the windows of all others.
    let other = region.duplicate(Rights::all()).unwrap();
    assert_eq!(near::lend("see", &other), Err("would-block".into()));
    assert_eq!(outcome(other.read_at(0, 1)), "would-block");
    drop(page);
    // The same holds for a window to read.
    let page = map(&region, Access::Read);
    assert_eq!(near::lend("fill 12", &region).as_deref(), Ok("done"));
    assert!(page.is_all(12));
    assert_eq!(near::lend("see", &other).as_deref(), Ok("12"));
    assert_eq!(near::lend("fill 1", &other), Err("would-block".into()));
    drop(page);
    assert_eq!(near::lend("fill 13", &other).as_deref(), Ok("done"));
    all_is_well();
}

pub(super) fn lend_third_party() {
    // A holder of another claim conflicts with the borrower ...
    let region = create("third");
    let other = region.duplicate(Rights::all()).unwrap();
    let seen = near::lend_two("write-try", &region, &other).unwrap();
    assert_eq!(seen, "would-block would-block would-block would-block ok");
    assert_eq!(region.read_at(0, 1).unwrap(), [11]);
    // ... and the lender's windows of another claim are not set aside.
    let page = map(&other, Access::Read);
    assert_eq!(near::lend("fill 1", &region), Err("would-block".into()));
    assert_eq!(near::lend("see", &region).as_deref(), Ok("11"));
    drop(page);
    assert_eq!(
        near::lend_two("read-both", &region, &other).as_deref(),
        Ok("11 11")
    );
    all_is_well();
}

pub(super) fn lend_same_twice() {
    let region = create("twice");
    let _page = write(&region, 4);
    let seen = near::lend_two("write-try", &region, &region).unwrap();
    assert_eq!(seen, "would-block would-block would-block would-block ok");
    let weaker = region.restrict(Rights::READ).unwrap();
    assert_eq!(
        near::lend_two("read-both", &region, &weaker).as_deref(),
        Ok("11 11")
    );
    all_is_well();
}

/// Calls a guest of the same strand with strings that lie in a live window. The callee
/// overwrites them during the call, and still receives the original strings.
pub(super) fn lend_live_words() {
    let region = create("live");
    let page = map(&region, Access::LiveWrite);
    // Through another claim, so that the window stays visible.
    let other = region.duplicate(Rights::READ | Rights::WRITE).unwrap();
    for byte in (1..=250).cycle().take(2000) {
        let words = format!("live {byte}");
        for (at, letter) in words.bytes().enumerate() {
            page.set(at, letter);
        }
        // The host lifts and passes the string. No code here reads it.
        let bytes = unsafe { std::slice::from_raw_parts(page.memory(), words.len()) };
        let there = unsafe { std::str::from_utf8_unchecked(bytes) };
        assert_eq!(near::lend(there, &other).as_deref(), Ok("done"), "{words}");
        assert!(page.is_all(byte), "{words}");
    }
}

/// Live windows are set aside like other windows. They are compatible with live windows of
/// another claim within one strand.
pub(super) fn lend_live(strands: &str) {
    let region = create("live");
    let page = map(&region, Access::LiveWrite);
    page.fill(1);
    assert_eq!(near::lend("see", &region).as_deref(), Ok("1"));
    assert_eq!(near::lend("fill 2", &region).as_deref(), Ok("done"));
    assert!(page.is_all(2));
    assert_eq!(near::lend("live 3", &region).as_deref(), Ok("done"));
    assert!(page.is_all(3));

    let other = region.duplicate(Rights::READ | Rights::WRITE).unwrap();
    let refused = near::lend("fill 4", &other);
    assert_eq!(refused.unwrap_err(), "would-block");
    let live = near::lend("live 5", &other);
    match strands {
        "one" => {
            assert_eq!(live.as_deref(), Ok("done"));
            assert!(page.is_all(5));
        }
        _ => {
            has(
                &live.unwrap_err(),
                &["unsupported", "another strand", "the same `strand`"],
            );
            assert!(page.is_all(3));
        }
    }
    drop(page);
    all_is_well();
}

pub(super) fn lend_window_kept() {
    let region = create("leak");
    assert_eq!(near::lend("fill-keep 5", &region).as_deref(), Ok("done"));
    // The memory of the window is ordinary again, zero, and holds no lock.
    assert_eq!(near::say("look").as_deref(), Ok("0"));
    assert_eq!(near::say("set-access").as_deref(), Ok("gone"));
    let page = map(&region, Access::Write);
    assert!(page.is_all(5));
    page.fill(6);
    assert_eq!(near::say("look").as_deref(), Ok("0"));
    assert_eq!(near::say("drop-all").as_deref(), Ok("done"));
    assert!(page.is_all(6));
    all_is_well();
}

pub(super) fn lend_forbidden() {
    let region = create("forbidden");
    let seen = near::lend("forbidden", &region).unwrap();
    assert_eq!(seen, "not-permitted not-permitted not-permitted");
    let refused = near::lend("move-restricted see", &region).unwrap_err();
    has(&refused, &["`forbidden`", "moved", "permit"]);
    // None of these operations had an effect.
    assert_eq!(outcome(region.write_at(0, &[1])), "ok");
    assert_eq!(near::move_("own", region).as_deref(), Ok("1"));
    all_is_well();
}

pub(super) fn lend_restricted_kept() {
    let region = create("kept");
    assert_eq!(
        near::lend("keep-restricted", &region).as_deref(),
        Ok("done")
    );
    let seen = near::say("use-kept").unwrap();
    assert_eq!(seen, "gone gone gone gone gone gone gone gone");
    // Lending or moving the dead handle has no effect either.
    let refused = near::say("move-kept see").unwrap_err();
    has(&refused, &["`kept`", "moved", "ended with its lend"]);
    assert_eq!(
        near::lend("keep-restricted", &region).as_deref(),
        Ok("done")
    );
    // The kept window conflicts with no other.
    assert_eq!(near::move_("own", region).as_deref(), Ok("0"));
    all_is_well();
}

pub(super) fn lend_rights() {
    let region = create("rights");
    let _page = write(&region, 8);
    let reading = region.restrict(Rights::READ).unwrap();
    assert_eq!(near::lend("see", &reading).as_deref(), Ok("8"));
    assert_eq!(near::lend("fill 1", &reading), Err("not-permitted".into()));
    assert_eq!(near::lend("copy 1", &reading), Err("not-permitted".into()));
    let none = region.restrict(Rights::empty()).unwrap();
    assert_eq!(near::lend("see", &none), Err("not-permitted".into()));
    // A lent handle never has `share`.
    let seen = near::lend("rights", &region).unwrap();
    has(&seen, &["READ", "WRITE"]);
    assert!(!seen.contains("SHARE"), "{seen}");
    // A handle that is re-lent has no more rights than the lent one.
    assert_eq!(near::lend("on-weaker see", &region).as_deref(), Ok("8"));
    assert_eq!(
        near::lend("on-weaker fill 1", &region),
        Err("not-permitted".into())
    );
    assert_eq!(
        near::lend("on fill 1", &reading),
        Err("not-permitted".into())
    );
    all_is_well();
}

pub(super) fn lend_on() {
    let region = create("on");
    let page = write(&region, 8);
    assert_eq!(near::lend("on see", &region).as_deref(), Ok("8"));
    assert_eq!(near::lend("on fill 9", &region).as_deref(), Ok("done"));
    assert!(page.is_all(9));
    // The guest in the middle sees it too, in a window to write.
    assert_eq!(
        near::lend("on-writing fill 10", &region).as_deref(),
        Ok("10")
    );
    assert_eq!((page.get(0), page.get(1), page.get(2)), (10, 78, 10));
    // The windows of the last guest end with its call, too.
    assert_eq!(
        near::lend("on fill-keep 11", &region).as_deref(),
        Ok("done")
    );
    assert_eq!(far::say("look").as_deref(), Ok("0"));
    assert!(page.is_all(11));
    assert_eq!(
        near::lend("on forbidden", &region).as_deref(),
        Ok("not-permitted not-permitted not-permitted")
    );
    assert_eq!(
        near::lend("on keep-restricted", &region).as_deref(),
        Ok("done")
    );
    has(
        &far::say("use-kept").unwrap(),
        &["gone gone gone gone gone"],
    );
    all_is_well();
}

/// Many lends in a row exhaust nothing.
pub(super) fn lend_roundtrips() {
    let region = create("many");
    let page = write(&region, 0);
    for round in 0..200_u8 {
        assert_eq!(
            near::lend(&format!("fill {round}"), &region).as_deref(),
            Ok("done")
        );
        assert_eq!(page.get(77), round);
    }
}

/// Lends the kept region, with a window on it. Returns the first byte of the window
/// afterwards.
pub(super) fn lend_kept(rest: &str) -> Result<String, String> {
    let (access, script) = rest.split_once(' ').expect("access and script");
    let access = if access == "write" {
        Access::Write
    } else {
        Access::Read
    };
    let page = node::with_kept(|region| map(region, access));
    let answer = node::with_kept(|region| near::lend(script, region));
    let seen = format!("{} {}", page.get(0), page.get(1));
    node::keep_page(page);
    answer.map(|_| seen)
}
