//! A guest that waits for pressure, twice, and fails if it hears of another one
//! than its arguments say.

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

    // By this the test knows that it comes to wait now.
    let _sign = Region::create("sign", 1).expect("it is small");
    let first = watch.wait();
    assert_eq!(heard(first), format!("Level::{}", expected[0]));
    assert_eq!(pressure::level(), first);
    assert!(!watch.changed(), "it has been told");

    // Who comes later knows of it at once.
    let late = Watch::default();
    assert!(late.changed());
    assert_eq!(late.wait(), first);

    // And again, by the same watch.
    let _sign = Region::create("sign", 1).expect("it is small");
    let second = watch.wait();
    assert_eq!(heard(second), format!("Level::{}", expected[1]));
    assert!(late.changed(), "each watch has its own");
    assert_eq!(late.level(), second);
    println!("heard of {first:?} and {second:?}");
}
