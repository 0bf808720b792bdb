//! The first guest of a chain of calls. Plays the scenario that its first argument names,
//! or that a caller asks for. It panics if an expectation fails.
#![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]

mod dying;
mod lending;
mod limits;
mod moving;
mod near;
mod values;
mod waiting;

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

use bindings::exports::test::calls::home;
use bindings::test::calls::far;
use tombolo_test_guests::node::{self, GRANULE, Page};
use tombolo_test_guests::raw::regions::Region;
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
        Scenario::Values => values::values(),
        Scenario::Deep => values::deep(),
        Scenario::LendKeptWindows => lending::lend_kept_windows(),
        Scenario::LendLive => lending::lend_live(rest),
        Scenario::LendLiveWords => lending::lend_live_words(),
        Scenario::LendThirdParty => lending::lend_third_party(),
        Scenario::LendSameTwice => lending::lend_same_twice(),
        Scenario::LendWindowKept => lending::lend_window_kept(),
        Scenario::LendForbidden => lending::lend_forbidden(),
        Scenario::LendRestrictedKept => lending::lend_restricted_kept(),
        Scenario::LendRights => lending::lend_rights(),
        Scenario::LendOn => lending::lend_on(),
        Scenario::LendRoundtrips => lending::lend_roundtrips(),
        Scenario::Move => moving::move_(),
        Scenario::MoveRefused => moving::move_refused(),
        Scenario::MoveRefusedRoomless => moving::move_refused_roomless(),
        Scenario::MoveOverLimit => moving::move_over_limit(rest),
        Scenario::MoveResults => moving::move_results(),
        Scenario::MoveResultOverLimit => moving::move_result_over_limit(),
        Scenario::MoveToDead => moving::move_to_dead(),
        Scenario::UseMoved => moving::use_moved(),
        Scenario::Cycle => waiting::cycle(),
        Scenario::CycleRoomless => waiting::cycle_roomless(),
        Scenario::Late => waiting::late(rest),
        Scenario::Killed => dying::killed(rest),
        Scenario::KilledWriting => dying::killed_writing(rest),
        Scenario::DeadOfPressure => dying::dead_of_pressure(rest),
        Scenario::KilledIdle => dying::killed_idle(),
        Scenario::KilledBetween => dying::killed_between(),
        Scenario::Dead => dying::dead(rest),
        Scenario::DeadRoomless => panic!("{}", near::say_roomless("trap")),
        Scenario::Restarted => dying::restarted(),
        Scenario::HeavyDeath => drop(near::say("heavy-trap").unwrap_err()),
        Scenario::QueuedAtDeath => dying::queued_at_death(),
        Scenario::WaitLong => waiting::wait_long(rest),
        Scenario::Poison => dying::poison(),
        Scenario::PoisonNot => dying::poison_not(rest),
        Scenario::UnpinLarge => moving::unpin_large(),
        Scenario::Leave => dying::leave(rest),
        Scenario::Forge => limits::forge(),
        Scenario::ForgeOwn => drop(unsafe { Region::from_handle(77) }),
        Scenario::Limit => limits::limit(rest),
        Scenario::Hold => limits::hold(rest),
        Scenario::Ping => {}
        // Acts for stores that the test itself runs.
        Scenario::LendKept => return lending::lend_kept(rest),
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
        OtherScenario::HoldMuch => limits::hold_much(),
        OtherScenario::SharePurged => moving::share_purged(),
        OtherScenario::Own => return node::with(rest, &node::take_kept()),
    }
    Ok("done".into())
}
