//! Measures costs from inside a guest: calls other guests, and reads the clock. Writes the
//! results to a file, with a line for each row of a table:
//!
//! ```text
//! <group> <row> <bytes> <nanoseconds> <nanoseconds> ...
//! ```
//!
//! The separators are tabs. The arguments are the group, whether to be quick, and the
//! number of the round.

mod bindings {
    #![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)] // Generated.
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/costs.wit"],
        world: "test:costs/user",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
    });
}

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use bindings::test::costs::near::{How, Words};
use bindings::test::costs::{far, near};
use tombolo_guest::channels::{Receiver, Sender};
use tombolo_guest::{Region, Rights};
use tombolo_test_guests::kernels;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GRANULE: usize = 64 * KIB;

/// The size of a list in bytes: the limit, minus some space for other arguments.
const PART: usize = 64 * MIB;

/// The time of each repeat of a row, in nanoseconds.
struct Row {
    name: &'static str,
    bytes: usize,
    times: Vec<f64>,
}

/// The rows of a table, in the order of their first use.
struct Rows {
    group: &'static str,
    rows: Vec<Row>,
}

impl Rows {
    fn new(group: &'static str) -> Self {
        Self {
            group,
            rows: Vec::new(),
        }
    }

    /// Calls `act` this many times, and records the mean time.
    fn time(&mut self, name: &'static str, bytes: usize, times: u32, mut act: impl FnMut()) {
        let begun = Instant::now();
        for _ in 0..times {
            act();
        }
        let took = begun.elapsed().as_nanos() as f64 / f64::from(times);
        let known = self
            .rows
            .iter_mut()
            .find(|row| row.name == name && row.bytes == bytes);
        match known {
            Some(row) => row.times.push(took),
            None => self.rows.push(Row {
                name,
                bytes,
                times: vec![took],
            }),
        }
    }

    fn write(&self, text: &mut String) {
        for row in &self.rows {
            write!(text, "{}\t{}\t{}", self.group, row.name, row.bytes).unwrap();
            for time in &row.times {
                write!(text, "\t{time:.1}").unwrap();
            }
            text.push('\n');
        }
    }
}

/// Returns the number of repeats for a size, and the number of calls in each.
fn effort(bytes: usize, quick: bool) -> (u32, u32) {
    match bytes {
        _ if quick => (2, 1),
        _ if bytes <= 64 * KIB => (60, 50),
        _ if bytes <= MIB => (40, 10),
        _ if bytes <= 10 * MIB => (15, 3),
        _ if bytes <= 100 * MIB => (4, 1),
        _ => (1, 1),
    }
}

/// Returns the sizes of the buffers that are handed over.
fn sizes(quick: bool) -> impl Iterator<Item = usize> {
    let sizes = [4 * KIB, 64 * KIB, MIB, 10 * MIB, 100 * MIB, 1024 * MIB];
    let most = if quick { 10 * MIB } else { 1024 * MIB };
    sizes.into_iter().filter(move |bytes| *bytes <= most)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut text = String::new();
    match arguments[..] {
        ["echo"] => return echo(),
        ["handover", quick, _] => handover(quick == "quick", &mut text),
        ["access", quick, _] => access(quick == "quick", &mut text),
        ["across", quick, _] => across(quick == "quick", &mut text),
        ["calls", quick, _] => calls(quick == "quick", &mut text),
        ["life", quick, _] => life(quick == "quick", &mut text),
        ["loop", kind, _] => repeat(kind, &mut text),
        [group, quick, _] => beside(group, quick == "quick", &mut text),
        _ => panic!("no such group: {arguments:?}"),
    }
    std::fs::write(format!("/out/{}", arguments[2]), text).unwrap();
}

