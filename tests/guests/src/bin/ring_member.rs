//! One of many guests in a ring. It sends a region to the next guest, receives one from the
//! previous guest, and checks both.
//!
//! The arguments are the channel to send into, the channel to receive from, and the number
//! of rounds.

use tombolo_guest::channels::{Receiver, Sender};
use tombolo_guest::{GRANULE, Region};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [name, to, from, rounds] = &arguments[..] else {
        panic!("{arguments:?}");
    };
    let (to, from) = (Sender::open(to).unwrap(), Receiver::open(from).unwrap());
    for round in 0..rounds.parse().unwrap() {
        let region = Region::create(name, GRANULE).unwrap();
        let mut window = region.try_write(..).unwrap();
        window.fill(round);
        drop(window);
        to.send(name.as_bytes(), vec![region]).unwrap();
        let mut message = from
            .receive()
            .unwrap()
            .expect("its neighbour sends as often");
        let region = message.regions.remove(0);
        assert_eq!(message.bytes, region.name().into_bytes());
        assert_eq!(message.from, region.name());
        let window = region.try_read(..).unwrap();
        assert!(window.iter().all(|byte| *byte == round));
    }
}
