//! Live windows: which guests may have them, with which windows they are compatible, and
//! the reasons of refusals. The guests are puppets in an embedder's stores, and guests of
//! apps.

use std::fmt::Display;
use std::time::Duration;

use tombolo::{GRANULE, RegionError, RegionHost, Rights, Strand};
use tombolo_app::{
    App, AppBuilder, Backoff, CommandExit, GuestSpec, Restart, ScopeSpec, WindowAccess,
};

use tombolo_test_util::puppet::{
    Access, ErrorCode, LIVE_READ, LIVE_WRITE, Puppet, READ, WRITE, assert_filled, filled,
    mappings_of,
};
use tombolo_test_util::run::{run, succeeds};

use scenarios::LivePart;

tombolo_tests::guests!(live);
tombolo_tests::scenarios!(live);

const LIVE: [Access; 2] = [LIVE_READ, LIVE_WRITE];
const LOCKED: [Access; 2] = [READ, WRITE];

fn guest(host: &RegionHost, name: &str, strand: &Strand) -> Puppet {
    Puppet::in_strand(host, name, strand)
}

/// Tries to map the first granule.
fn try_show(guest: &mut Puppet, number: u32, access: Access) -> Result<u32, ErrorCode> {
    let at = guest.allocate(1).unwrap();
    guest.map(number, 0, GRANULE, access, at).unwrap()
}

#[track_caller]
fn is_unsupported<T: std::fmt::Debug>(answer: Result<T, ErrorCode>, reason: &str) {
    match answer {
        Err(ErrorCode::Unsupported(text)) => assert!(text.contains(reason), "{text}"),
        other => panic!("{other:?}"),
    }
}

// rule 2
#[test]
fn embedder_without_a_strand_has_no_live_windows() {
    let host = RegionHost::new();
    let region = filled(&host, "music", GRANULE, 1);
    let mut a = Puppet::new(&host, "a");
    let number = a.claim(&region);
    for access in LIVE {
        is_unsupported(try_show(&mut a, number, access), "take turns");
    }
    let (window, _) = a.mapped(number, 1, WRITE);
    for access in LIVE {
        is_unsupported(a.set_access(window, access).unwrap(), "take turns");
    }
    // The region is unchanged.
    assert!(matches!(
        region.try_read(0..1),
        Err(RegionError::WouldBlock)
    ));
    a.drop_window(window).unwrap();
    assert_filled(&region, 1);
    a.assert_works();
}

// rule 2
#[test]
fn guests_of_a_strand_see_writes_at_once() {
    let (host, strand) = (RegionHost::new(), Strand::new());
    let region = filled(&host, "music", GRANULE, 1);
    let [mut a, mut b, mut c] = ["a", "b", "c"].map(|name| guest(&host, name, &strand));
    let [in_a, in_b, in_c] = [&mut a, &mut b, &mut c].map(|guest| guest.claim(&region));
    let (of_a, at_a) = a.mapped(in_a, 1, LIVE_WRITE);
    let (of_b, at_b) = b.mapped(in_b, 1, LIVE_READ);
    let (of_c, at_c) = c.mapped(in_c, 1, LIVE_WRITE);
    a.poke(at_a, 2).unwrap();
    assert_eq!((b.byte(at_b), c.byte(at_c)), (2, 2));
    c.fill(at_c, 3, 3).unwrap();
    assert_eq!(a.peek(at_a, 4).unwrap(), [3, 3, 3, 1]);
    assert_eq!(b.peek(at_b, 4).unwrap(), [3, 3, 3, 1]);

    // A window that reads does not write.
    let trap = b.poke(at_b, 9).unwrap_err();
    assert!(trap.downcast_ref::<wasmtime::Trap>().is_some(), "{trap:?}");
    assert_eq!(a.byte(at_a), 3);
    let _ = of_b;

    // The remaining live window becomes an exclusive one.
    drop(b);
    c.drop_window(of_c).unwrap();
    a.set_access(of_a, WRITE).unwrap().unwrap();
    assert_eq!(
        try_show(&mut c, in_c, LIVE_READ),
        Err(ErrorCode::WouldBlock)
    );
    a.drop_window(of_a).unwrap();
    assert!(mappings_of(&region).is_empty());
    assert_eq!(region.try_read(0..4).unwrap()[..], [3, 3, 3, 1]);
}

