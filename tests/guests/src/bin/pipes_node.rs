//! A guest of a pipeline. Its arguments name the part that it plays. It panics if an
//! expectation fails.

use std::env;
use std::fs;
use std::time::{Duration, Instant};

use tombolo_guest::channels::{ChannelError, Receiver, Sender};
use tombolo_guest::scopes::{self, ScopeError};
use tombolo_guest::{Error, GRANULE, Pollable, Region, Rights, lifecycle};
use tombolo_test_guests::scenarios::PipesPart;

/// The size of a frame in bytes.
const FRAME: u64 = 4 * GRANULE;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (part, rest) = arguments.split_first().expect("the name of a part");
    match part.parse().expect("the part exists") {
        PipesPart::Produce => {
            let [frames] = take(rest);
            produce(frames.parse().unwrap());
        }
        PipesPart::Add => {
            let [from, to] = take(rest);
            add(from, to, None);
        }
        PipesPart::AddBut => {
            let [bad, from, to] = take(rest);
            add(from, to, Some(bad.parse().unwrap()));
        }
        PipesPart::Consume => {
            let [from, added] = take(rest);
            consume(from, added.parse().unwrap());
        }
        PipesPart::Say => {
            let [channel, times] = take(rest);
            say(channel, times.parse().unwrap());
        }
        PipesPart::Hear => {
            let [channel] = take(rest);
            hear(channel);
        }
        PipesPart::HearBut => {
            let [bad, channel] = take(rest);
            hear_but(bad.parse().unwrap(), channel);
        }
        PipesPart::SendUntilClosed => {
            let [channel] = take(rest);
            send_until_closed(channel);
        }
        PipesPart::ReceiveOne => {
            let [channel, how] = take(rest);
            receive_one(channel, how);
        }
        PipesPart::FillUp => {
            let [channel, room] = take(rest);
            fill_up(channel, room.parse().unwrap());
        }
        PipesPart::HoldThenReceive => {
            let [channel] = take(rest);
            hold_then_receive(channel);
        }
        PipesPart::Ungranted => ungranted(),
        PipesPart::Publish => {
            let [how] = take(rest);
            publish(how);
        }
        PipesPart::Open => {
            let [rights] = take(rest);
            open(rights);
        }
        PipesPart::Linger => {
            let [how] = take(rest);
            linger(how);
        }
        PipesPart::FailUntil => {
            let [file, times] = take(rest);
            fail_until(file, times.parse().unwrap());
        }
        PipesPart::Fail => panic!("on purpose"),
        PipesPart::Spin => loop {
            std::hint::spin_loop();
        },
    }
}

/// Returns the arguments of a part, of which there are as many as it needs.
fn take<'a, const N: usize>(arguments: &[&'a str]) -> [&'a str; N] {
    arguments.try_into().expect("the arguments of the part")
}

/// Sends frames in regions that come back. Each frame repeats one byte. Lost regions are
/// replaced by new ones.
fn produce(frames: u32) {
    let out = Sender::open("frames").unwrap();
    let back = Receiver::open("back").unwrap();
    let mut pool: Vec<Region> = (0..3)
        .map(|_| Region::create("frame", FRAME).unwrap())
        .collect();
    for frame in 0..frames {
        let region = match pool.pop() {
            Some(region) => region,
            None => {
                let mut message = back.receive().unwrap().expect("they come back");
                // One for each frame that was lost.
                for _ in 0..message.bytes[0] {
                    pool.push(Region::create("frame", FRAME).unwrap());
                }
                message.regions.remove(0)
            }
        };
        region.try_write(..).unwrap().fill(frame as u8);
        out.send(&frame.to_le_bytes(), vec![region]).unwrap();
    }
    drop(out);
    // Until no other guest can send.
    while back.receive().unwrap().is_some() {}
}

fn add(from: &str, to: &str, bad: Option<u32>) {
    let (from, to) = (Receiver::open(from).unwrap(), Sender::open(to).unwrap());
    while let Some(mut message) = from.receive().unwrap() {
        let region = message.regions.remove(0);
        let mut window = region.try_write(..).unwrap();
        window
            .iter_mut()
            .for_each(|byte| *byte = byte.wrapping_add(1));
        if bad == Some(number(&message.bytes)) {
            panic!("a bad frame");
        }
        drop(window);
        to.send(&message.bytes, vec![region]).unwrap();
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().unwrap())
}