/// Makes calls of one kind. `what` has the kind, how many calls a repeat makes, the number of
/// repeats, and the bytes of the region, with colons in between.
fn repeat(what: &str, text: &mut String) {
    let mut parts = what.split(':');
    let kind: &'static str = parts.next().unwrap().to_owned().leak();
    let mut number = || parts.next().map_or(1, |it| it.parse().unwrap());
    let (times, repeats, bytes): (u32, u32, u32) = (number(), number(), number());
    let bytes = (bytes as usize).max(4096);
    let mut rows = Rows::new("loop");
    let mut region = Region::create("buffer", bytes as u64).unwrap();
    let mut held = Vec::new();
    for _ in 0..repeats {
        match kind {
            "copy-window" | "copy-own" => held.push(copy_in(kind, bytes, times, &mut rows)),
            "nothing" => rows.time(kind, bytes, times, near::nothing),
            "lend" => rows.time(kind, bytes, times, || near::lend(&region)),
            "kept" => {
                let mut window = region.try_write(..).unwrap();
                rows.time(kind, bytes, times, || near::lend(&window.lend()));
            }
            "look" => rows.time(kind, bytes, times, || {
                black_box(near::look(&region, How::Not));
            }),
            "pass" => {
                let mut held = Some(region);
                rows.time(kind, bytes, times, || {
                    held = held.take().map(|region| near::pass(region, How::Not));
                });
                region = held.unwrap();
            }
            "far-nothing" => rows.time(kind, bytes, times, far::nothing),
            "far-lend" => rows.time(kind, bytes, times, || far::lend(&region)),
            "list" => {
                let list = vec![1; bytes];
                rows.time(kind, bytes, times, || {
                    black_box(near::keep_bytes(&list));
                });
            }
            _ => panic!("no such kind: {kind}"),
        }
    }
    rows.write(text);
}

/// Copies into a new region or into new memory of its own, and returns both, so that the next copy
/// has other pages.
fn copy_in(kind: &'static str, bytes: usize, times: u32, rows: &mut Rows) -> (Region, Vec<u8>) {
    let region = Region::create("buffer", bytes as u64).unwrap();
    let mut window = region.try_write(..).unwrap();
    let mut all = vec![1; 2 * (bytes + GRANULE)];
    let (own, other) = all.split_at_mut(bytes + GRANULE);
    let (own, other) = (aligned(own, bytes), aligned(other, bytes));
    let target = match kind {
        "copy-window" => &mut window[..],
        _ => own,
    };
    target.copy_from_slice(other); // Fills the caches.
    rows.time(kind, bytes, times, || {
        target.copy_from_slice(black_box(other))
    });
    drop(window);
    (region, all)
}

/// Sends every message back.
fn echo() {
    let (there, back) = (
        Receiver::open("there").unwrap(),
        Sender::open("back").unwrap(),
    );
    while let Some(message) = there.receive().unwrap() {
        back.send(&message.bytes, message.regions).unwrap();
    }
}

/// The endpoints of the two channels to and from the echo.
struct Echo(Sender, Receiver);

impl Echo {
    fn open() -> Self {
        Self(
            Sender::open("there").unwrap(),
            Receiver::open("back").unwrap(),
        )
    }

    fn pass(&self, region: Region) -> Region {
        self.0.send(&[], vec![region]).unwrap();
        let mut message = self.1.receive().unwrap().expect("it comes back");
        message.regions.remove(0)
    }
}

/// Sends the bytes as lists of the maximum size.
fn in_parts(bytes: &[u8], size: usize, mut send: impl FnMut(&[u8])) {
    let mut left = size;
    while left > 0 {
        let part = left.min(bytes.len());
        send(&bytes[..part]);
        left -= part;
    }
}