// rule 2
#[test]
fn other_strand_is_refused_with_the_reason() {
    let host = RegionHost::new();
    let region = filled(&host, "music", GRANULE, 1);
    for first in LIVE {
        for second in LIVE {
            let mut a = guest(&host, "a", &Strand::new());
            let mut b = guest(&host, "b", &Strand::new());
            let (in_a, in_b) = (a.claim(&region), b.claim(&region));
            let (window, _) = a.mapped(in_a, 1, first);
            is_unsupported(try_show(&mut b, in_b, second), "another strand");
            a.drop_window(window).unwrap();
            try_show(&mut b, in_b, second).unwrap();
            is_unsupported(try_show(&mut a, in_a, first), "another strand");
            b.store.data_mut().regions.finish();
        }
    }
    assert_filled(&region, 1);
}

// rule 2
#[test]
fn store_has_one_live_window_on_a_byte() {
    let (host, strand) = (RegionHost::new(), Strand::new());
    let region = filled(&host, "music", 2 * GRANULE, 1);
    let mut a = guest(&host, "a", &strand);
    let (one, other) = (a.claim(&region), a.claim(&region));
    a.mapped(one, 1, LIVE_READ);
    for number in [one, other] {
        for access in LIVE {
            let refused = try_show(&mut a, number, access);
            assert_eq!(refused, Err(ErrorCode::WouldBlock));
        }
    }
    // On other granules it can have one.
    let at = a.allocate(1).unwrap();
    a.map(other, GRANULE, GRANULE, LIVE_WRITE, at)
        .unwrap()
        .unwrap();
}

// rule 2
#[test]
fn live_and_locked_windows_conflict() {
    let (host, strand) = (RegionHost::new(), Strand::new());
    let region = filled(&host, "music", GRANULE, 1);
    let (mut a, mut b) = (guest(&host, "a", &strand), guest(&host, "b", &strand));
    let (in_a, in_b) = (a.claim(&region), b.claim(&region));
    let blocked = Err(ErrorCode::WouldBlock);
    for live in LIVE {
        let (window, _) = a.mapped(in_a, 1, live);
        for access in LOCKED {
            assert_eq!(try_show(&mut b, in_b, access), blocked);
        }
        assert_eq!(b.read_at(in_b, 0, 1).unwrap(), Err(ErrorCode::WouldBlock));
        assert_eq!(
            b.write_at(in_b, 0, &[9]).unwrap(),
            Err(ErrorCode::WouldBlock)
        );
        assert!(matches!(
            region.try_read(0..1),
            Err(RegionError::WouldBlock)
        ));
        assert!(matches!(
            region.try_write(0..1),
            Err(RegionError::WouldBlock)
        ));
        assert_eq!(b.freeze(in_b).unwrap(), Err(ErrorCode::WouldBlock));
        a.drop_window(window).unwrap();
        for access in LOCKED {
            let (window, _) = b.mapped(in_b, 1, access);
            assert_eq!(try_show(&mut a, in_a, live), blocked);
            b.drop_window(window).unwrap();
        }
        let guard = region.try_read(0..1).unwrap();
        assert_eq!(try_show(&mut a, in_a, live), blocked);
        drop(guard);
    }
    b.freeze(in_b).unwrap().unwrap();
    for live in LIVE {
        assert_eq!(try_show(&mut a, in_a, live), Err(ErrorCode::Frozen));
    }
    assert_filled(&region, 1);
}