/// Prints the frames that arrived. Sends each region back, with the number of frames that
/// were lost before it.
fn consume(from: &str, added: u8) {
    let (from, back) = (Receiver::open(from).unwrap(), Sender::open("back").unwrap());
    let mut next = 0;
    let mut came = Vec::new();
    while let Some(mut message) = from.receive().unwrap() {
        let frame = number(&message.bytes);
        let lost = u8::try_from(frame - next).unwrap();
        next = frame + 1;
        came.push(frame);
        let region = message.regions.remove(0);
        let window = region.try_read(..).unwrap();
        let byte = (frame as u8).wrapping_add(added);
        assert!(window.iter().all(|it| *it == byte), "frame {frame}");
        drop(window);
        back.send(&[lost], vec![region]).unwrap();
    }
    fs::write("/out/came", format!("{came:?}")).unwrap();
}

fn say(channel: &str, times: u32) {
    let channel = Sender::open(channel).unwrap();
    for time in 0..times {
        channel.send(&time.to_le_bytes(), vec![]).unwrap();
    }
}

/// Receives all messages to the end, checks their order, and prints their senders.
fn hear(channel: &str) {
    let channel = Receiver::open(channel).unwrap();
    let mut heard = std::collections::BTreeMap::<String, u32>::new();
    while let Some(message) = channel.receive().unwrap() {
        let next = heard.entry(message.from).or_default();
        assert_eq!(number(&message.bytes), *next);
        *next += 1;
    }
    assert_eq!(channel.try_receive().unwrap_err(), ChannelError::Closed);
    fs::write("/out/heard", format!("{heard:?}")).unwrap();
}

/// Records the messages, and fails in an orderly way at one of them. As when `main` returns
/// an error, destructors run first.
fn hear_but(bad: u32, channel: &str) {
    let channel = Receiver::open(channel).unwrap();
    while let Some(message) = channel.receive().unwrap() {
        let number = number(&message.bytes);
        if number == bad {
            drop(channel);
            std::process::exit(1);
        }
        let before = fs::read_to_string("/out/heard").unwrap_or_default();
        fs::write("/out/heard", format!("{before}{number}\n")).unwrap();
    }
}

fn send_until_closed(channel: &str) {
    let channel = Sender::open(channel).unwrap();
    for time in 0u8.. {
        let region = Region::create("sent", GRANULE).unwrap();
        let id = region.id();
        if let Err(unsent) = channel.send(&[time], vec![region]) {
            assert_eq!(unsent.why, ChannelError::Closed);
            assert_eq!(unsent.regions[0].id(), id);
            // A closed channel stays closed.
            assert!(channel.writable().is_ready());
            return;
        }
    }
}

fn receive_one(channel: &str, how: &str) {
    let channel = Receiver::open(channel).unwrap();
    assert_eq!(Receiver::open("c").unwrap_err(), ChannelError::WouldBlock);
    let message = channel.receive().unwrap().unwrap();
    // Waits for some more messages.
    std::thread::sleep(Duration::from_millis(30));
    match how {
        "drop" => drop(channel),
        "return" => {}
        "trap" => {
            let _window = message.regions[0].try_write(..).unwrap();
            panic!("on purpose");
        }
        _ => panic!("{how}"),
    }
}

/// Sends until the channel, which has a capacity of `room`, is full. Queued regions stay on
/// the sender's account.
fn fill_up(channel: &str, room: usize) {
    let channel = Sender::open(channel).unwrap();
    let create = || Region::create("queued", GRANULE);
    for _ in 0..room {
        channel.try_send(b"", vec![create().unwrap()]).unwrap();
    }
    assert!(!channel.writable().is_ready());
    let mut unsent = channel.try_send(b"", vec![create().unwrap()]).unwrap_err();
    assert_eq!(unsent.why, ChannelError::WouldBlock);
    // The limit counts all regions that this guest created.
    let Err(Error::Exhausted(text)) = create() else {
        panic!("what is queued counts");
    };
    assert!(text.contains("regions"), "{text}");
    let region = unsent.regions.remove(0);
    let long = vec![0; 65];
    let unsent = channel.try_send(&long, vec![region]).unwrap_err();
    let ChannelError::TooLarge(text) = &unsent.why else {
        panic!("{unsent}");
    };
    assert!(text.contains("64") && text.contains("a region"), "{text}");
    // The other side allows this guest to continue.
    let go = Receiver::open("go").unwrap();
    go.receive().unwrap();
    drop(unsent);
    let region = create().expect("what is received counts for the receiver");
    drop(region);
}