fn handover(quick: bool, text: &mut String) {
    let echo = Echo::open();
    let mut alone = Rows::new("alone");
    let mut whole = Rows::new("whole");
    for bytes in sizes(quick) {
        let (repeats, times) = effort(bytes, quick);
        // Very short operations are repeated, so that the state of the caches matters
        // little.
        let many = if quick { 20 } else { 200 };
        let file = "/out/shared";
        {
            let region = Region::create("buffer", bytes as u64).unwrap();
            let mut window = region.try_write(..).unwrap();
            kernels::fill(&mut window, 1);
            let mut list = vec![0; bytes.min(PART)];
            kernels::fill(&mut list, 1);
            for _ in 0..repeats {
                alone.time("`list<u8>` in a call", bytes, times, || {
                    in_parts(&list, bytes, |part| {
                        assert_eq!(near::keep_bytes(part), part.len() as u64);
                    });
                });
                if bytes <= 100 * MIB {
                    alone.time("a file on tmpfs", bytes, 1, || {
                        std::fs::write(file, &window[..bytes]).unwrap();
                        assert_eq!(near::read(file, false), bytes as u64);
                    });
                }
                alone.time("lend, windows kept", bytes, many, || {
                    near::lend(&window.lend());
                });
                // Unmaps the pages of the list once, before the measurement.
                near::look(&window.lend(), How::Map);
                alone.time("lend and remap", bytes, times, || {
                    near::look(&window.lend(), How::Map);
                });
                alone.time("lend and remap, every page touched", bytes, times, || {
                    black_box(near::look(&window.lend(), How::Touch));
                });
                whole.time("`list<u8>` in a call", bytes, 1, || {
                    in_parts(&vec![0; list.len()], bytes, |_| {
                        kernels::fill(&mut list, 2);
                        black_box(near::sum_bytes(&list));
                    });
                });
                if bytes <= 100 * MIB {
                    whole.time("a file on tmpfs", bytes, 1, || {
                        let mut buffer = vec![0; bytes];
                        kernels::fill(&mut buffer, 2);
                        std::fs::write(file, &buffer).unwrap();
                        black_box(near::read(file, true));
                    });
                }
                if bytes <= PART {
                    whole.time("own memory, not handed over", bytes, 1, || {
                        kernels::fill(&mut list, 2);
                        black_box(kernels::sum(&list));
                    });
                }
                whole.time(
                    "lend; writer keeps its window, reader remaps",
                    bytes,
                    1,
                    || {
                        kernels::fill(&mut window, 2);
                        black_box(near::look(&window.lend(), How::Sum));
                    },
                );
            }
        }
        {
            let region = Region::create("buffer", bytes as u64).unwrap();
            let window = region.try_live_write(..).unwrap();
            let words = window.cells_of::<u64>();
            near::watch(Some(
                region.duplicate(Rights::READ | Rights::SHARE).unwrap(),
            ));
            for _ in 0..repeats {
                alone.time("live windows, an empty call", bytes, many, || {
                    near::nothing();
                });
                whole.time("live windows", bytes, 1, || {
                    let mut value = 2u64;
                    for at in 0..words.len() {
                        words.set(at, value);
                        value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    }
                    black_box(near::sum_watched());
                });
            }
            near::watch(None);
        }
        let mut held = Some(Region::create("buffer", bytes as u64).unwrap());
        for _ in 0..repeats {
            // There and back are two hand-overs.
            alone.time("move there and back", bytes, times, || {
                held = held.take().map(|region| near::pass(region, How::Not));
            });
            alone.time(
                "channel across strands, there and back",
                bytes,
                times,
                || {
                    held = held.take().map(|region| echo.pass(region));
                },
            );
            whole.time("move there and back", bytes, 1, || {
                let region = held.take().unwrap();
                kernels::fill(&mut region.try_write(..).unwrap(), 2);
                held = Some(near::pass(region, How::Sum));
            });
        }
    }
    let _ = std::fs::remove_file("/out/shared");
    alone.write(text);
    whole.write(text);
}