// rule 2
#[test]
fn set_access_to_live_respects_the_lock() {
    let (host, strand) = (RegionHost::new(), Strand::new());
    let region = filled(&host, "music", GRANULE, 1);
    let (mut a, mut b) = (guest(&host, "a", &strand), guest(&host, "b", &strand));
    let (in_a, in_b) = (a.claim(&region), b.claim(&region));
    let (window, at) = a.mapped(in_a, 1, READ);
    let (reads, _) = b.mapped(in_b, 1, READ);
    for access in LIVE {
        let refused = a.set_access(window, access).unwrap();
        assert_eq!(refused, Err(ErrorCode::WouldBlock));
    }
    b.drop_window(reads).unwrap();
    let writable = |a: &mut Puppet, access| {
        a.set_access(window, access).unwrap().unwrap();
        mappings_of(&region)[0].permissions.contains('w')
    };
    assert!(!writable(&mut a, LIVE_READ));
    assert!(writable(&mut a, LIVE_WRITE));
    let (beside, at_b) = b.mapped(in_b, 1, LIVE_READ);
    a.poke(at, 2).unwrap();
    assert_eq!(b.byte(at_b), 2);
    for access in LOCKED {
        let refused = a.set_access(window, access).unwrap();
        assert_eq!(refused, Err(ErrorCode::WouldBlock));
    }
    a.poke(at, 3).unwrap();
    assert_eq!(b.byte(at_b), 3, "it is as it was");
    b.drop_window(beside).unwrap();
    for access in [WRITE, LIVE_WRITE, LIVE_READ, WRITE, LIVE_READ, READ] {
        let writes = [WRITE, LIVE_WRITE].contains(&access);
        assert_eq!(writable(&mut a, access), writes, "{access:?}");
    }
    let (_, at_b) = b.mapped(in_b, 1, READ);
    assert_eq!(b.byte(at_b), 3);
}

// rule 6
#[test]
fn dropped_guest_with_live_write_poisons() {
    for (finish, access, poisons) in [
        (false, LIVE_READ, false),
        (true, LIVE_WRITE, false),
        (false, LIVE_WRITE, true),
    ] {
        let (host, strand) = (RegionHost::new(), Strand::new());
        let region = filled(&host, "music", GRANULE, 1);
        let (mut a, mut b) = (guest(&host, "a", &strand), guest(&host, "b", &strand));
        let (in_a, in_b) = (a.claim(&region), b.claim(&region));
        let (_, at_b) = b.mapped(in_b, 1, LIVE_READ);
        let _ = a.mapped(in_a, 1, access);
        if finish {
            a.store.data_mut().regions.finish();
        }
        drop(a);
        assert_eq!(region.is_poisoned(), poisons);
        // The existing window stays as it is.
        assert_eq!(b.byte(at_b), 1);
        let mut c = guest(&host, "c", &strand);
        let in_c = c.claim(&region);
        let shown = try_show(&mut c, in_c, LIVE_READ).map(drop);
        let expected = if poisons {
            Err(ErrorCode::Poisoned)
        } else {
            Ok(())
        };
        assert_eq!(shown, expected);
    }
}

// rule 7
#[test]
fn unpinning_hides_only_its_own_live_window() {
    let (host, strand) = (RegionHost::new(), Strand::new());
    let region = filled(&host, "music", GRANULE, 1);
    let (mut a, mut b) = (guest(&host, "a", &strand), guest(&host, "b", &strand));
    let (in_a, in_b) = (a.claim(&region), b.claim(&region));
    let (_, at_a) = a.mapped(in_a, 1, LIVE_WRITE);
    let (_, at_b) = b.mapped(in_b, 1, LIVE_WRITE);
    a.unpin(in_a, 0, 0).unwrap().unwrap();
    a.poke(at_a, 7).unwrap();
    b.poke(at_b + 1, 2).unwrap();
    assert_eq!(a.peek(at_a, 2).unwrap(), [7, 0], "its own zeros");
    assert_eq!(b.peek(at_b, 2).unwrap(), [1, 2]);
    assert!(
        matches!(region.try_read(0..1), Err(RegionError::WouldBlock)),
        "the lock stays"
    );
    a.pin(in_a, 0, 0).unwrap().unwrap();
    assert_eq!(a.peek(at_a, 2).unwrap(), [1, 2]);
}

