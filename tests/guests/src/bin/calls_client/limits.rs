//! Limits, and handles that the guest does not have.

use super::bindings::test::calls::far;
use super::near;
use super::{all_is_well, create, has, write};
use tombolo_test_guests::node::{self, GRANULE, Page, outcome, outcomes};
use tombolo_test_guests::raw::regions::{ErrorCode, Region, Rights};
use tombolo_test_guests::raw::windows::Access;

pub(super) fn limit(which: &str) {
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
pub(super) fn hold(how: &str) {
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
pub(super) fn hold_much() {
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

/// Passes numbers of handles that it does not own.
pub(super) fn forge() {
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
