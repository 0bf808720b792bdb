//! Waiting for windows.

use std::time::Duration;

use tombolo_region_tests::region::{RESERVATION, WaitStatus, WaiterId};

use super::*;

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn wait(ledger: &mut Ledger<()>, handle: &Handle, access: Access, now: u64) -> WaiterId {
    let waiter = ledger.enqueue(handle, granule(0), access, at(now)).unwrap();
    ledger.advance(at(now));
    waiter
}

fn close(ledger: &mut Ledger<()>, window: WindowId, now: u64) -> bool {
    ledger.close(window, WindowEnd::Orderly).unwrap();
    ledger.advance(at(now))
}

fn ready(ledger: &mut Ledger<()>, waiter: WaiterId, now: u64) -> bool {
    ledger.poll_waiter(waiter, at(now)) == WaitStatus::Ready
}

fn three() -> (Ledger<()>, [Handle; 3]) {
    let (mut ledger, a) = region();
    let [b, c] = [(); 2].map(|()| ledger.duplicate(&a, Rights::ALL, Vec::new()).unwrap());
    (ledger, [a, b, c])
}

// rule 11
#[test]
fn readers_do_not_starve_a_writer() {
    let (mut ledger, [a, b, c]) = three();
    let one = open(&mut ledger, &a, granule(0), Read).unwrap();
    let writer = wait(&mut ledger, &c, Write, 0);
    assert!(!ready(&mut ledger, writer, 1));
    // Neither another reader nor the one with a window comes in between.
    for reader in [&a, &b] {
        let refused = open(&mut ledger, reader, granule(0), Read);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
    }
    open(&mut ledger, &b, granule(1), Read).unwrap();
    assert!(close(&mut ledger, one, 2));
    assert!(ready(&mut ledger, writer, 2));
    let refused = open(&mut ledger, &a, granule(0), Read);
    assert_eq!(refused, Err(LedgerError::WouldBlock));
    open(&mut ledger, &c, granule(0), Write).unwrap();
    assert!(ready(&mut ledger, writer, 3), "it has what it waited for");
}

// rule 11
#[test]
fn writers_do_not_starve_a_reader() {
    let (mut ledger, [a, b, c]) = three();
    let held = open(&mut ledger, &a, granule(0), Write).unwrap();
    let reader = wait(&mut ledger, &b, Read, 0);
    let writer = wait(&mut ledger, &c, Write, 0);
    close(&mut ledger, held, 1);
    assert!(ready(&mut ledger, reader, 1));
    assert!(!ready(&mut ledger, writer, 1));
    // A waiter does not pass one that has waited longer.
    let refused = open(&mut ledger, &c, granule(0), Write);
    assert_eq!(refused, Err(LedgerError::WouldBlock));
    let read = open(&mut ledger, &b, granule(0), Read).unwrap();
    close(&mut ledger, read, 2);
    assert!(ready(&mut ledger, writer, 2));
}

// rule 11
#[test]
fn expired_waiter_is_the_last() {
    let (mut ledger, [a, b, c]) = three();
    let first = wait(&mut ledger, &a, Write, 0);
    assert!(ready(&mut ledger, first, 0));
    let second = wait(&mut ledger, &b, Write, 50);
    let expiry = WaitStatus::Pending(Some(RESERVATION));
    assert_eq!(ledger.poll_waiter(second, at(50)), expiry);
    let end = u64::try_from(RESERVATION.as_millis()).unwrap();
    assert!(ledger.advance(at(end)), "it is told");
    assert!(!ready(&mut ledger, first, end));
    assert!(ready(&mut ledger, second, end));
    // An expired waiter that does not ask again blocks nobody.
    assert!(ledger.advance(at(2 * end)));
    assert!(ready(&mut ledger, first, 2 * end));
    assert!(ledger.advance(at(3 * end)));
    open(&mut ledger, &c, granule(0), Write).unwrap();
}

// rule 11
#[test]
fn unobserved_reservations_expire_in_turn() {
    let (mut ledger, [a, b, c]) = three();
    for handle in [&a, &b] {
        wait(&mut ledger, handle, Write, 0);
    }
    let end = u64::try_from(RESERVATION.as_millis()).unwrap();
    ledger.advance(at(2 * end - 1));
    let refused = open(&mut ledger, &c, granule(0), Read);
    assert_eq!(refused, Err(LedgerError::WouldBlock));
    ledger.advance(at(2 * end));
    open(&mut ledger, &c, granule(0), Read).unwrap();
}

