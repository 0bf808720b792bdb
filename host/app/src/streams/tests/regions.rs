//! Tests of streams of regions.

use super::*;

/// Returns how many regions were taken from the writer, and how many it has left.
async fn taken(a: &Node) -> Vec<Val> {
    a.call("sources.taken", Sent::plain([])).await.unwrap()
}

fn regions(count: u32, locked: bool) -> Sent {
    let size = tombolo::GRANULE;
    Sent::plain([Val::U32(count), Val::U64(size), Val::Bool(locked)])
}

fn firsts(firsts: impl IntoIterator<Item = u8>) -> Vec<Val> {
    vec![Val::List(firsts.into_iter().map(Val::U8).collect())]
}

fn handles(node: &Node) -> u64 {
    let account = &node.recipient.owner().account;
    account.used(ChargeKind::Handles) + account.used(ChargeKind::Regions)
}

// rule 6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_move_one_by_one() {
    let (host, a, b) = two(|_| ()).await;
    let read = pipe(
        (&a, "sources.regions", regions(40, false)),
        (&b, "sinks.regions"),
    )
    .await;
    assert_eq!(read, firsts(0..40));
    let later = Sent::plain([Val::U8(77)]);
    let first = pipe(
        (&a, "sources.region-later", later),
        (&b, "sinks.first-byte"),
    )
    .await;
    assert_eq!(first, [Val::U8(77)]);
    assert_eq!((handles(&a), handles(&b)), (0, 0));
    assert_eq!(host.counts().regions_freed, 41);
    let count = Val::Tuple(vec![Val::U32(40), Val::U32(0)]);
    assert_eq!(taken(&a).await, [count]);
}

// rules 6, 10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_regions_are_on_the_readers_account() {
    let (host, a, b) = two(|_| ()).await;
    let sent = a
        .send("sources.regions", regions(40, false), &b)
        .await
        .unwrap();
    // 16 have room in the bridge.
    until("it is full", async || handles(&b) == 2 * 16).await;
    assert_eq!(handles(&a), 2 * 24);
    drop(sent);
    until("they are freed", async || handles(&b) == 0).await;
    until("the writer keeps the others", async || {
        taken(&a).await == [Val::Tuple(vec![Val::U32(16), Val::U32(24)])]
    })
    .await;
    until("it drops them", async || host.counts().regions_freed == 40).await;
}

// rule 6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn region_that_may_not_move_ends_the_stream() {
    let (host, a, b) = two(|_| ()).await;
    let read = pipe(
        (&a, "sources.regions", regions(5, true)),
        (&b, "sinks.regions"),
    )
    .await;
    assert_eq!(read, firsts(0..4));
    until("all are dropped", async || host.counts().regions_freed == 5).await;
    assert_eq!((handles(&a), handles(&b)), (0, 0));
    a.end().await;
    b.end().await;
}

// rule 10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reader_without_room_leaves_regions_to_the_writer() {
    let host = RegionHost::new();
    let a = Node::start(&host, "a", Limits::default()).await;
    let mut small = Limits::default();
    small.handles = 3;
    let b = Node::start(&host, "b", small).await;
    let sent = a
        .send("sources.regions", regions(5, false), &b)
        .await
        .unwrap();
    until("the writer learns", async || {
        taken(&a).await == [Val::Tuple(vec![Val::U32(3), Val::U32(2)])]
    })
    .await;
    let read = b.call("sinks.regions", sent).await.unwrap();
    assert_eq!(read, firsts(0..3));
}

// rules 6, 10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_are_on_the_account_of_the_last_reader() {
    let (host, a, b) = two(|_| ()).await;
    let sent = a.send("sources.regions", regions(40, false), &b);
    let mut sent = sent.await.unwrap();
    until("it is full", async || handles(&b) == 2 * 16).await;
    let c = Node::start(&host, "c", Limits::default()).await;
    sent.vals.push(Val::U32(0));
    let mut passed = b
        .send("passers.pass-rest-of-regions", sent, &c)
        .await
        .unwrap();
    // The reader takes those that came before it was the reader.
    passed.vals.push(Val::U32(16));
    let rest = c.send("passers.pass-rest-of-regions", passed, &c).await;
    until("it is full again", async || handles(&c) == 2 * 16).await;
    assert_eq!(handles(&b), 0);
    drop(rest);
    until("they are freed", async || handles(&c) == 0).await;
}
