//! A guest whose operation is affected by a limit of the process, or by a signal. Its first
//! argument names the operation.

use std::fs;
use std::io::{self, BufRead as _, Write as _};

use tombolo_guest::{GRANULE, Region};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let argument = |number: usize| arguments.get(number).map(String::as_str);
    match argument(1).expect("what to do") {
        // Creates a region that exceeds the maximum size of a file, and writes such a file.
        "large" => {
            let refused = Region::create("large", 64 * GRANULE).err();
            println!("large region: {refused:?}");
            let small = Region::create("small", GRANULE).expect("it is small enough");
            small
                .write_at(0, b"it")
                .expect("it is inside of the region");
            println!("small region: {:?}", small.read_at(0, 2));
            let written = fs::write("/d/large", vec![1; 4 << 20]);
            println!("large file: {:?}", written.map_err(|error| error.kind()));
        }
        // Writes to a region when it receives a line on standard input.
        "late" => {
            let region = Region::create("late", 2 * GRANULE).expect("it is small");
            println!("ready");
            let told = io::stdin().lock().lines().next();
            assert!(matches!(told, Some(Ok(_))), "{told:?}");
            let bytes = vec![7; 100_000];
            region.write_at(9, &bytes).expect("the region is there");
            let same = region.read_at(9, 100_000).expect("it can be read") == bytes;
            println!("written and read: {same}");
        }
        // Writes a file, and reads it.
        "file" => {
            println!("to stdout");
            eprintln!("to stderr");
            fs::write("/d/file", "contents").expect("the directory can be written");
            println!("to stdout");
            eprintln!("to stderr");
            let read = fs::read_to_string("/d/file").expect("it was just written");
            println!("file: {read}");
        }
        "spin" => {
            println!("ready");
            io::stdout().flush().expect("somebody reads");
            loop {
                std::hint::spin_loop();
            }
        }
        "exit" => {
            let code = argument(2).and_then(|code| code.parse().ok());
            std::process::exit(code.expect("a code"));
        }
        "trap" => panic!("on purpose"),
        // Keeps a region until it ends.
        "keep" => {
            let name = argument(2).expect("a name");
            std::mem::forget(Region::create(name, GRANULE).expect("it is small"));
        }
        other => panic!("`{other}` is nothing to do"),
    }
}
