//! The first guest of a chain of calls. Plays the scenario that its first argument names,
//! or that a caller asks for. It panics if an expectation fails.
#![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/calls.wit"],
        world: "test:calls/client",
        with: {
            "tombolo:memory/regions@0.1.0": tombolo_test_guests::raw::regions,
            "tombolo:memory/windows@0.1.0": tombolo_test_guests::raw::windows,
        },
        generate_all,
    });
    export!(Client);
    pub(crate) struct Client;
}

use std::time::{Duration, Instant};

use bindings::exports::test::calls::home;
use bindings::test::calls::{deep, far, near, plain};
use bindings::tombolo::memory::pins::{self, Span};
use tombolo_test_guests::node::{self, GRANULE, Page, outcome, outcomes};
use tombolo_test_guests::raw::regions::{ErrorCode, Region, Rights};
use tombolo_test_guests::raw::windows::Access;
use tombolo_test_guests::scenarios::{OtherScenario, Scenario};

impl home::Guest for bindings::Client {
    fn say(script: String) -> Result<String, String> {
        play(&script)
    }

    fn give(it: Region) -> Result<(), String> {
        node::keep_region(it);
        Ok(())
    }
}

fn main() {
    let script = std::env::args().nth(1).expect("the name of a scenario");
    play(&script).expect("the scenario exists");
}

fn create(name: &str) -> Region {
    Region::create(name, 2 * GRANULE, true).expect("there is room")
}

fn map(region: &Region, access: Access) -> Page {
    Page::map(region, 0, access).expect("it is free")
}

fn write(region: &Region, byte: u8) -> Page {
    let page = map(region, Access::Write);
    page.fill(byte);
    page
}

/// Checks that the other guests still work.
fn all_is_well() {
    assert_eq!(near::say("ping").as_deref(), Ok("pong"));
    far_is_well();
}

