//! The guest in the middle: it is called, re-lends, and is called while it calls.
#![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/calls.wit"],
        world: "test:calls/near-node",
        with: {
            "tombolo:memory/regions@0.1.0": tombolo_test_guests::raw::regions,
            "tombolo:memory/windows@0.1.0": tombolo_test_guests::raw::windows,
        },
        generate_all,
    });
    export!(Near);
    pub(crate) struct Near;
}

use bindings::Near;
use bindings::exports::test::calls::near::{Failure, Guest, Region};
use bindings::exports::test::calls::{deep, near_short, plain};
use bindings::test::calls::{far, home};
use tombolo_test_guests::node::{self, Page, word};
use tombolo_test_guests::raw::regions::{ErrorCode, Rights};
use tombolo_test_guests::raw::windows::Access;

/// Plays a script, even one that needs another guest.
fn say(script: &str) -> Result<String, String> {
    let (verb, rest) = script.split_once(' ').unwrap_or((script, ""));
    match verb {
        "home" => home::say(rest),
        "far" => far::say(rest),
        // Reads the shared region after the end of the first guest.
        "after-home" => {
            // Not earlier, because its own call could be refused as a cycle.
            if !node::has_kept() {
                return Ok("later".into());
            }
            let end = home::say("ping").expect_err("it does not serve");
            if end.contains("answers no calls") {
                return Ok("later".into());
            }
            assert!(
                end.contains("has ended") || end.contains("was ended"),
                "{end}"
            );
            let seen = node::with_kept(node::outcomes);
            if seen.starts_with(rest) {
                Ok(seen)
            } else {
                Err(seen)
            }
        }
        "move-kept" => far::move_(rest, node::take_kept()),
        _ => node::say(script),
    }
}

/// Returns the script in these numbers.
fn script<const N: usize>(numbers: [u64; N]) -> String {
    let bytes = numbers.into_iter().flat_map(u64::to_le_bytes);
    let bytes = bytes.take_while(|byte| *byte != 0).collect();
    String::from_utf8(bytes).expect("a text")
}

/// Returns a text as an error, except for the usual one.
fn short(result: Result<String, String>) -> Result<(), String> {
    match result {
        Ok(text) if text == "done" => Ok(()),
        Ok(text) => Err(format!("={text}")),
        Err(error) => Err(error),
    }
}

impl near_short::Guest for Near {
    fn say(a: u64, b: u64, c: u64, d: u64) -> Result<(), String> {
        short(say(&script([a, b, c, d])))
    }

    fn lend(it: &Region, a: u64, b: u64, c: u64) -> Result<(), String> {
        short(<Near as Guest>::lend(script([a, b, c]), it))
    }

    fn move_(it: Region, a: u64, b: u64, c: u64) -> Result<(), String> {
        short(<Near as Guest>::move_(script([a, b, c]), it))
    }

    fn make(a: u64, b: u64, c: u64) -> Result<Region, String> {
        <Near as Guest>::make(script([a, b, c]))
    }

    fn small(a: u8, b: i8, c: u16, d: i16) -> i16 {
        assert_eq!((a, b, c), (u8::MAX, i8::MIN, u16::MAX));
        d
    }

    fn large(a: u32, b: i32, c: u64, d: i64) -> u64 {
        assert_eq!((a, b, d), (u32::MAX, i32::MIN, i64::MIN));
        c
    }

    fn others(a: f32, b: f64, c: char, d: bool) -> char {
        assert_eq!((a, b, d), (f32::MIN_POSITIVE, f64::MAX, true));
        c
    }

    fn negated(a: bool) -> bool {
        !a
    }

    fn next(of: near_short::Color) -> near_short::Color {
        use near_short::Color;
        match of {
            Color::Red => Color::Green,
            Color::Green => Color::Blue,
            Color::Blue => Color::Red,
        }
    }

    fn doubled(a: f64) -> Result<f64, String> {
        match a.is_nan() {
            true => Err("no number".into()),
            false => Ok(2.0 * a),
        }
    }

    fn back(it: Region) -> Region {
        it
    }
}

