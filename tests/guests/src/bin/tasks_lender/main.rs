//! A command with async functions, which plays a scenario. It panics if an expectation fails.
#![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/tasks.wit"],
        world: "test:tasks/lender",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });
    export!(Lender);
    pub(crate) struct Lender;
}

mod calling;
mod cancelling;
mod lending;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use bindings::wasi::clocks::monotonic_clock::wait_for;
use tombolo_test_guests::scenarios::Tasks;

/// Lets other tasks run for about a millisecond.
async fn moment() {
    wait_for(1_000_000).await;
}

/// Awaits all futures of a list together.
async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    poll_fn(|context| {
        let mut pending = false;
        for (future, output) in &mut futures {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(done) => *output = Some(done),
                    Poll::Pending => pending = true,
                }
            }
        }
        match pending {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    })
    .await;
    let outputs = futures.into_iter().map(|(_, output)| output);
    outputs
        .map(|output| output.expect("all are done"))
        .collect()
}

/// Awaits two futures together.
async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    poll_fn(|context| {
        if of_a.is_none()
            && let Poll::Ready(output) = a.as_mut().poll(context)
        {
            of_a = Some(output);
        }
        if of_b.is_none()
            && let Poll::Ready(output) = b.as_mut().poll(context)
        {
            of_b = Some(output);
        }
        match (&of_a, &of_b) {
            (Some(_), Some(_)) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
    (of_a.expect("it is done"), of_b.expect("it is done"))
}

/// Polls a future until it is done or `stop` is. Returns its output, if it is done.
async fn unless<T>(future: Pin<&mut impl Future<Output = T>>, stop: impl Future) -> Option<T> {
    let (mut future, mut stop) = (future, pin!(stop));
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        stop.as_mut().poll(context).map(|_| None)
    })
    .await
}

/// Runs a task beside this one until the result is called, about every millisecond.
fn meanwhile(mut act: impl FnMut() + 'static) -> impl FnOnce() {
    let stop = Rc::new(Cell::new(false));
    let stopped = stop.clone();
    wit_bindgen::spawn_local(async move {
        while !stopped.get() {
            act();
            moment().await;
        }
    });
    move || stop.set(true)
}

impl bindings::exports::wasi::cli::run::Guest for bindings::Lender {
    async fn run() -> Result<(), ()> {
        let scenario = std::env::args().nth(1).expect("it is given a scenario");
        match scenario.parse().expect("it knows the scenario") {
            Tasks::Lend => lending::lend().await,
            Tasks::LendTwice => lending::lend_twice().await,
            Tasks::Plain => lending::plain().await,
            Tasks::Move => lending::moves().await,
            Tasks::CancelBefore => cancelling::before().await,
            Tasks::CancelMapped => cancelling::mapped().await,
            Tasks::CancelDead => cancelling::dead().await,
            Tasks::Meet => calling::meet().await,
            Tasks::Alone => calling::alone().await,
            Tasks::Die => calling::die().await,
            Tasks::Killed => calling::killed().await,
            Tasks::Spin => calling::spin().await,
            Tasks::Sleep => calling::sleep().await,
            Tasks::Restart => calling::restart().await,
            Tasks::Resources => calling::resources().await,
            Tasks::Mixed => calling::mixed().await,
            Tasks::Cycle => calling::cycle().await,
            Tasks::NarrowCycle => calling::narrow_cycle().await,
            Tasks::Flood => calling::flood().await,
            Tasks::Random => calling::random().await,
            Tasks::Print => calling::print().await,
        }
        Ok(())
    }
}

fn main() {}
