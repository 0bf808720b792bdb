//! A command of an app, whose tasks wait for messages, names and the end. Its argument names the
//! part that it plays. It panics if an expectation fails.
#![allow(unsafe_code, missing_docs)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/awaits.wit"],
        world: "test:awaits/command",
        generate_all,
    });
    export!(Command);
    pub(crate) struct Command;
}

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use bindings::exports::wasi::cli::run::Guest;
use tombolo_guest::channels::{ChannelError, Receiver, Sender};
use tombolo_guest::{Region, Rights, lifecycle, scopes};
use tombolo_test_guests::scenarios::AwaitsPart;

/// The number of messages.
const COUNT: u8 = 100;

impl Guest for bindings::Command {
    async fn run() -> Result<(), ()> {
        let part = std::env::args().nth(1).expect("the name of a part");
        match part.parse().expect("the part exists") {
            AwaitsPart::Send => send().await,
            AwaitsPart::Receive => receive().await,
            AwaitsPart::Publish => publish().await,
            AwaitsPart::Open => open().await,
            AwaitsPart::Stop => stop().await,
        }
        Ok(())
    }
}

/// Polls a future until it is ready, or until other tasks have run for `polls` times. It is
/// dropped then.
async fn within<A>(polls: u8, future: impl Future<Output = A>) -> Option<A> {
    let limit = async {
        for _ in 0..polls {
            wit_bindgen::yield_async().await;
        }
    };
    let (mut future, mut limit) = (pin!(future), pin!(limit));
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        limit.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// Sends numbered messages with a region each. Drops many of its waits.
async fn send() {
    let sender = Sender::open("numbers").unwrap();
    for number in 0..COUNT {
        let region = Region::create("number", 1).unwrap();
        region.write_at(0, &[number]).unwrap();
        let mut regions = vec![region];
        if number % 2 == 0 {
            sender.send_async(&[number], regions).await.unwrap();
            continue;
        }
        loop {
            let _ = within(number % 3, sender.writable_async()).await;
            match sender.try_send(&[number], regions) {
                Ok(()) => break,
                Err(unsent) => {
                    assert_eq!(unsent.why, ChannelError::WouldBlock);
                    regions = unsent.regions;
                }
            }
        }
    }
}

/// Receives them, each once and in order. Drops many of its waits.
async fn receive() {
    let receiver = Receiver::open("numbers").unwrap();
    let mut next = 0;
    for round in 0.. {
        let Some(received) = within(round, receiver.receive_async()).await else {
            continue;
        };
        let Some(message) = received.unwrap() else {
            break;
        };
        assert_eq!(message.bytes, [next]);
        assert_eq!(message.regions[0].read_at(0, 1).unwrap(), [next]);
        next += 1;
    }
    assert_eq!(next, COUNT);
}

/// Publishes a region once another guest waits for its name, and until that guest has it.
async fn publish() {
    let signs = Receiver::open("signs").unwrap();
    signs.receive_async().await.unwrap().expect("it waits");
    let region = Region::create("table", 1).unwrap();
    region.write_at(0, &[7]).unwrap();
    let _published = scopes::publish("s", "table", &region, Rights::READ).unwrap();
    assert!(signs.receive_async().await.unwrap().is_none());
}

async fn open() {
    let signs = Sender::open("signs").unwrap();
    let early = within(2, scopes::open_async("s", "table")).await;
    assert!(early.is_none(), "it is not published before the sign");
    let mut opened = pin!(scopes::open_async("s", "table"));
    assert!(within(0, opened.as_mut()).await.is_none());
    signs.send_async(&[], Vec::new()).await.unwrap();
    let region = opened.await.unwrap();
    assert_eq!(region.read_at(0, 1).unwrap(), [7]);
    let refused = scopes::open_async("other", "table").await;
    assert_eq!(refused.unwrap_err(), scopes::ScopeError::NotPermitted);
}

/// Waits for the end of the app. Tells by a region that it waits.
async fn stop() {
    assert!(within(2, lifecycle::stop_requested()).await.is_none());
    let _waits = Region::create("waits", 1).unwrap();
    lifecycle::stop_requested().await;
    assert!(lifecycle::stopping());
}

fn main() {}
