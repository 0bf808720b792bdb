//! Lends a list of regions.

mod bindings {
    #![allow(unsafe_code, missing_docs)] // Generated.
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/calls.wit"],
        world: "test:calls/gatherer",
        generate_all,
    });
}
use bindings::test::calls::lists;
use bindings::tombolo::memory::regions::Region;

fn main() {
    let create = |name| Region::create(name, 65536, true).expect("there is room");
    let (one, other) = (create("one"), create("other"));
    one.write_at(0, &[1]).expect("it is free");
    other.write_at(0, &[2]).expect("it is free");
    assert_eq!(lists::gather(&[&one, &other, &one]).as_deref(), Ok("1 2 1"));
    assert_eq!(lists::gather(&[]).as_deref(), Ok(""));
}
