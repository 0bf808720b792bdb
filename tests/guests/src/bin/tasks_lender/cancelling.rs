//! Calls that their caller cancels while the callee goes on.

use std::future::ready;
use std::pin::pin;

use tombolo_guest::{Error, Region};

use super::bindings::test::tasks::sink;
use super::lending::peek;
use super::unless;

/// Lends by `fill`, and cancels when `stop` is done. Returns the region.
async fn cancelled(stop: impl Future) -> Region {
    let region = Region::create("cancelled", 65536).expect("it is made");
    let mut window = region.try_write(..).expect("it maps");
    window.fill(9);
    {
        let lent = window.lend();
        let called = unless(pin!(sink::fill(&lent)), stop).await;
        assert_eq!(called, None);
    }
    // The window is gone, and its memory is zero.
    let at = window.as_ptr() as usize;
    let gone = window.into_read().expect_err("it is gone");
    assert!(matches!(gone.error(), Error::Gone), "{gone:?}");
    assert_eq!(peek(at), (0, 0));
    drop(gone);
    region
}

/// The lender cancels before the borrower has mapped anything.
pub(crate) async fn before() {
    let region = cancelled(ready(())).await;
    sink::open().expect("it opens");
    assert_eq!(sink::filled().await, Ok(10));
    assert_eq!(region.read_at(0, 2), Ok(vec![10, 77]));
}

/// The lender cancels while the borrower has a window. The region is not poisoned.
pub(crate) async fn mapped() {
    let region = cancelled(sink::filling()).await;
    assert!(region.read_at(0, 1).is_err(), "the borrower writes");
    sink::open().expect("it opens");
    assert_eq!(sink::filled().await, Ok(10));
    assert_eq!(region.read_at(0, 2), Ok(vec![10, 77]));
}

/// The lender cancels, and then the borrower dies with its window.
pub(crate) async fn dead() {
    let region = cancelled(sink::filling()).await;
    assert!(sink::die().await.is_err());
    let poisoned = region.read_at(0, 1).expect_err("its writer died");
    assert!(poisoned.to_string().contains("poison"), "{poisoned}");
}