impl Guest for Near {
    fn say(script: String) -> Result<String, String> {
        say(&script)
    }

    fn say_failing(script: String) -> Result<String, Failure> {
        say(&script).map_err(|_| Failure::Other)
    }

    fn say_roomless(script: String) -> String {
        say(&script).unwrap_or_else(|error| error)
    }

    fn lend(script: String, it: &Region) -> Result<String, String> {
        let (verb, rest) = script.split_once(' ').unwrap_or((&script, ""));
        match verb {
            "on" => far::lend(rest, it),
            // Lends on while it has a window to write, and returns the byte that it sees
            // then.
            "on-writing" => {
                let page = Page::map(it, 0, Access::Write).map_err(word)?;
                page.set(0, 77);
                far::lend(rest, it)?;
                let seen = page.get(0);
                page.set(1, 78);
                Ok(seen.to_string())
            }
            "on-reading" => {
                let _page = Page::map(it, 0, Access::Read).map_err(word)?;
                far::lend(rest, it)
            }
            "on-weaker" => {
                let weaker = it.restrict(Rights::READ).map_err(word)?;
                far::lend(rest, &weaker)
            }
            // A handle that `restrict` made of a lent handle cannot be moved either.
            "move-restricted" => {
                let mine = it.restrict(Rights::READ).map_err(word)?;
                far::move_(rest, mine)
            }
            // Writes, calls the first guest, and writes again.
            "gate" => {
                let page = Page::map(it, 0, Access::Write).map_err(word)?;
                page.set(0, 41);
                let answer = home::say(rest);
                page.set(1, 42);
                answer
            }
            "gate-reading" => {
                let page = Page::map(it, 0, Access::Read).map_err(word)?;
                home::say(rest)?;
                Ok(page.get(0).to_string())
            }
            _ => node::with(&script, it),
        }
    }

    fn lend_two(script: String, one: &Region, other: &Region) -> Result<String, String> {
        let (verb, _) = script.split_once(' ').unwrap_or((&script, ""));
        match verb {
            // Writes through one handle, and tries all operations with the other.
            "write-try" => {
                let page = Page::map(one, 0, Access::Write).map_err(word)?;
                page.set(0, 11);
                Ok([
                    node::outcome(Page::map(other, 0, Access::Read)),
                    node::outcome(Page::map(other, 0, Access::Write)),
                    node::outcome(other.read_at(0, 1)),
                    node::outcome(other.write_at(0, &[1])),
                    // Another granule is free.
                    node::outcome(Page::map(other, 1, Access::Write)),
                ]
                .join(" "))
            }
            "read-both" => {
                let a = Page::map(one, 0, Access::Read).map_err(word)?;
                let b = Page::map(other, 0, Access::Read).map_err(word)?;
                Ok(format!("{} {}", a.get(0), b.get(0)))
            }
            _ => Err(script),
        }
    }

    fn move_(script: String, it: Region) -> Result<String, String> {
        match &*script {
            "keep" => {
                node::keep_region(it);
                Ok("done".into())
            }
            // Freezes and duplicates the region, because this guest owns it.
            "own" => {
                let copy = it.duplicate(Rights::all()).map_err(word)?;
                drop(it.restrict(Rights::READ).map_err(word)?);
                it.freeze().map_err(word)?;
                drop(it);
                node::with("see", &copy)
            }
            _ => match script.strip_prefix("on ") {
                Some(rest) => far::move_(rest, it),
                None => node::with(&script, &it),
            },
        }
    }

    fn move_failing(script: String, it: Region) -> Result<String, Failure> {
        Self::move_(script, it).map_err(|_| Failure::Other)
    }

    fn move_roomless(script: String, it: Region) -> String {
        Self::move_(script, it).unwrap_or_else(|error| error)
    }

