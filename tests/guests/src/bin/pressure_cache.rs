//! A guest that has an unpinned region when memory is short. It learns of the pressure, and
//! finds the bytes lost. The region has the guest's name.
//!
//! With the argument `any` it then ends, whatever the level. Otherwise it expects critical
//! pressure, and the end of it.

use tombolo_guest::pressure::{Level, Watch};
use tombolo_guest::{Pinned, Region};

const SIZE: u64 = 4 * 65536;

/// Shows its progress to the test.
fn sign() -> Region {
    Region::create("sign", 1).expect("it is small")
}

fn main() {
    let mut arguments = std::env::args();
    let name = arguments.next().expect("a guest has its name");
    let any = arguments.next().is_some_and(|argument| argument == "any");

    let watch = Watch::new();
    let region = Region::create(&name, SIZE).expect("there is room");
    let mut window = region.try_write(..).expect("it is ours");
    window.fill(7);
    let unpinned = window.unpin().expect("no other window is there");
    let _sign = sign();
    let level = watch.wait();
    assert!(any || level == Level::Critical, "{level:?}");
    match unpinned.pin().expect("there is room") {
        // Under moderate pressure, half of the bytes are purged.
        Pinned::Lost(window) => assert_eq!(window[0], 0),
        Pinned::Intact(_) => panic!("nothing was purged"),
    }
    let _sign = sign();
    if !any {
        assert_eq!(watch.wait(), Level::Normal);
    }
}
