//! Hands buffers to another process by iceoryx2, and prints how long that takes.
//!
//! ```text
//! tombolo-compare BYTES REPEATS
//! ```
//!
//! A round trip loans a sample, sends it, and receives the answer of the other process, which is
//! this program too. Both wait by polling, or by iceoryx2's events. The output has a line for each
//! row, with tabs: the table, the name, and nanoseconds.
//!
//! `alone` writes nothing to the sample and reads nothing of it. `whole` fills it, and the other
//! process sums it.

use std::error::Error;
use std::hint::{black_box, spin_loop};
use std::mem::MaybeUninit;
use std::process::{Command, ExitCode};
use std::time::Instant;

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

type Anything<T> = Result<T, Box<dyn Error>>;

/// The argument that makes this program the other process.
const PEER: &str = "--peer";

/// The use that the other process makes of a sample: its first byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Nothing = 0,
    Sum = 1,
    /// It ends.
    End = 2,
}

/// The bytes before the data: what to do with it, and padding.
const HEADER: usize = 8;

/// One of the two processes.
struct End {
    sends: Publisher<ipc::Service, [u8], ()>,
    receives: Subscriber<ipc::Service, [u8], ()>,
    /// If both wait by events.
    events: Option<(Notifier<ipc::Service>, Listener<ipc::Service>)>,
    /// Ends last.
    _node: Node<ipc::Service>,
}

impl End {
    /// Opens the services. `to` and `from` name the two directions.
    fn open(name: &str, (to, from): (&str, &str), bytes: usize, waits: bool) -> Anything<End> {
        let node = NodeBuilder::new().create::<ipc::Service>()?;
        let samples = |direction: &str| -> Anything<_> {
            let name = format!("{name}/{direction}");
            let service = node.service_builder(&name.as_str().try_into()?);
            let service = service.publish_subscribe::<[u8]>();
            let service = service.max_publishers(1).max_subscribers(1).history_size(0);
            Ok(service.subscriber_max_buffer_size(1).open_or_create()?)
        };
        let events = |direction: &str| -> Anything<_> {
            let name = format!("{name}/{direction}-events");
            let service = node.service_builder(&name.as_str().try_into()?);
            Ok(service.event().open_or_create()?)
        };
        Ok(End {
            sends: samples(to)?
                .publisher_builder()
                .initial_max_slice_len(bytes + HEADER)
                .max_loaned_samples(1)
                .create()?,
            receives: samples(from)?.subscriber_builder().create()?,
            events: match waits {
                true => Some((
                    events(to)?.notifier_builder().create()?,
                    events(from)?.listener_builder().create()?,
                )),
                false => None,
            },
            _node: node,
        })
    }

    /// Sends a sample, of which `fill` writes all but the header.
    fn send(&self, bytes: usize, what: Use, fill: impl FnOnce(&mut [u8])) -> Anything<()> {
        let mut sample = self.sends.loan_slice_uninit(bytes + HEADER)?;
        sample.payload_mut()[0] = MaybeUninit::new(what as u8);
        // SAFETY: the memory is the kernel's zeros, or what was written to it earlier.
        let mut sample = unsafe { sample.assume_init() };
        fill(&mut sample.payload_mut()[HEADER..]);
        sample.send()?;
        if let Some((notifier, _)) = &self.events {
            notifier.notify()?;
        }
        Ok(())
    }

    /// Waits for a sample, and uses it as it says.
    fn receive(&self) -> Anything<Use> {
        loop {
            if let Some(sample) = self.receives.receive()? {
                let bytes = sample.payload();
                return Ok(match bytes[0] {
                    1 => {
                        black_box(sum(&bytes[HEADER..]));
                        Use::Sum
                    }
                    2 => Use::End,
                    _ => Use::Nothing,
                });
            }
            match &self.events {
                Some((_, listener)) => {
                    listener.blocking_wait(|_| {})?;
                }
                None => spin_loop(),
            }
        }
    }
}

/// Writes every byte, eight at a time, as the kernel of the other rows does.
#[inline(never)]
fn fill(bytes: &mut [u8], seed: u64) {
    let mut value = seed;
    for word in bytes.chunks_exact_mut(8) {
        word.copy_from_slice(&value.to_le_bytes());
        value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    }
}

/// Reads every byte, eight at a time.
#[inline(never)]
fn sum(bytes: &[u8]) -> u64 {
    let mut sum = 0u64;
    for word in bytes.chunks_exact(8) {
        let word: [u8; 8] = word.try_into().expect("chunks have eight bytes");
        sum = sum.wrapping_add(u64::from_le_bytes(word));
    }
    sum
}

/// Answers until it is told to end.
fn answer(name: &str, waits: bool) -> Anything<()> {
    let end = End::open(name, ("back", "there"), HEADER, waits)?;
    // Both are there now.
    end.send(0, Use::Nothing, |_| {})?;
    loop {
        match end.receive()? {
            Use::End => return Ok(()),
            _ => end.send(0, Use::Nothing, |_| {})?,
        }
    }
}

/// Measures one way to wait, and prints its rows.
fn measure(bytes: usize, repeats: usize, waits: bool) -> Anything<()> {
    let way = if waits { "events" } else { "polled" };
    let name = format!("tombolo-compare/{}/{way}", std::process::id());
    let end = End::open(&name, ("there", "back"), bytes, waits)?;
    let mut peer = Command::new(std::env::current_exe()?)
        .args([PEER, &name, way])
        .spawn()?;
    end.receive()?;
    // Touches all pages.
    end.send(bytes, Use::Sum, |it| fill(it, 1))?;
    end.receive()?;
    let row = |table: &str, times: &[f64]| {
        let times: Vec<_> = times.iter().map(|it| format!("{it:.1}")).collect();
        let times = times.join("\t");
        println!("{table}\ttwo processes, iceoryx2, {way}\t{times}");
    };
    let many = 100;
    let (mut alone, mut whole) = (Vec::new(), Vec::new());
    for repeat in 0..repeats {
        let begun = Instant::now();
        for _ in 0..many {
            end.send(bytes, Use::Nothing, |_| {})?;
            end.receive()?;
        }
        alone.push(begun.elapsed().as_nanos() as f64 / f64::from(many));
        let begun = Instant::now();
        end.send(bytes, Use::Sum, |it| fill(it, repeat as u64))?;
        end.receive()?;
        whole.push(begun.elapsed().as_nanos() as f64);
    }
    row("alone", &alone);
    row("whole", &whole);
    end.send(0, Use::End, |_| {})?;
    peer.wait()?;
    Ok(())
}

fn run() -> Anything<()> {
    set_log_level(LogLevel::Error);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [PEER, name, way] => answer(name, way == "events"),
        [bytes, repeats] => {
            let (bytes, repeats) = (bytes.parse()?, repeats.parse()?);
            measure(bytes, repeats, false)?;
            measure(bytes, repeats, true)
        }
        _ => Err("pass BYTES and REPEATS".into()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