fn far_is_well() {
    assert_eq!(far::say("ping").as_deref(), Ok("pong"));
    let region = create("well");
    assert_eq!(far::lend("fill 99", &region).as_deref(), Ok("done"));
    assert_eq!(region.read_at(2, 1).unwrap(), [99]);
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

/// The outcomes of all operations that need the bytes of a poisoned region.
const POISONED: &str = "poisoned poisoned poisoned poisoned poisoned";

fn play(script: &str) -> Result<String, String> {
    let (scenario, rest) = script.split_once(' ').unwrap_or((script, ""));
    let scenario = match scenario.parse::<Scenario>() {
        Ok(scenario) => scenario,
        Err(_) => return play_other(scenario.parse()?, rest),
    };
    match scenario {
        Scenario::Values => values(),
        Scenario::Deep => deep(),
        Scenario::LendKeptWindows => lend_kept_windows(),
        Scenario::LendLive => lend_live(rest),
        Scenario::LendLiveWords => lend_live_words(),
        Scenario::LendThirdParty => lend_third_party(),
        Scenario::LendSameTwice => lend_same_twice(),
        Scenario::LendWindowKept => lend_window_kept(),
        Scenario::LendForbidden => lend_forbidden(),
        Scenario::LendRestrictedKept => lend_restricted_kept(),
        Scenario::LendRights => lend_rights(),
        Scenario::LendOn => lend_on(),
        Scenario::LendRoundtrips => lend_roundtrips(),
        Scenario::Move => move_(),
        Scenario::MoveRefused => move_refused(),
        Scenario::MoveRefusedRoomless => move_refused_roomless(),
        Scenario::MoveOverLimit => move_over_limit(rest),
        Scenario::MoveResults => move_results(),
        Scenario::MoveResultOverLimit => move_result_over_limit(),
        Scenario::MoveToDead => move_to_dead(),
        Scenario::UseMoved => use_moved(),
        Scenario::Cycle => cycle(),
        Scenario::CycleRoomless => cycle_roomless(),
        Scenario::Late => late(rest),
        Scenario::Killed => killed(rest),
        Scenario::KilledWriting => killed_writing(rest),
        Scenario::DeadOfPressure => dead_of_pressure(rest),
        Scenario::KilledIdle => killed_idle(),
        Scenario::KilledBetween => killed_between(),
        Scenario::Dead => dead(rest),
        Scenario::DeadRoomless => panic!("{}", near::say_roomless("trap")),
        Scenario::Restarted => restarted(),
        Scenario::HeavyDeath => drop(near::say("heavy-trap").unwrap_err()),
        Scenario::QueuedAtDeath => queued_at_death(),
        Scenario::WaitLong => wait_long(rest),
        Scenario::Poison => poison(),
        Scenario::PoisonNot => poison_not(rest),
        Scenario::UnpinLarge => unpin_large(),
        Scenario::Leave => leave(rest),
        Scenario::Forge => forge(),
        Scenario::ForgeOwn => drop(unsafe { Region::from_handle(77) }),
        Scenario::Limit => limit(rest),
        Scenario::Hold => hold(rest),
        Scenario::Ping => {}
        // Acts for stores that the test itself runs.
        Scenario::LendKept => return lend_kept(rest),
        Scenario::LendPlain => {
            return node::with_kept(|region| near::lend(rest, region));
        }
        Scenario::Make => node::keep_region(near::make(rest)?),
        Scenario::Kept => return node::with_kept(|region| node::with(rest, region)),
        Scenario::KeptWindow => {
            let page = node::with_kept(|region| map(region, Access::Write));
            page.set(0, 5);
            node::keep_page(page);
        }
        Scenario::Trap => core::arch::wasm32::unreachable(),
    }
    Ok("done".into())
}

/// Plays a scenario that only programs other than `calls` and other guests name.
fn play_other(scenario: OtherScenario, rest: &str) -> Result<String, String> {
    match scenario {
        OtherScenario::HoldMuch => hold_much(),
        OtherScenario::SharePurged => share_purged(),
        OtherScenario::Own => return node::with(rest, &node::take_kept()),
    }
    Ok("done".into())
}

/// Shares a region of four granules with the next guest, half of it unpinned by both. Then
/// the host, whose budget is eight granules, purges one granule of it for another region.
/// In the end both guests drop the region.
fn share_purged() {
    let region = Region::create("shared", 4 * GRANULE, true).expect("there is room");
    for index in 0..4 {
        let page = Page::map(&region, index, Access::Write).expect("it is free");
        page.fill(7);
    }
    let half = Span {
        offset: GRANULE,
        length: 2 * GRANULE,
    };
    pins::unpin(&region, half).expect("it is ours");
    let copy = region.duplicate(Rights::all()).expect("it is ours");
    assert_eq!(near::move_("keep", copy).as_deref(), Ok("done"));
    drop(Region::create("large", 5 * GRANULE, true).expect("room is made"));
}

fn values() {
    let integers = [
        (0, 0, 0, 0, 0, 0, 0, 0),
        (
            u8::MAX,
            i8::MAX,
            u16::MAX,
            i16::MAX,
            u32::MAX,
            i32::MAX,
            u64::MAX,
            i64::MAX,
        ),
        (1, i8::MIN, 2, i16::MIN, 3, i32::MIN, 4, i64::MIN),
    ];
    for (a, b, c, d, e, f, g, h) in integers {
        assert_eq!(
            plain::integers(a, b, c, d, e, f, g, h),
            (a, b, c, d, e, f, g, h)
        );
    }
    let texts = ["", "plain", "Ünïcödé \u{1f3dd} \0 end"];
    let reals = [0.0, f64::MIN_POSITIVE, f64::INFINITY, -1.5e300];
    for (text, real) in texts.into_iter().zip(reals) {
        for c in ['\0', 'x', '\u{d7ff}', '\u{e000}', char::MAX] {
            assert_eq!(
                plain::others(real as f32, real, c, real > 1.0, text),
                (real as f32, real, c, real > 1.0, text.to_owned())
            );
        }
    }
    let (nan, other, ..) = plain::others(f32::NAN, f64::NAN, 'x', true, "");
    assert!(nan.is_nan() && other.is_nan());
    let (zero, ..) = plain::others(-0.0, 0.0, 'x', true, "");
    assert!(zero.is_sign_negative());

    use plain::{Colours, Point, Shape, Size};
    let point = |x| Point {
        x,
        y: u64::MAX,
        tags: vec!["one".into(), String::new()],
    };
    let shapes = [Shape::Circle(0.5), Shape::Square, Shape::Label("l".into())];
    for colours in [
        Colours::empty(),
        Colours::GREEN,
        Colours::RED | Colours::BLUE,
        Colours::all(),
    ] {
        for size in [Size::Small, Size::Medium, Size::Large] {
            let (a, b, c, d) = plain::named(colours, size, &shapes, &point(-3));
            assert_eq!((a, b), (colours, size));
            assert_eq!(format!("{c:?}"), format!("{shapes:?}"));
            assert_eq!(format!("{d:?}"), format!("{:?}", point(-3)));
        }
    }

    let lists = [vec![1, 2, 3], vec![], vec![u16::MAX]];
    let results = [Ok(point(1)), Err(Shape::Square), Err(Shape::Circle(2.0))];
    let tuples = [(1, vec![0.5, -0.5]), (2, vec![])];
    for option in [None, Some(None), Some(Some("some"))] {
        let slices = |(a, b): &(u8, Vec<f32>)| (*a, b.clone());
        let tuples: Vec<_> = tuples.iter().map(slices).collect();
        let (a, b, c, d) = plain::nested(&lists, option, &results, &tuples);
        assert_eq!(a, lists);
        assert_eq!(b, option.map(|some| some.map(str::to_owned)));
        assert_eq!(format!("{c:?}"), format!("{results:?}"));
        assert_eq!(d, tuples);
    }
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    assert_eq!(
        plain::none(&bytes, Some(""), Err(())),
        (bytes.clone(), Some(String::new()), Err(()))
    );
    assert_eq!(plain::none(&[], None, Ok(())), (vec![], None, Ok(())));
    let mut reversed = plain::bytes(&bytes);
    reversed.reverse();
    assert_eq!(reversed, bytes);
    assert_eq!(plain::bytes(&[]), []);
    plain::nothing();
}

fn deep() {
    use deep::{Either, Lent, LentEither, Moved};
    let regions: Vec<Region> = (0..5)
        .map(|byte| {
            let region = create("deep");
            drop(write(&region, byte));
            region
        })
        .collect();
    let [a, b, c, d, e] = regions.as_slice() else {
        unreachable!()
    };
    let label = || "label".to_owned();
    let lent = Lent {
        label: label(),
        part: Some(a),
    };
    let seen = deep::look(&lent, Ok(b), (200, &LentEither::Parts((c, d))));
    assert_eq!(seen, Ok(vec![200, 0, 1, 2, 3]));
    let lent = Lent {
        label: label(),
        part: None,
    };
    let seen = deep::look(&lent, Err("none"), (201, &LentEither::Whole(e)));
    assert_eq!(seen, Ok(vec![201, 4]));
    let seen = deep::look(&lent, Ok(a), (202, &LentEither::None));
    assert_eq!(seen, Ok(vec![202, 1]));

    let first = |region: &Region| region.read_at(0, 1).unwrap()[0];
    let bytes: Vec<u8> = regions.iter().map(first).collect();
    assert_eq!(bytes, [2, 2, 3, 4, 5]);
    let ids: Vec<u64> = regions.iter().map(Region::id).collect();
    let mut regions = regions.into_iter();
    let mut next = || regions.next().unwrap();
    let moved = vec![
        Moved {
            label: label(),
            part: next(),
            more: vec![next(), next()],
        },
        Moved {
            label: label(),
            part: next(),
            more: vec![],
        },
    ];
    let pair = (create("pair"), create("pair"));
    let pair_ids = (pair.0.id(), pair.1.id());
    let (back, last, either) = deep::swap(moved, None, Either::Parts(pair), Err(next())).unwrap();
    let back_ids: Vec<u64> = back.iter().map(Region::id).collect();
    assert_eq!(back_ids, [ids[3], ids[2], ids[1], ids[0]]);
    assert_eq!(back.iter().map(first).collect::<Vec<_>>(), [5, 4, 3, 3]);
    let last = last.unwrap();
    assert_eq!((&*last.label, last.part.id()), ("back", ids[4]));
    assert_eq!(first(&last.part), 6);
    let Either::Parts((one, other)) = either else {
        panic!("the pair comes back")
    };
    assert_eq!((one.id(), other.id()), pair_ids);
    // Received handles are first handles here, too.
    assert_eq!(near::move_("own", one).as_deref(), Ok("0"));
}

fn lend_kept_windows() {
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

fn lend_third_party() {
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

fn lend_same_twice() {
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
fn lend_live_words() {
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
fn lend_live(strands: &str) {
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

fn lend_window_kept() {
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

fn lend_forbidden() {
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

fn lend_restricted_kept() {
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

fn lend_rights() {
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
    // A handle that is lent on has no more rights than the lent one.
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

fn lend_on() {
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
fn lend_roundtrips() {
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

fn move_() {
    let region = create("moving");
    let id = region.id();
    let page = write(&region, 21);
    let other = region.duplicate(Rights::READ).unwrap();
    assert_eq!(near::move_("keep", region).as_deref(), Ok("done"));
    // The sender's window moved along: its memory is zero, and ordinary again.
    assert!(page.is_all(0));
    page.fill(1);
    assert_eq!(outcome(page.window().set_access(Access::Read)), "gone");
    assert_eq!(other.read_at(0, 1).unwrap(), [21]);
    let made = near::make("kept").unwrap();
    assert_eq!(made.id(), id);
    assert_eq!(made.rights(), Rights::all());
    assert!(map(&made, Access::Write).is_all(21));
    // From the first guest to the second, and on to the third.
    assert_eq!(near::move_("on copy 22", made).as_deref(), Ok("22"));
    assert_eq!(other.read_at(0, 1).unwrap(), [22]);
    all_is_well();
}

fn move_refused() {
    // While a restricted handle lives.
    let region = create("refused");
    let page = write(&region, 30);
    let weaker = region.restrict(Rights::READ).unwrap();
    let refused = near::move_("see", region).unwrap_err();
    has(&refused, &["`refused`", "moved", "permit"]);
    assert!(page.is_all(30), "the windows stay");
    page.set(0, 31);
    // The restricted handle cannot be moved either.
    let refused = near::move_("see", weaker).unwrap_err();
    has(&refused, &["`refused`", "moved"]);
    assert!(page.get(0) == 31);
    // Both handles are dropped. The window alone keeps the region alive.
    drop(page);

    // A handle without the right `share`.
    let region = create("unshared");
    let unshared = region.duplicate(Rights::READ | Rights::WRITE).unwrap();
    has(&near::move_("see", unshared).unwrap_err(), &["`unshared`"]);
    // An error variant can report the refusal.
    let _weaker = region.restrict(Rights::READ).unwrap();
    let Err(near::Failure::PeerFailed(refused)) = near::move_failing("see", region) else {
        panic!("a value says it")
    };
    has(&refused, &["`unshared`", "moved"]);

    // Within a call that lends the same claim: no guest observes the move.
    all_is_well();
}

fn move_refused_roomless() {
    let region = create("refused");
    let _weaker = region.restrict(Rights::READ).unwrap();
    near::move_roomless("see", region);
}

/// The near guest holds so much that the next region exceeds its limit.
fn move_over_limit(limit: &str) {
    let big = || Region::create("big", 10 * GRANULE, true).unwrap();
    assert_eq!(near::move_("keep", big()).as_deref(), Ok("done"));
    let region = big();
    let page = write(&region, 40);
    let copy = region.duplicate(Rights::all());
    assert!(copy.is_err() || limit == "handles");
    let refused = near::move_("keep", region).unwrap_err();
    // The text names the limit, but not its value for the receiver.
    let expected =
        format!("region `big` cannot be moved: limit `{limit}` of guest `near` is used up");
    assert_eq!(refused, expected);
    assert!(page.is_all(40), "the windows stay");
    drop((page, copy));
    // Dropping regions makes room.
    assert_eq!(near::say("drop-all").as_deref(), Ok("done"));
    assert_eq!(near::move_("keep", big()).as_deref(), Ok("done"));
    assert_eq!(near::say("drop-all").as_deref(), Ok("done"));
}

fn move_results() {
    let made = near::make("filled 50").unwrap();
    assert!(map(&made, Access::Read).is_all(50));
    assert_eq!(outcome(made.duplicate(Rights::all())), "ok");
    // The creator's window is gone, and conflicts with no other.
    let made = near::make("window 51").unwrap();
    assert_eq!(near::say("look").as_deref(), Ok("0"));
    assert_eq!(near::say("set-access").as_deref(), Ok("gone"));
    let page = map(&made, Access::Write);
    assert!(page.is_all(51));
    drop(page);
    assert_eq!(near::move_("own", made).as_deref(), Ok("51"));
    // A result that cannot be moved is a refusal. Its creator lives on.
    let refused = near::make("restricted").unwrap_err();
    // The text does not name the region, which the caller does not know.
    assert_eq!(
        refused,
        "the results of guest `near` cannot be passed: \
         a region among them cannot be moved: the handle does not permit that"
    );
    assert_eq!(near::say("look").as_deref(), Ok("0 9"), "its window stays");
    all_is_well();
}

/// A result that exceeds the account of its receiver.
fn move_result_over_limit() {
    let mine = Region::create("mine", 10 * GRANULE, true).unwrap();
    let refused = near::make("size 655360").unwrap_err();
    let own = "limit `claimed-bytes` of guest `client` is used up: 655360 more asked for";
    has(&refused, &["moved", own]);
    assert!(!refused.contains("made"), "{refused}");
    drop(mine);
    assert_eq!(near::make("size 655360").unwrap().size(), 655_360);
}

fn move_to_dead() {
    // The receiver dies when it uses the region, which is freed with it.
    let region = create("dying");
    let copy = region.duplicate(Rights::all()).unwrap();
    let page = write(&region, 60);
    let died = near::move_("writing trap", region).unwrap_err();
    has(&died, &["`near`", "test:calls/near.move", "unreachable"]);
    assert_eq!(page.get(0), 0);
    assert_eq!(outcomes(&copy), POISONED);
    copy.clear_poison().unwrap();
    assert_eq!(map(&copy, Access::Read).get(0), 3);
    // A dead receiver receives nothing. The sender's windows stay.
    let page = write(&copy, 61);
    let refused = near::move_("see", copy).unwrap_err();
    assert_eq!(refused, died);
    assert!(page.is_all(61));
    far_is_well();
}

/// Uses the number of a handle that was moved.
fn use_moved() {
    let region = create("moved");
    let number = region.handle();
    assert_eq!(near::move_("keep", region).as_deref(), Ok("done"));
    let forged = unsafe { Region::from_handle(number) };
    panic!("{}", forged.name());
}

fn cycle() {
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

fn cycle_roomless() {
    has(&near::say_roomless("home ping"), &["never return"]);
    all_is_well();
}

/// A callee whose deadline has passed.
fn late(how: &str) {
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

/// A callee that is killed from outside during a call, with a window to write on the lent
/// region.
fn killed(how: &str) {
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
fn killed_writing(how: &str) {
    let region = create("writing");
    let _ = near::lend(&format!("writing {how}"), &region);
    panic!("it is ended before");
}

/// A callee that is killed because memory is short.
fn dead_of_pressure(how: &str) {
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
fn restarted() {
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

/// A window whose address and offset agree modulo 2 MiB, and which does not begin on such a
/// multiple.
fn unpin_large() {
    const MIB: u64 = 1 << 20;
    let region = tombolo_guest::Region::create("large", 8 * MIB).unwrap();
    let window = region.try_write(MIB..4 * MIB).unwrap();
    let unpinned = window.unpin().map_err(|it| it.to_string()).unwrap();
    assert!(region.is_pinned(..MIB).unwrap());
    assert!(!region.is_pinned(MIB..MIB + 65536).unwrap());
    assert!(!region.is_pinned(4 * MIB - 65536..4 * MIB).unwrap());
    assert!(
        region.is_pinned(4 * MIB..).unwrap(),
        "what is after the window"
    );
    // No window covers the bytes after it.
    drop(region.try_write(4 * MIB..).unwrap());
    drop(unpinned.pin().map_err(|it| it.to_string()).unwrap());
}

/// A callee that dies in the call of another guest, while this guest's call is queued.
fn queued_at_death() {
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
fn killed_idle() {
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
fn killed_between() {
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
fn dead(how: &str) {
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

/// Waits until its deadline has passed.
fn wait_long(how: &str) {
    assert_eq!(near::say(how).as_deref(), Ok("done"));
    all_is_well();
}

fn poison() {
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
fn poison_not(how: &str) {
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
fn leave(how: &str) {
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

/// Passes numbers of handles that it does not own.
fn forge() {
    let region = create("mine");
    let page = write(&region, 80);
    let died = near::say("forge 4242").unwrap_err();
    has(&died, &["guest `near`", "handle index"]);
    let died = far::say(&format!("forge {}", region.handle())).unwrap_err();
    has(&died, &["guest `far`", "handle index"]);
    assert!(page.is_all(80));
    drop(page);
    assert_eq!(outcomes(&region), "ok ok ok ok ok");
}

fn limit(which: &str) {
    let (exhausted, kept) = match which {
        "regions" => until_refused(|| Region::create("many", 1, true)),
        "claimed-bytes" | "budget" => until_refused(|| Region::create("many", GRANULE, true)),
        "handles" => {
            let region = create("one");
            until_refused(|| region.restrict(Rights::READ))
        }
        "duplicates" => {
            let region = create("one");
            until_refused(|| region.duplicate(Rights::READ))
        }
        "windows" => {
            let region = create("one");
            let (error, pages) = until_refused(|| Page::map(&region, 0, Access::Read));
            // Closing one makes room for another.
            assert_eq!(pages, 3);
            assert_eq!(outcome(Page::map(&region, 0, Access::Read)), "ok");
            (error, pages)
        }
        "copy-bytes" => {
            let region = create("one");
            assert_eq!(outcome(region.read_at(0, 1000)), "ok");
            assert_eq!(outcome(region.write_at(0, &[1; 1000])), "ok");
            has(
                &outcome(region.write_at(0, &[1; 1001])),
                &["exhausted", "copy-bytes"],
            );
            assert_eq!(region.read_at(0, 1).unwrap(), [1]);
            (region.read_at(0, 1001).unwrap_err(), 3)
        }
        "memory" => {
            let mut all: Vec<Vec<u8>> = Vec::new();
            let mut chunk = Vec::<u8>::new();
            while chunk.try_reserve_exact(1 << 20).is_ok() {
                all.push(std::mem::take(&mut chunk));
                assert!(all.len() < 20, "the limit is below that");
            }
            assert!(all.len() > 2);
            drop(all);
            all_is_well();
            return;
        }
        "descriptors" => {
            let mut all = Vec::new();
            let error = loop {
                match std::fs::read_dir("/") {
                    Ok(directory) => all.push(directory),
                    Err(error) => break error,
                }
                assert!(all.len() < 100, "the limit is below that");
            };
            panic!("{error}");
        }
        _ => unreachable!("no such limit"),
    };
    assert_eq!(kept, 3, "{exhausted:?}");
    let ErrorCode::Exhausted(text) = exhausted else {
        panic!("{exhausted:?}")
    };
    let limit = which.replace("duplicates", "regions");
    has(&text, &[&format!("limit `{limit}`")]);
    all_is_well();
}

/// Creates objects until one is refused. Returns the reason, and their number.
fn until_refused<T>(mut make: impl FnMut() -> Result<T, ErrorCode>) -> (ErrorCode, usize) {
    let mut all = Vec::new();
    loop {
        match make() {
            Ok(one) => all.push(one),
            Err(error) => return (error, all.len()),
        }
        assert!(all.len() < 100, "the limit is below that");
    }
}

/// Holds regions and windows, of which the near guest has a claim. Then ends in the given
/// way, or waits for its end.
fn hold(how: &str) {
    for index in 0..4 {
        let region = Region::create("held", 16 * GRANULE, true).unwrap();
        let page = write(&region, 1);
        let second = Page::map(&region, 5, Access::Read).unwrap();
        assert_eq!(near::lend("fill-keep 2", &region).as_deref(), Ok("done"));
        if index == 0 {
            assert_eq!(
                near::move_("keep", region.duplicate(Rights::all()).unwrap()).as_deref(),
                Ok("done")
            );
        }
        node::keep_page(page);
        node::keep_page(second);
        if index == 3 {
            // Two more regions than before: this shows the test that the calls have
            // returned.
            for page in [7, 9] {
                node::keep_page(Page::map(&region, page, Access::Read).unwrap());
            }
        }
        node::keep_region(region);
    }
    match how {
        "return" => {}
        "trap" => core::arch::wasm32::unreachable(),
        "exit" => std::process::exit(7),
        // The callee holds a window as well, and never returns.
        "call" => {
            let _ = node::with_kept(|region| near::lend("writing sleep", region));
        }
        "spin" => loop {
            std::hint::spin_loop();
        },
        _ => unreachable!("no such end"),
    }
}

/// Fills a region of 128 MiB, and never ends.
fn hold_much() {
    const CHUNK: u64 = 16 << 20;
    let region = Region::create("much", 8 * CHUNK, true).unwrap();
    let bytes = vec![1; usize::try_from(CHUNK).unwrap()];
    for chunk in 0..8 {
        region.write_at(chunk * CHUNK, &bytes).unwrap();
    }
    drop(bytes);
    let _page = write(&region, 2);
    let _ = near::lend("writing sleep", &region);
}

/// Lends the kept region, with a window on it. Returns the first byte of the window
/// afterwards.
fn lend_kept(rest: &str) -> Result<String, String> {
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
