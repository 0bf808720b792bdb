//! Opens a window to write on each of many regions, and dies with them. Its argument is
//! their number.

use tombolo_guest::{GRANULE, Region};

fn main() {
    let count: usize = std::env::args()
        .nth(1)
        .and_then(|count| count.parse().ok())
        .expect("a number of regions");
    let regions: Vec<Region> = (0..count)
        .map(|_| Region::create("written", GRANULE).expect("the limits allow it"))
        .collect();
    let windows: Vec<_> = regions
        .iter()
        .map(|region| region.try_write(..).expect("nobody else has it"))
        .collect();
    println!("holds {} write windows", windows.len());
    std::process::abort();
}