fn hold_then_receive(channel: &str) {
    let channel = Receiver::open(channel).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let first = channel.receive().unwrap().unwrap();
    assert_eq!(first.regions.len(), 1);
    Sender::open("go").unwrap().try_send(b"", vec![]).unwrap();
    while channel.receive().unwrap().is_some() {}
}

/// A guest without grants finds nothing.
fn ungranted() {
    let region = Region::create("r", 1).unwrap();
    for name in ["c", "nothing"] {
        assert_eq!(Sender::open(name).unwrap_err(), ChannelError::NotPermitted);
        assert_eq!(
            Receiver::open(name).unwrap_err(),
            ChannelError::NotPermitted
        );
    }
    for (scope, name) in [("s", "table"), ("s", "nothing"), ("nothing", "table")] {
        assert_eq!(
            scopes::try_open(scope, name).unwrap_err(),
            ScopeError::NotPermitted
        );
        assert_eq!(
            scopes::published(scope, name).unwrap_err(),
            ScopeError::NotPermitted
        );
        let published = scopes::publish(scope, name, &region, Rights::READ);
        assert_eq!(published.unwrap_err(), ScopeError::NotPermitted);
    }
}

fn publish(how: &str) {
    // Other guests wait for the name by now.
    std::thread::sleep(Duration::from_millis(30));
    let table = Region::create("table", GRANULE).unwrap();
    table.try_write(..).unwrap().fill(7);
    let rights = Rights::READ | Rights::WRITE;
    let published = scopes::publish("s", "table", &table, rights).unwrap();
    let again = scopes::publish("s", "table", &table, rights);
    assert_eq!(again.unwrap_err(), ScopeError::Taken);
    let done = Receiver::open("done").unwrap();
    done.receive().unwrap();
    match how {
        "withdraw" => {
            drop(published);
            assert_eq!(
                scopes::try_open("s", "table").unwrap_err(),
                ScopeError::Absent
            );
        }
        "die" => panic!("on purpose"),
        _ => panic!("{how}"),
    }
}

fn open(rights: &str) {
    let table = scopes::open("s", "table").unwrap();
    assert_eq!(format!("{:?}", table.rights()), rights);
    assert_eq!(table.try_read(..).unwrap()[0], 7);
    Sender::open("done").unwrap().try_send(b"", vec![]).unwrap();
    // Until the name is withdrawn, or ends with its publisher.
    let until = Instant::now() + Duration::from_secs(20);
    while scopes::try_open("s", "table").is_ok() {
        assert!(Instant::now() < until, "it stays");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!scopes::published("s", "table").unwrap().is_ready());
    assert_eq!(table.try_read(..).unwrap()[0], 7, "what was opened stays");
}

/// Waits for the stop of the app, or ignores it.
fn linger(how: &str) {
    let stop = lifecycle::stop_event();
    assert!(!lifecycle::stopping() && !stop.is_ready());
    fs::write("/out/lingers", "").unwrap();
    assert_eq!(Pollable::first(&[&stop]), [0]);
    assert!(lifecycle::stopping() && stop.is_ready());
    match how {
        "end" => fs::write("/out/heard", "in time").unwrap(),
        "stay" => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        _ => panic!("{how}"),
    }
}

/// Fails this many times. Counts the failures in a file.
fn fail_until(file: &str, times: usize) {
    let file = format!("/out/{file}");
    let before = fs::read(&file).unwrap_or_default();
    fs::write(&file, [&before[..], b"."].concat()).unwrap();
    match before.len() {
        // In both ways in which a command can fail.
        before if before < times && before % 2 == 0 => panic!("on purpose"),
        before if before < times => std::process::exit(1),
        _ => {}
    }
}
