//! A part of a component: lends its region to another part, or uses what it is lent.
#![allow(unsafe_code, missing_docs)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/lends.wit"],
        world: "test:lends/part",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });
    export!(Part);
    pub(crate) struct Part;
}

use bindings::exports::test::lends::parts::Guest;
use bindings::test::lends::parts;
use tombolo_guest::{Error, GRANULE, Region, Rights};

/// Plays a script with all means of a part.
fn play(script: &str, it: &Region) -> Result<String, Box<dyn std::error::Error>> {
    let (verb, rest) = script.split_once(' ').unwrap_or((script, ""));
    match verb {
        "on" => return Ok(parts::play(rest, it)?),
        // The part lends what it has mapped through the lent handle.
        "nest" => {
            let mut window = it.try_write(..)?;
            window[0] += 10;
            let lent = window.lend_within()?;
            let answer = play(rest, &lent)?;
            drop(lent);
            return Ok(format!("{answer} {}", window[0]));
        }
        _ => {}
    }
    Ok(tombolo_test_guests::parts::play(script, it)?)
}

fn start(script: &str) -> Result<String, Box<dyn std::error::Error>> {
    let region = Region::create("composed", 2 * GRANULE)?;
    let mut window = region.try_write(..GRANULE)?;
    window.fill(1);
    let mut last = region.try_write(GRANULE..)?;
    last.fill(1);
    let (verb, script) = script.split_once(' ').unwrap_or((script, ""));
    match verb {
        // The way to lend to another guest. Between parts it sets nothing aside.
        "plain" => return Ok(parts::play(script, &region.lend((&mut window, &mut last)))?),
        "within" => {
            let lent = region.lend_within((&mut window, &mut last))?;
            let answer = parts::play(script, &lent)?;
            drop(lent);
            return Ok(format!("{answer}; {} {}", window[0], last[0]));
        }
        // One lend serves several calls, and the lender itself.
        "often" => {
            drop(last);
            let lent = window.lend_within()?;
            for _ in 0..3 {
                parts::play(script, &lent)?;
            }
            // Its own windows are set aside, so it does not wait for itself.
            lent.write(..)?[1] = 77;
            drop(lent);
            return Ok(format!("{} {}", window[0], window[1]));
        }
        "reading" => {
            drop((window, last));
            let mut windows = [region.try_read(..GRANULE)?, region.try_read(GRANULE..)?];
            let weak = region.restrict(Rights::READ)?;
            let lent = weak.lend_within(&mut windows[..])?;
            let answer = parts::play(script, &lent)?;
            drop(lent);
            return Ok(format!("{answer}; {}", windows[1][0]));
        }
        "in-use" => {
            let refused = window.lend_within().map(|_| ());
            assert_eq!(refused, Err(Error::WouldBlock), "there is another window");
            drop(last);
            let refused = region.lend_within(()).map(|_| ());
            assert_eq!(refused, Err(Error::WouldBlock));
            drop(window.lend_within()?);
            drop(window);
            drop(region.lend_within(())?);
        }
        // What is mapped later is not set aside.
        "later" => {
            drop(last);
            let lent = window.lend_within()?;
            let mut last = region.try_write(GRANULE..)?;
            let refused = parts::play("double", &lent).expect_err("half of it is in use");
            assert!(refused.contains("would block"), "{refused}");
            last[0] = 5;
            drop(lent);
            return Ok(format!("{} {}", window[0], last[0]));
        }
        "forgotten" => {
            drop(last);
            std::mem::forget(window.lend_within()?);
            window[0] = 9;
            return Ok(format!("{} {}", window[0], window[1]));
        }
        _ => return Err(format!("no such start: {verb}").into()),
    }
    Ok("done".into())
}

impl Guest for bindings::Part {
    fn start(script: String) -> Result<String, String> {
        start(&script).map_err(|error| error.to_string())
    }

    fn play(script: String, it: &Region) -> Result<String, String> {
        play(&script, it).map_err(|error| error.to_string())
    }
}

fn main() {}