// rule 5
#[test]
fn borrower_has_live_windows_during_the_call() {
    let (host, strand) = (RegionHost::new(), Strand::new());
    let region = filled(&host, "music", GRANULE, 1);
    let (mut a, mut b) = (guest(&host, "a", &strand), guest(&host, "b", &strand));
    let in_b = b.claim(&region);
    let (_, at_b) = b.mapped(in_b, 1, LIVE_READ);
    let at = a.allocate(1).unwrap();
    let weak = a
        .lend_to_map(&region, Rights::READ, LIVE_WRITE, at)
        .unwrap();
    assert_eq!(weak, Err(ErrorCode::NotPermitted));
    let lent = Rights::READ | Rights::WRITE;
    a.lend_to_map(&region, lent, LIVE_WRITE, at)
        .unwrap()
        .unwrap();
    // The kept window has been unmapped.
    a.poke(at, 9).unwrap();
    assert_eq!(b.byte(at_b), 1);
}

// Guests of apps.

fn node(name: &str, part: impl Display, strand: Option<&str>) -> GuestSpec {
    GuestSpec {
        inherit_stdio: true,
        args: vec![part.to_string()],
        strand: strand.map(str::to_owned),
        ..GuestSpec::new(name, std::fs::read(guests::LIVE_NODE).unwrap())
    }
}

fn app(guests: impl IntoIterator<Item = GuestSpec>) -> AppBuilder {
    let guests: Vec<_> = guests.into_iter().collect();
    let members = guests.iter().map(|it| (it.name.clone(), Rights::ALL));
    let scope = ScopeSpec {
        name: "s".into(),
        members: members.collect(),
    };
    guests
        .into_iter()
        .fold(App::builder().scope(scope), AppBuilder::guest)
}

/// Each guest computes without a host call until it sees the other's write. The host ends
/// their turns, and the compiler keeps no value in a register.
// rule 2
#[test]
fn looping_guests_of_a_strand_see_each_other() {
    let outcome = succeeds(app([
        node("ping", LivePart::Ping, Some("one")),
        node("pong", LivePart::Pong, Some("one")),
    ]));
    let guests = outcome.report.guests.iter();
    let accesses: Vec<_> = guests.map(|guest| guest.windows[0].access).collect();
    assert_eq!(accesses, [WindowAccess::LiveWrite; 2]);
}

// rule 2
#[test]
fn live_windows_between_strands_are_refused() {
    for (one, other) in [
        (None, None),
        (Some("one"), Some("other")),
        (None, Some("one")),
    ] {
        succeeds(app([
            node("holder", LivePart::Hold, one),
            node("other", LivePart::IsRefused, other),
        ]));
    }
}

// rule 2
#[test]
fn lone_guest_conflicts_with_its_own_live_windows() {
    succeeds(app([node("alone", LivePart::Alone, None)]));
}

// rule 11
#[test]
fn guest_waits_for_a_live_window() {
    succeeds(app([
        node("writer", LivePart::WriteThenShare, Some("one")),
        node("waiter", LivePart::Wait, Some("one")),
    ]));
}

// rule 6
#[test]
fn restarted_guest_clears_poison_of_its_trap() {
    let restart = Restart::OnFailure(Backoff {
        delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(4),
        max_restarts: 3,
        healthy_after: Duration::from_secs(60),
    });
    let mortal = GuestSpec {
        restart,
        ..node("mortal", LivePart::Die, Some("one"))
    };
    let outcome = run(app([node("keeper", LivePart::Keep, Some("one")), mortal]));
    assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);
    assert_eq!(outcome.report.guests[1].restarts.len(), 1);
}
