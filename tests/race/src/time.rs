//! Time that passes when nothing else would happen, or before.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use shuttle::rand::{Rng, thread_rng};
use tombolo_region::Time;

/// The time of a [`MockHost`](crate::MockHost).
#[derive(Clone, Debug, Default)]
pub struct DrivenTime(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    now: Duration,
    numbers: u64,
    sleepers: Vec<(u64, Duration, Waker)>,
    over: bool,
    driver: Option<Waker>,
}

impl State {
    fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

impl Time for DrivenTime {
    fn now(&self) -> Duration {
        self.state().now
    }

    async fn up_to(&self, moment: Duration, what: impl Future<Output = ()> + Send) {
        struct Sleeper<'a>(&'a DrivenTime, u64);
        impl Drop for Sleeper<'_> {
            fn drop(&mut self) {
                self.0.state().sleepers.retain(|(id, ..)| *id != self.1);
            }
        }
        let number = {
            let mut state = self.state();
            state.numbers += 1;
            state.numbers
        };
        let sleeper = Sleeper(self, number);
        let mut what = pin!(what);
        poll_fn(|context| {
            if what.as_mut().poll(context).is_ready() || self.now() >= moment {
                return Poll::Ready(());
            }
            let mut state = self.state();
            state.sleepers.retain(|(id, ..)| *id != number);
            let waker = context.waker().clone();
            state.sleepers.push((number, moment, waker));
            state.wake_driver();
            Poll::Pending
        })
        .await;
        drop(sleeper);
    }
}

impl DrivenTime {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with it")
    }

    /// Lets time pass while somebody sleeps, until it is over.
    pub async fn drive(&self) {
        loop {
            let over = poll_fn(|context| {
                let mut state = self.state();
                if state.over {
                    return Poll::Ready(true);
                }
                if !state.sleepers.is_empty() {
                    return Poll::Ready(false);
                }
                state.driver = Some(context.waker().clone());
                Poll::Pending
            });
            if over.await {
                return;
            }
            shuttle::future::yield_now().await;
            self.pass();
        }
    }

    /// Lets it be as late as somebody sleeps for, or half of that.
    fn pass(&self) {
        let half = thread_rng().gen_range(0..2) == 0;
        let mut state = self.state();
        let next = state.sleepers.iter().map(|(_, moment, _)| *moment).min();
        let Some(next) = next.filter(|next| *next > state.now) else {
            return;
        };
        let step = next - state.now;
        state.now += if half && step.as_millis() > 1 {
            step / 2
        } else {
            step
        };
        let now = state.now;
        let due = state
            .sleepers
            .iter()
            .filter(|(_, moment, _)| *moment <= now);
        let due: Vec<Waker> = due.map(|(.., waker)| waker.clone()).collect();
        drop(state);
        due.into_iter().for_each(Waker::wake);
    }

    /// Nobody needs it any more.
    pub fn end(&self) {
        let mut state = self.state();
        state.over = true;
        state.wake_driver();
    }
}