fn access(quick: bool, text: &mut String) {
    let mut rows = Rows::new("access");
    // The physical pages of a buffer affect the caches, so several buffers are measured.
    let (small, large) = if quick { (1, 1) } else { (16, 3) };
    let small = std::iter::repeat_n(MIB, small);
    let large = std::iter::repeat_n(64 * MIB, large);
    let mut held = Vec::new();
    for bytes in small.chain(large) {
        held.push(access_to(bytes, quick, &mut rows));
    }
    rows.write(text);
}

fn aligned(all: &mut [u8], bytes: usize) -> &mut [u8] {
    let at = all.as_ptr().align_offset(GRANULE);
    &mut all[at..][..bytes]
}

/// Measures access to a buffer that fits into the caches, or does not. Returns the memory,
/// so that the next buffer uses other memory.
fn access_to(bytes: usize, quick: bool, rows: &mut Rows) -> (Region, Vec<u8>) {
    let region = Region::create("buffer", bytes as u64).unwrap();
    let mut window = region.try_write(..).unwrap();
    // Aligned like windows, which affects the speed of copies.
    let mut all = vec![1; 2 * (bytes + GRANULE)];
    let (own, other) = all.split_at_mut(bytes + GRANULE);
    let (own, other) = (aligned(own, bytes), aligned(other, bytes));
    let scattered = 10_000;
    let (repeats, times) = match bytes {
        _ if quick => (2, 1),
        ..=MIB => (5, 10),
        _ => (6, 1),
    };
    kernels::vectors::fill(&mut window, 7);
    kernels::fill(own, 7);
    assert!(window[..] == own[..], "both do the same");
    assert_eq!(kernels::vectors::sum(&window), kernels::sum(own));
    let mut time = |row, act: &mut dyn FnMut()| {
        if bytes <= MIB {
            act(); // Fills the caches.
        }
        rows.time(row, bytes, times, act);
    };
    for _ in 0..repeats {
        time("fill: window", &mut || kernels::fill(&mut window, 1));
        time("fill: own memory", &mut || kernels::fill(own, 1));
        time("fill, simd128: window", &mut || {
            kernels::vectors::fill(&mut window, 1);
        });
        time("fill, simd128: own memory", &mut || {
            kernels::vectors::fill(own, 1);
        });
        time("sum: window", &mut || {
            black_box(kernels::sum(&window));
        });
        time("sum: own memory", &mut || {
            black_box(kernels::sum(own));
        });
        time("sum, simd128: window", &mut || {
            black_box(kernels::vectors::sum(&window));
        });
        time("sum, simd128: own memory", &mut || {
            black_box(kernels::vectors::sum(own));
        });
        time("copy in: window", &mut || {
            window.copy_from_slice(other);
        });
        time("copy in: own memory", &mut || own.copy_from_slice(other));
        time("copy out: window", &mut || other.copy_from_slice(&window));
        time("copy out: own memory", &mut || other.copy_from_slice(own));
        time("10,000 scattered reads: window", &mut || {
            black_box(kernels::scatter(&window, scattered));
        });
        time("10,000 scattered reads: own memory", &mut || {
            black_box(kernels::scatter(own, scattered));
        });
    }
    drop(window);
    (region, all)
}

fn calls(quick: bool, text: &mut String) {
    let echo = Echo::open();
    let mut rows = Rows::new("calls");
    let region = Region::create("buffer", 65536).unwrap();
    let mut held = Some(Region::create("passed", 65536).unwrap());
    let (repeats, times) = if quick { (2, 1) } else { (60, 100) };
    let words = Words {
        first: "first".into(),
        second: "the second of the two".into(),
        number: 3,
    };
    for _ in 0..repeats {
        rows.time("a call to the host", 0, times, || {
            black_box(region.rights());
        });
        rows.time("within a strand: empty call", 0, times, near::nothing);
        rows.time("within a strand: one lent handle", 0, times, || {
            near::lend(&region)
        });
        rows.time(
            "within a strand: one moved handle, and back",
            0,
            times,
            || {
                held = held.take().map(|region| near::pass(region, How::Not));
            },
        );
        rows.time(
            "within a strand: a record with strings, and back",
            0,
            times,
            || {
                black_box(near::say(&words));
            },
        );
        rows.time("by message: empty call", 0, times, far::nothing);
        rows.time("by message: one lent handle", 0, times, || {
            far::lend(&region)
        });
        rows.time("channel across strands, there and back", 0, times, || {
            held = held.take().map(|region| echo.pass(region));
        });
    }
    rows.write(text);
}

