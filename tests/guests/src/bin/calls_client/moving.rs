//! Regions that are moved, and bytes that their claims do not pin.

use super::bindings::tombolo::memory::pins::{self, Span};
use super::near;
use super::{POISONED, all_is_well, create, far_is_well, has, map, write};
use tombolo_test_guests::node::{GRANULE, Page, outcome, outcomes};
use tombolo_test_guests::raw::regions::{Region, Rights};
use tombolo_test_guests::raw::windows::Access;

pub(super) fn move_() {
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

pub(super) fn move_refused() {
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

pub(super) fn move_refused_roomless() {
    let region = create("refused");
    let _weaker = region.restrict(Rights::READ).unwrap();
    near::move_roomless("see", region);
}

/// The near guest holds so much that the next region exceeds its limit.
pub(super) fn move_over_limit(limit: &str) {
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

pub(super) fn move_results() {
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
pub(super) fn move_result_over_limit() {
    let mine = Region::create("mine", 10 * GRANULE, true).unwrap();
    let refused = near::make("size 655360").unwrap_err();
    let own = "limit `claimed-bytes` of guest `client` is used up: 655360 more asked for";
    has(&refused, &["moved", own]);
    assert!(!refused.contains("made"), "{refused}");
    drop(mine);
    assert_eq!(near::make("size 655360").unwrap().size(), 655_360);
}

pub(super) fn move_to_dead() {
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
pub(super) fn use_moved() {
    let region = create("moved");
    let number = region.handle();
    assert_eq!(near::move_("keep", region).as_deref(), Ok("done"));
    let forged = unsafe { Region::from_handle(number) };
    panic!("{}", forged.name());
}

/// Shares a region of four granules with the next guest, half of it unpinned by both. Then
/// the host, whose budget is eight granules, purges one granule of it for another region.
/// In the end both guests drop the region.
pub(super) fn share_purged() {
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

/// A window whose address and offset agree modulo 2 MiB, and which does not begin on such a
/// multiple.
pub(super) fn unpin_large() {
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