    fn make(script: String) -> Result<Region, String> {
        let (verb, rest) = script.split_once(' ').unwrap_or((&script, ""));
        let create = |size: u64| Region::create("made", size, true).map_err(word);
        match verb {
            "filled" => {
                let region = create(node::GRANULE)?;
                node::with(&format!("fill {rest}"), &region)?;
                Ok(region)
            }
            // Keeps its window, which the move ends.
            "window" => {
                let region = create(node::GRANULE)?;
                node::with(&format!("fill-keep {rest}"), &region)?;
                Ok(region)
            }
            // Keeps a restricted handle, which prevents the move.
            "restricted" => {
                let region = create(node::GRANULE)?;
                node::with("fill-keep 9", &region)?;
                node::keep_region(region.restrict(Rights::READ).map_err(word)?);
                Ok(region)
            }
            "kept" => Ok(node::take_kept()),
            "gate" => {
                home::say(rest)?;
                create(node::GRANULE)
            }
            "size" => create(rest.parse().expect("a number")),
            _ => Err(script),
        }
    }
}

impl plain::Guest for Near {
    fn integers(
        a: u8,
        b: i8,
        c: u16,
        d: i16,
        e: u32,
        f: i32,
        g: u64,
        h: i64,
    ) -> (u8, i8, u16, i16, u32, i32, u64, i64) {
        (a, b, c, d, e, f, g, h)
    }

    fn others(a: f32, b: f64, c: char, d: bool, e: String) -> (f32, f64, char, bool, String) {
        (a, b, c, d, e)
    }

    fn named(
        a: plain::Colours,
        b: plain::Size,
        c: Vec<plain::Shape>,
        d: plain::Point,
    ) -> (plain::Colours, plain::Size, Vec<plain::Shape>, plain::Point) {
        (a, b, c, d)
    }

    fn nested(
        a: Vec<Vec<u16>>,
        b: Option<Option<String>>,
        c: Vec<Result<plain::Point, plain::Shape>>,
        d: Vec<(u8, Vec<f32>)>,
    ) -> (
        Vec<Vec<u16>>,
        Option<Option<String>>,
        Vec<Result<plain::Point, plain::Shape>>,
        Vec<(u8, Vec<f32>)>,
    ) {
        (a, b, c, d)
    }

    fn none(
        a: Vec<u8>,
        b: Option<String>,
        c: Result<(), ()>,
    ) -> (Vec<u8>, Option<String>, Result<(), ()>) {
        (a, b, c)
    }

    fn bytes(mut a: Vec<u8>) -> Vec<u8> {
        a.reverse();
        a
    }

    fn nothing() {}
}

/// Adds one to the first byte, and returns its previous value.
fn bump(region: &Region) -> Result<u8, ErrorCode> {
    let page = Page::map(region, 0, Access::Write)?;
    let byte = page.get(0);
    page.set(0, byte + 1);
    Ok(byte)
}

impl deep::Guest for Near {
    fn look(
        a: deep::Lent<'_>,
        b: Result<&Region, String>,
        (number, either): (u8, deep::LentEither<'_>),
    ) -> Result<Vec<u8>, String> {
        assert_eq!(a.label, "label");
        let mut all: Vec<&Region> = a.part.into_iter().collect();
        all.extend(b.ok());
        match either {
            deep::LentEither::Whole(one) => all.push(one),
            deep::LentEither::Parts((one, other)) => all.extend([one, other]),
            deep::LentEither::None => {}
        }
        let mut seen = vec![number];
        for region in all {
            seen.push(bump(region).map_err(word)?);
        }
        Ok(seen)
    }

    fn swap(
        a: Vec<deep::Moved>,
        b: Option<Region>,
        c: deep::Either,
        d: Result<Region, Region>,
    ) -> Result<(Vec<Region>, Option<deep::Moved>, deep::Either), String> {
        let mut all = Vec::new();
        for moved in a {
            assert_eq!(moved.label, "label");
            all.push(moved.part);
            all.extend(moved.more);
        }
        all.extend(b);
        let (Ok(last) | Err(last)) = d;
        for region in &all {
            bump(region).map_err(word)?;
        }
        bump(&last).map_err(word)?;
        let moved = deep::Moved {
            label: "back".into(),
            part: last,
            more: Vec::new(),
        };
        all.reverse();
        Ok((all, Some(moved), c))
    }
}

fn main() {}