/// Measures calls to another strand, as a guest that is alone on its own.
fn across(quick: bool, text: &mut String) {
    let (mut rows, mut alone) = (Rows::new("calls"), Rows::new("alone"));
    let region = Region::create("buffer", 65536).unwrap();
    let (repeats, times) = if quick { (2, 1) } else { (60, 100) };
    for _ in 0..repeats {
        rows.time("across strands: empty call", 0, times, far::nothing);
        rows.time("across strands: one lent handle", 0, times, || {
            far::lend(&region)
        });
    }
    for bytes in sizes(quick) {
        let (repeats, _) = effort(bytes, quick);
        let region = Region::create("buffer", bytes as u64).unwrap();
        let mut window = region.try_write(..).unwrap();
        kernels::fill(&mut window, 1);
        for _ in 0..repeats {
            let times = if quick { 20 } else { 200 };
            alone.time("lend across strands, windows kept", bytes, times, || {
                far::lend(&window.lend());
            });
        }
    }
    rows.write(text);
    alone.write(text);
}

fn life(quick: bool, text: &mut String) {
    let mut rows = Rows::new("life");
    let (repeats, times) = if quick { (2, 1) } else { (40, 20) };
    for _ in 0..repeats {
        rows.time("create and drop", 0, times, || {
            drop(Region::create("region", 65536).unwrap());
        });
        let region = Region::create("region", 65536).unwrap();
        rows.time("map and unmap, to read", 0, times, || {
            drop(region.try_read(..).unwrap());
        });
        rows.time("map and unmap, to write", 0, times, || {
            drop(region.try_write(..).unwrap());
        });
        rows.time("duplicate and drop", 0, times, || {
            drop(region.duplicate(Rights::all()).unwrap());
        });
        rows.time("unpin and pin", 0, times, || {
            region.unpin(..).unwrap();
            let _ = region.pin(..).unwrap();
        });
        rows.time("create, freeze and drop", 0, times, || {
            let region = Region::create("frozen", 65536).unwrap();
            region.freeze().unwrap();
        });
    }
    rows.write(text);
}

/// Measures a hand-over beside other guests (`few`), or beside this number of regions or
/// windows of its own (`regions 100`, `windows 100`).
fn beside(group: &str, quick: bool, text: &mut String) {
    let mut rows = Rows::new("scale");
    let (repeats, times) = if quick { (2, 1) } else { (30, 50) };
    let (what, count) = group.split_once(' ').unwrap_or((group, "0"));
    let count: usize = count.parse().expect("a number");
    let create = |_| Region::create("beside", 65536).unwrap();
    let regions: Vec<Region> = match what {
        "regions" => (0..count).map(create).collect(),
        // A thousand windows each, which read the same granule.
        "windows" => (0..count.div_ceil(1000)).map(create).collect(),
        _ => Vec::new(),
    };
    let windows: Vec<_> = match what {
        "windows" => (0..count)
            .map(|index| regions[index / 1000].try_read(..).unwrap())
            .collect(),
        _ => Vec::new(),
    };
    let region = Region::create("buffer", 65536).unwrap();
    for _ in 0..repeats {
        rows.time("lend", 0, times, || near::lend(&region));
        rows.time("lend across strands", 0, times, || far::lend(&region));
        rows.time("map and unmap", 0, times, || {
            drop(region.try_write(..).unwrap());
        });
        rows.time("query rights", 0, times, || {
            black_box(region.rights());
        });
    }
    drop(windows);
    rows.write(text);
}
