//! Lending and moving by async functions.

use std::cell::RefCell;
use std::rc::Rc;

use tombolo_guest::Region;

use super::bindings::test::tasks::{sink, slow};
use super::{all, meanwhile, moment};

/// Looks at memory that another task of this guest has under a window, as code that was given
/// the address does.
pub(crate) fn peek(at: usize) -> (u8, u8) {
    // SAFETY: The callers pass the address of a window of 64 KiB, whose memory stays theirs. The
    // reads are volatile, because what is there changes behind the compiler's back.
    let [first, second] = unsafe { (at as *const [u8; 2]).read_volatile() };
    (first, second)
}

/// Another task of the lender sees zeros where its windows are masked.
pub(crate) async fn lend() {
    let region = Region::create("lent", 65536).expect("it is made");
    let mut window = region.try_write(..).expect("it maps");
    window.fill(9);
    let at = window.as_ptr() as usize;
    let seen = Rc::new(RefCell::new(Vec::new()));
    let look = seen.clone();
    let stop = meanwhile(move || look.borrow_mut().push(peek(at)));
    while seen.borrow().is_empty() {
        moment().await;
    }
    assert_eq!(seen.take()[0], (9, 9));
    let lent = window.lend();
    let opener = async {
        sink::filling().await.expect("it fills");
        seen.borrow_mut().clear();
        while seen.borrow().len() < 3 {
            moment().await;
        }
        let looked = seen.take();
        sink::open().expect("it opens");
        looked
    };
    let (filled, looked) = super::both(sink::fill(&lent), opener).await;
    stop();
    assert_eq!(filled, Ok(10));
    assert!(looked.iter().all(|it| *it == (0, 0)), "{looked:?}");
    assert_eq!((window[0], window[1], window[2]), (10, 77, 9));
}

/// A window stays masked until the last of several lends is over.
pub(crate) async fn lend_twice() {
    let region = Region::create("twice", 65536).expect("it is made");
    let mut window = region.try_write(..).expect("it maps");
    window.fill(9);
    let at = window.as_ptr() as usize;
    let lent = window.lend();
    let others = async {
        sink::filling().await.expect("it fills");
        assert_eq!(sink::size(&lent).await, Ok(65536));
        assert_eq!(peek(at), (0, 0), "the first lend goes on");
        sink::open().expect("it opens");
    };
    let (filled, ()) = super::both(sink::fill(&lent), others).await;
    assert_eq!(filled, Ok(10));
    assert_eq!(peek(at), (10, 77));
    let looked = all(vec![sink::look(&lent), sink::look(&lent)]).await;
    assert_eq!(looked, vec![Ok(10); 2]);
    assert_eq!((window[0], window[1]), (10, 77));
}

/// No other task of the lender runs while it makes a plain call.
pub(crate) async fn plain() {
    let region = Region::create("lent", 65536).expect("it is made");
    let mut window = region.try_write(..).expect("it maps");
    window.fill(9);
    let rounds = Rc::new(RefCell::new(0));
    let count = rounds.clone();
    let stop = meanwhile(move || *count.borrow_mut() += 1);
    while *rounds.borrow() < 2 {
        moment().await;
    }
    let before = *rounds.borrow();
    assert_eq!(slow::hold(&window.lend(), 50), Ok(10));
    assert_eq!(*rounds.borrow(), before, "another task ran");
    while *rounds.borrow() == before {
        moment().await;
    }
    stop();
    assert_eq!(window[0], 10);
}

/// A region moves there and back.
pub(crate) async fn moves() {
    let region = Region::create("moved", 65536).expect("it is made");
    region.write_at(0, &[5]).expect("it is written");
    assert_eq!(sink::keep(region).await, Ok(65536));
    let region = sink::give().await.expect("it comes back");
    assert_eq!(region.read_at(0, 1), Ok(vec![5]));
    assert!(sink::give().await.is_err());
}