// rule 11
#[test]
fn access_is_reduced_but_not_added_past_waiters() {
    let (mut ledger, [a, b, _]) = three();
    let window = open(&mut ledger, &a, granule(0), Write).unwrap();
    let waiter = wait(&mut ledger, &b, Read, 0);
    ledger.set_access(window, Read).unwrap();
    assert!(ledger.advance(at(1)));
    assert!(ready(&mut ledger, waiter, 1));
    let refused = ledger.set_access(window, Write);
    assert_eq!(refused, Err(LedgerError::WouldBlock));
}

// rule 11
#[test]
fn host_guards_wait_behind_waiters() {
    let (mut ledger, [a, b, _]) = three();
    let window = open(&mut ledger, &a, granule(0), Read).unwrap();
    wait(&mut ledger, &b, Write, 0);
    let refused = guard(&mut ledger, &a, granule(0), Read);
    assert_eq!(refused, Err(LedgerError::WouldBlock));
    close(&mut ledger, window, 1);
    let refused = guard(&mut ledger, &a, granule(0), Read);
    assert_eq!(refused, Err(LedgerError::WouldBlock));
    guard(&mut ledger, &b, granule(0), Write).unwrap();
}

// rule 11
#[test]
fn dead_claim_and_ended_lend_leave_the_queue() {
    let (mut ledger, [a, b, c]) = three();
    let held = open(&mut ledger, &a, granule(0), Read).unwrap();
    wait(&mut ledger, &b, Write, 0);
    ledger.release(b);
    assert!(ledger.advance(at(1)), "others are told");
    let read = open(&mut ledger, &c, granule(0), Read).unwrap();
    close(&mut ledger, read, 1);
    let lent = ledger.lend(&c, READ_WRITE).unwrap();
    let waiter = wait(&mut ledger, &lent, Write, 2);
    ledger.revoke(lent.lend().unwrap());
    assert!(ledger.advance(at(3)));
    assert!(ready(&mut ledger, waiter, 3));
    open(&mut ledger, &c, granule(0), Read).unwrap();
    close(&mut ledger, held, 4);
}

// rule 11
#[test]
fn one_claim_waits_for_one_window() {
    let (mut ledger, [a, b, c]) = three();
    let held = open(&mut ledger, &a, granule(0), Write).unwrap();
    let first = wait(&mut ledger, &b, Write, 0);
    let other = wait(&mut ledger, &c, Write, 0);
    let second = wait(&mut ledger, &b, Read, 0);
    assert!(ready(&mut ledger, first, 0), "it has left its place");
    close(&mut ledger, held, 1);
    assert!(ready(&mut ledger, other, 1));
    assert!(!ready(&mut ledger, second, 1));
    ledger.dequeue(other);
    assert!(ledger.advance(at(2)));
    assert!(ready(&mut ledger, second, 2));
}

// rule 11
#[test]
fn hopeless_waits_are_refused_or_woken() {
    let (mut ledger, [a, b, c]) = three();
    let weak = ledger.restrict(&a, Rights::READ).unwrap();
    let refused = ledger.enqueue(&weak, granule(0), Write, at(0));
    assert_eq!(refused, Err(LedgerError::NotPermitted));
    let held = open(&mut ledger, &a, granule(0), Read).unwrap();
    let waiter = wait(&mut ledger, &b, Write, 0);
    ledger.freeze(&c).unwrap();
    assert!(ledger.advance(at(1)));
    assert!(ready(&mut ledger, waiter, 1));
    let refused = ledger.enqueue(&b, granule(0), Write, at(1));
    assert_eq!(refused, Err(LedgerError::Frozen));
    close(&mut ledger, held, 2);

    let (mut ledger, [a, b, _]) = three();
    let held = open(&mut ledger, &a, granule(0), Write).unwrap();
    let waiter = wait(&mut ledger, &b, Read, 0);
    ledger.close(held, WindowEnd::Died).unwrap();
    assert!(ledger.advance(at(1)));
    assert!(ready(&mut ledger, waiter, 1));
    let refused = ledger.enqueue(&b, granule(0), Read, at(1));
    assert_eq!(refused, Err(LedgerError::Poisoned));
}

// rules 5, 11
#[test]
fn waiter_for_a_lender_passes_its_borrower() {
    let (mut ledger, [a, b, c]) = three();
    let held = open(&mut ledger, &a, granule(0), Write).unwrap();
    let waiter = wait(&mut ledger, &b, Write, 0);
    // This claim waits for the other one.
    let next = ledger.enqueue(&c, granules(0, 2), Write, at(0)).unwrap();
    let lent = ledger.lend(&a, READ_WRITE).unwrap();
    let of_lent = wait(&mut ledger, &lent, Write, 1);
    assert!(ready(&mut ledger, of_lent, 1));
    let window = open(&mut ledger, &lent, granules(0, 2), Write).unwrap();
    close(&mut ledger, window, 2);
    ledger.revoke(lent.lend().unwrap());
    close(&mut ledger, held, 3);
    assert!(ready(&mut ledger, waiter, 3));
    assert!(!ready(&mut ledger, next, 3));
}

