//! Opens the directory `/files` over and over, reads one entry of each, and keeps all of
//! them. Its argument is the maximum number. Prints the number that it has, waits for the
//! end of standard input, and then reads the last directory to its end.

use std::io::Read as _;

fn main() {
    let most: usize = match std::env::args().nth(1) {
        Some(most) => most.parse().expect("a number of directories"),
        None => usize::MAX,
    };
    let mut open = Vec::new();
    let mut refused = None;
    while open.len() < most && refused.is_none() {
        match std::fs::read_dir("/files") {
            Ok(mut dir) => {
                let first = dir.next().expect("there are files");
                first.expect("it can be read");
                open.push(dir);
            }
            Err(error) => refused = Some(error),
        }
    }
    println!("holds {} directories: {refused:?}", open.len());
    let mut nothing = Vec::new();
    std::io::stdin()
        .read_to_end(&mut nothing)
        .expect("stdin can be read");
    let last = open.pop().expect("at least one was opened");
    let rest = last
        .inspect(|entry| assert!(entry.is_ok(), "it can be read: {entry:?}"))
        .count();
    println!("read {} entries", rest + 1);
}
