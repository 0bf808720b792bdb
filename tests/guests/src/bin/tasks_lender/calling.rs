//! Several calls at a time, and callees that end.

use tombolo_guest::{Error, Region};

use super::bindings::test::tasks::{back, counters, relay, sink};
use super::bindings::wasi::cli::stdout;
use super::bindings::wasi::clocks::monotonic_clock::wait_for;
use super::bindings::wasi::random::random::get_random_bytes;
use super::bindings::wit_stream;
use super::{all, moment};

/// Twelve calls run at a time, as far as the callee's limit goes.
pub(crate) async fn meet() {
    let count: u32 = std::env::args()
        .nth(2)
        .and_then(|it| it.parse().ok())
        .expect("a number");
    let met = all((0..12).map(|_| sink::meet(count)).collect()).await;
    assert_eq!(met, vec![Ok(count); 12]);
}

/// Plain functions of a guest run one at a time.
pub(crate) async fn alone() {
    let waiting = all((0..4).map(|_| sink::meet(5)).collect());
    let alone = async {
        for _ in 0..3 {
            assert_eq!(sink::alone(), Ok(1));
        }
        sink::meet(5).await
    };
    let (met, last) = super::both(waiting, alone).await;
    assert_eq!(last, Ok(5));
    assert_eq!(met, vec![Ok(5); 4]);
}

/// All callers of a callee that dies learn of it.
pub(crate) async fn die() {
    let calls = all((0..3).map(|_| sink::sleep()).collect());
    let (all, dead) = super::both(calls, sink::die()).await;
    for told in all.into_iter().chain([dead]) {
        let told = told.expect_err("it died");
        assert!(told.starts_with("guest `borrower` was ended"), "{told}");
    }
}

/// All callers of a callee that is killed learn of it, and its lender gets its region back.
pub(crate) async fn killed() {
    let region = Region::create("lent", 65536).expect("it is made");
    let mut window = region.try_write(..).expect("it maps");
    let lent = window.lend();
    let calls = all((0..3).map(|_| sink::sleep()).collect());
    let (all, filled) = super::both(calls, sink::fill(&lent)).await;
    let told = filled.map(drop);
    for told in all.into_iter().chain([told]) {
        let told = told.expect_err("it was killed");
        assert!(told.contains("enough"), "{told}");
    }
    drop(window);
    let poisoned = region.read_at(0, 1).expect_err("its writer died");
    assert!(matches!(poisoned, Error::Poisoned), "{poisoned}");
}

/// A callee that computes for too long is ended.
pub(crate) async fn spin() {
    let told = sink::spin().await.expect_err("it is ended");
    assert!(told.contains("its time is up"), "{told}");
}

/// A callee that waits for too long is ended.
pub(crate) async fn sleep() {
    let told = sink::sleep().await.expect_err("it is ended");
    assert!(told.contains("its time is up"), "{told}");
}

/// The next incarnation answers.
pub(crate) async fn restart() {
    assert_eq!(sink::count().await, Ok(1));
    assert_eq!(sink::count().await, Ok(2));
    assert!(sink::die().await.is_err());
    assert_eq!(sink::count().await, Ok(1));
}

/// Resources of a guest pass by async functions, and are destroyed while calls are in progress.
pub(crate) async fn resources() {
    let waiting = sink::meet(2);
    let counted = async {
        let counter = counters::Counter::make().expect("it is made");
        let added = all(vec![counter.add(1), counter.add(1)]).await;
        assert!(
            added.contains(&Ok(1)) && added.contains(&Ok(2)),
            "{added:?}"
        );
        drop(counter);
        while counters::destroyed().await != Ok(1) {
            moment().await;
        }
        sink::meet(2).await
    };
    let (first, second) = super::both(waiting, counted).await;
    assert_eq!((first, second), (Ok(2), Ok(2)));
}

/// Guests with async functions and guests without call each other.
pub(crate) async fn mixed() {
    assert_eq!(relay::forth("there"), Ok("there".into()));
    assert_eq!(back::say("here".into()).await, Ok("here".into()));
    // It is awaited by a guest that it awaits, which takes several calls at a time.
    assert_eq!(back::say("wait there".into()).await, Ok("there".into()));
}

/// A plain call that leads back to its caller is refused, on whichever way.
pub(crate) async fn cycle() {
    let refused = back::say("plain back".into())
        .await
        .expect_err("it would never return");
    assert_eq!(
        refused,
        "the call would never return: `relay` waits for `backer` waits for `relay`"
    );
    assert_eq!(back::say("again".into()).await, Ok("again".into()));
}

/// A guest that takes one call at a time cannot be called back while it awaits.
pub(crate) async fn narrow_cycle() {
    let refused = back::say("wait back".into())
        .await
        .expect_err("it would never return");
    assert_eq!(
        refused,
        "the call would never return: `hopper` waits for `backer` waits for `hopper`"
    );
    assert_eq!(back::say("again".into()).await, Ok("again".into()));
}

/// A guest that awaits without end comes to a limit.
pub(crate) async fn flood() {
    let mut waits = Vec::new();
    loop {
        let mut wait = Box::pin(wait_for(u64::MAX / 2));
        assert_eq!(
            super::unless(wait.as_mut(), std::future::ready(())).await,
            None
        );
        waits.push(wait);
    }
}

/// Random bytes of WASI 0.3 are charged.
pub(crate) async fn random() {
    assert_eq!(get_random_bytes(16).len(), 16);
    assert_eq!(get_random_bytes(u64::MAX).len(), 1 << 20);
}

/// Standard output of WASI 0.3 is the guest's own.
pub(crate) async fn print() {
    let (mut writer, reader) = wit_stream::new::<u8>();
    let written = stdout::write_via_stream(reader);
    let rest = writer.write_all(b"by a stream\n".to_vec()).await;
    assert!(rest.is_empty());
    drop(writer);
    written.await.expect("it is written");
}