// rule 11
#[test]
fn waiter_for_its_own_window_blocks_nobody() {
    let (mut ledger, [a, b, _]) = three();
    let window = open(&mut ledger, &a, granule(0), Read).unwrap();
    let waiter = wait(&mut ledger, &a, Write, 0);
    open(&mut ledger, &b, granule(0), Read).unwrap();
    let refused = open(&mut ledger, &b, granule(0), Write);
    assert_eq!(refused, Err(LedgerError::WouldBlock));
    assert!(!ready(&mut ledger, waiter, 1));
    close(&mut ledger, window, 2);
    let refused = open(&mut ledger, &b, granule(0), Read);
    assert_eq!(refused, Err(LedgerError::WouldBlock), "now it is");
}

// rule 11
#[test]
fn moved_claim_leaves_the_queue() {
    let (mut ledger, [a, b, _]) = three();
    open(&mut ledger, &a, granule(0), Read).unwrap();
    let waiter = wait(&mut ledger, &b, Write, 0);
    ledger.recharge(b.claim(), Vec::new());
    assert!(ledger.advance(at(1)));
    assert!(ready(&mut ledger, waiter, 1));
}

fn duplicates(ledger: &mut Ledger<()>, of: &Handle, count: usize) -> Vec<Handle> {
    let duplicate = |_| ledger.duplicate(of, Rights::ALL, Vec::new()).unwrap();
    (0..count).map(duplicate).collect()
}

// rule 11
#[test]
fn waiter_behind_a_self_waiter_is_not_passed() {
    let (mut ledger, [a, b, c]) = three();
    let window = open(&mut ledger, &a, granule(0), Read).unwrap();
    wait(&mut ledger, &a, Write, 0);
    let writer = wait(&mut ledger, &b, Write, 0);
    let refused = open(&mut ledger, &c, granule(0), Read);
    assert_eq!(
        refused,
        Err(LedgerError::WouldBlock),
        "the writer would starve"
    );
    close(&mut ledger, window, 1);
    assert!(!ready(&mut ledger, writer, 1), "the other came first");
}

// rule 11
#[test]
fn many_waiters_are_served_in_steps() {
    let (mut ledger, [a, b, _]) = three();
    let held = open(&mut ledger, &a, granule(0), Write).unwrap();
    let readers = duplicates(&mut ledger, &b, 350);
    let waiters: Vec<WaiterId> = readers
        .iter()
        .map(|reader| wait(&mut ledger, reader, Read, 0))
        .collect();
    let elsewhere = ledger.enqueue(&b, granule(1), Write, at(0)).unwrap();
    ledger.advance(at(0));
    ledger.close(held, WindowEnd::Orderly).unwrap();
    let (mut steps, mut told) = (1, Vec::new());
    while ledger.advance_some(at(1)) {
        steps += 1;
        // Other threads may lock the ledger in between, and no reader is passed.
        let refused = open(&mut ledger, &a, granule(0), Write);
        assert_eq!(refused, Err(LedgerError::WouldBlock));
        told.extend(ledger.take_woken());
    }
    told.extend(ledger.take_woken());
    assert!(steps > 3, "{steps} steps");
    assert_eq!(told, waiters);
    assert!(!told.contains(&elsewhere));
    assert!(!ledger.advance_some(at(2)) && ledger.take_woken().is_empty());
}

// rule 11
#[test]
fn borrower_examines_a_bounded_queue() {
    for (count, passes) in [(63, false), (64, true)] {
        let (mut ledger, [a, b, c]) = three();
        open(&mut ledger, &a, granule(0), Write).unwrap();
        open(&mut ledger, &c, granule(1), Read).unwrap();
        let others = duplicates(&mut ledger, &b, count);
        for other in &others {
            wait(&mut ledger, other, Read, 0);
        }
        // This waiter is blocked by c's window.
        ledger.enqueue(&b, granule(1), Write, at(0)).unwrap();
        ledger.advance(at(0));
        let lent = ledger.lend(&a, READ_WRITE).unwrap();
        let opened = open(&mut ledger, &lent, granules(0, 2), Read);
        assert_eq!(opened.is_ok(), passes, "behind {count}: {opened:?}");
    }
}
