//! A guest that waits for pressure twice. It fails if the levels differ from its arguments.

use tombolo_guest::Region;
use tombolo_guest::pressure::{self, Level, Watch};

fn main() {
    let expected: Vec<String> = std::env::args().skip(1).collect();
    let heard = |level: Level| format!("{level:?}");

    assert_eq!(pressure::level(), Level::Normal);
    let watch = Watch::new();
    assert!(!watch.changed(), "a new watch has been told that");
    assert_eq!(watch.level(), Level::Normal);
    assert!(!watch.changed());

    // Shows the test that the guest is about to wait.
    let _sign = Region::create("sign", 1).expect("it is small");
    let first = watch.wait();
    assert_eq!(heard(first), format!("Level::{}", expected[0]));
    assert_eq!(pressure::level(), first);
    assert!(!watch.changed(), "it has been told");

    // A later watch is changed at once.
    let late = Watch::default();
    assert!(late.changed());
    assert_eq!(late.wait(), first);

    // The same watch again.
    let _sign = Region::create("sign", 1).expect("it is small");
    let second = watch.wait();
    assert_eq!(heard(second), format!("Level::{}", expected[1]));
    assert!(late.changed(), "each watch has its own");
    assert_eq!(late.level(), second);
    println!("heard of {first:?} and {second:?}");
}
