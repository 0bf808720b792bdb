//! A guest that blocks as its arguments say: on output that nobody reads, on a FIFO, or on
//! standard input. Some of its parts are innocent, and must finish beside the others.

use std::fs;
use std::io::{Read as _, Write as _, stderr, stdin, stdout};
use std::time::Duration;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["flood"] => flood(false),
        ["flood", "both"] => flood(true),
        // Slightly more than a pipe and a buffer hold.
        ["much"] => {
            for line in 0..20_000 {
                println!("line {line}");
            }
        }
        ["lines", word, count] => lines(word, count.parse().expect("a number")),
        ["open", path] => drop(fs::read(path)),
        ["work", dir] => work(dir),
        ["work-after", path, dir] => {
            while !fs::exists(path).expect("the directory can be read") {
                std::thread::sleep(Duration::from_millis(5));
            }
            work(dir);
        }
        ["stdin"] => {
            let read = stdin().read(&mut [0; 16]);
            println!("read {read:?}");
        }
        ["ask"] => {
            print!("name? ");
            stdout().flush().expect("it is open");
            let mut name = String::new();
            stdin().read_line(&mut name).expect("somebody answers");
            println!("hello, {}", name.trim());
        }
        ["forge"] => println!("one\rtwo\x1b[1A\u{202e}three\n    b | four"),
        ["die"] => {
            eprint!("last words");
            std::process::abort();
        }
        ref other => panic!("what is {other:?}?"),
    }
}

fn flood(both: bool) {
    for line in 0u64.. {
        println!("line {line}");
        if both {
            eprintln!("line {line}");
        }
    }
}

/// Prints lines in pieces, and yields to other guests in between.
fn lines(word: &str, count: usize) {
    for line in 0..count {
        for piece in [word, " ", &line.to_string(), " ", word, "\n"] {
            eprint!("{piece}");
            stderr().flush().expect("it is open");
            std::thread::yield_now();
        }
    }
}

/// Writes, reads back and removes files, over and over.
fn work(dir: &str) {
    for round in 0..50 {
        let path = format!("{dir}/file-{round}");
        fs::write(&path, vec![round; 10_000]).expect("the directory can be written to");
        let bytes = fs::read(&path).expect("it was written");
        assert!(bytes.len() == 10_000 && bytes.iter().all(|byte| *byte == round));
        fs::remove_file(&path).expect("it was written");
    }
    fs::write(format!("{dir}/done"), "").expect("the directory can be written to");
    println!("innocent: all rounds came out right");
}
