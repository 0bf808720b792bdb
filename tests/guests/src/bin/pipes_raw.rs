//! A guest with raw bindings, which reads its windows when a message is not sent.

// The windows cover memory that Rust does not know of.
#![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/app", "../wit/pipes.wit"],
        world: "test:pipes/raw",
        with: {
            "tombolo:memory/regions@0.1.0": tombolo_test_guests::raw::regions,
            "tombolo:memory/windows@0.1.0": tombolo_test_guests::raw::windows,
        },
        generate_all,
    });
}

use bindings::tombolo::app::channels::{Receiver, Refusal, Sender, Unsent};
use tombolo_test_guests::node::{self, Page};
use tombolo_test_guests::raw::regions::{Region, Rights};
use tombolo_test_guests::raw::windows::Access;

fn filled(name: &str, byte: u8) -> (Region, Page) {
    let region = Region::create(name, node::GRANULE, true).unwrap();
    let page = Page::map(&region, 0, Access::Write).unwrap();
    page.fill(byte);
    (region, page)
}

/// Checks that the regions came back, and that the windows are unchanged.
fn stays(unsent: Unsent, pages: &[(&Page, u8)]) -> Vec<Region> {
    for (page, byte) in pages {
        assert!(page.is_all(*byte), "{:?}", unsent.why);
        page.set(0, *byte);
        page.window().set_access(Access::Write).unwrap();
    }
    assert_eq!(unsent.regions.len(), pages.len());
    unsent.regions
}

fn main() {
    // From this guest to itself, with a capacity of one message of 64 bytes.
    let (sender, receiver) = (Sender::open("c").unwrap(), Receiver::open("c").unwrap());

    let (region, page) = filled("first", 5);
    let unsent = sender.send(&[0; 65], vec![region]).unwrap_err();
    assert!(matches!(&unsent.why, Refusal::TooLarge(text) if text.contains("region")));
    let first = stays(unsent, &[(&page, 5)]).remove(0);

    // The message is sent. The window ended with the move.
    sender.send(&[0; 64], vec![first]).unwrap();
    assert!(page.is_all(0));
    assert_eq!(
        node::outcome(page.window().set_access(Access::Read)),
        "gone"
    );

    let (region, page) = filled("second", 6);
    let unsent = sender.send(&[], vec![region]).unwrap_err();
    assert!(matches!(unsent.why, Refusal::WouldBlock));
    let second = stays(unsent, &[(&page, 6)]).remove(0);

    // The contents are unchanged and not poisoned, although a writer has lost its window.
    let message = receiver.receive().unwrap();
    assert_eq!((&*message.from, message.bytes.len()), ("raw", 64));
    let first = &message.regions[0];
    assert!(Page::map(first, 0, Access::Read).unwrap().is_all(5));

    // Either all regions of a message are moved, or none.
    let (third, other) = filled("third", 7);
    let restricted = second.restrict(Rights::READ).unwrap();
    let unsent = sender.send(&[], vec![third, second]).unwrap_err();
    assert!(matches!(&unsent.why, Refusal::Refused(text) if text.contains("`second`")));
    let regions = stays(unsent, &[(&other, 7), (&page, 6)]);
    drop(restricted);

    drop(receiver);
    let unsent = sender.send(&[], regions).unwrap_err();
    assert!(matches!(unsent.why, Refusal::Closed));
    let regions = stays(unsent, &[(&other, 7), (&page, 6)]);

    // The receiver is open again, and so is the channel.
    let receiver = Receiver::open("c").unwrap();
    sender.send(&[], regions).unwrap();
    assert!(page.is_all(0) && other.is_all(0));
    assert_eq!(receiver.receive().unwrap().regions.len(), 2);
    drop(sender);
    assert!(matches!(receiver.receive().unwrap_err(), Refusal::Closed));
}
