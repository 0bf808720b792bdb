//! A guest with hostile texts. Its first argument names the act:
//!
//! - `names TEXT` creates a region with that name, and opens windows on it;
//! - `ids` prints the identities of regions that it creates, a line each.

use tombolo_guest::{GRANULE, Region};

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("names") => names(&arguments.next().expect("a text")),
        Some("ids") => ids(),
        other => panic!("not to be done: {other:?}"),
    }
}

fn names(text: &str) {
    let region = Region::create(text, GRANULE).expect("a name may be nearly anything");
    region.try_write(..).expect("nobody else has it").fill(1);
    region.freeze().expect("it is pinned and whole");
    let window = region.try_read(..).expect("it is frozen");
    assert!(window.iter().all(|byte| *byte == 1));
    println!("hostile: its region is named");
}

fn ids() {
    let regions: Vec<Region> = (0..64)
        .map(|_| Region::create("counted", GRANULE).expect("there is room"))
        .collect();
    for region in &regions {
        println!("id {}", region.id());
    }
}
