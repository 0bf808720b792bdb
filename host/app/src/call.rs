//! Calls from guest to guest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::Instrument;
use wasmtime::StoreContextMut;
use wasmtime::component::{Component, ComponentExportIndex, Linker, ResourceType, Val};

use super::bytes::{self, ByteCall, Charged};
use super::clock::Clock;
use super::guest::{Broken, GuestState, IdleGuest};
use super::idle::IdleSlot;
use super::link::{ErrorSlot, Link};
use super::proxy::{Bundle, Caller, Dropped, PassError};
use super::report::CallReport;
use super::values;
use super::waits::{self, LentRegions};
use crate::text;
use tombolo::internal::Lends;
use tombolo::{Lending, Recipient, RegionView};
use tombolo_region::Charge;
use tombolo_region::escape;

/// Durations remembered per function, for the median.
const SAMPLES: usize = 1024;

/// What a guest's task is told.
pub(super) enum MailboxItem {
    Call(Box<Call>),
    /// Nobody has this resource of the guest's any more. No one waits for that.
    Drop(Dropped),
    /// No command runs any more.
    Stop,
}

/// A call on its way to the callee.
pub(super) struct Call {
    /// Dropped by the callee as soon as the call has returned: what it does next
    /// leads back to nobody, also where its caller has not been polled since. If
    /// it dies, the caller goes on waiting for what it lent. It goes before the
    /// rest, with which the caller hears of the end of a call that is dropped.
    pub(super) waiting: WaitEdge,
    pub(super) export: ComponentExportIndex,
    /// With the interface, for messages.
    pub(super) function: Arc<str>,
    pub(super) work: Work,
    /// The caller's: what the callee does belongs to it.
    pub(super) span: tracing::Span,
}

/// What a call passes.
pub(super) enum Work {
    /// Any values.
    Values {
        params: Bundle,
        /// For the parameters, on the caller's account.
        charge: Charge,
        /// How many results there will be.
        results: usize,
        caller: Recipient,
        reply: oneshot::Sender<Reply>,
    },
    /// One list of bytes.
    Bytes(Box<dyn ByteCall>),
}

/// How a call ended, for the caller.
pub(super) enum Reply {
    /// With the charge for the values, on the caller's account.
    Done(Bundle, Charge),
    /// The callee is dead, or its results were refused on the way.
    Failed(String),
}

/// That a guest waits for another.
pub(super) type WaitEdge = waits::WaitEdge<Lends>;

/// A guest in one of its lives, and for whom it waits.
type WaitNode = waits::WaitNode<Lends>;

impl LentRegions for Lends {
    fn are_all_back(&self) -> bool {
        self.are_over()
    }
}

/// What a guest is told, in order. Dropping it drops what is in it, and also what
/// somebody is just sending: who waits for an answer to that hears that there is none.
pub(super) struct Inbox(mpsc::UnboundedReceiver<MailboxItem>);

impl Inbox {
    pub(super) fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<MailboxItem>> {
        self.0.poll_recv(context)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.0.close();
        // The receiver by itself drops what it finds, and not what another thread,
        // which found it open, has not put there yet. That takes a moment.
        loop {
            match self.0.try_recv() {
                Ok(message) => drop(message),
                Err(mpsc::error::TryRecvError::Empty) => std::thread::yield_now(),
                Err(mpsc::error::TryRecvError::Disconnected) => break,
            }
        }
    }
}

/// A guest, as the others know it.
pub(super) struct Peer {
    name: Arc<str>,
    /// Of the life that it lives now, or will next.
    mailbox: Mutex<Arc<Mailbox>>,
}

/// A guest in one of its lives: one that is started again takes another mailbox.
pub(super) struct Mailbox {
    node: Arc<WaitNode>,
    name: Arc<str>,
    /// Holds at most one call of each other guest, since a guest that calls
    /// waits; and word of resources that nobody has any more. Of those there are no
    /// more than the guest has handles to, which wasmtime limits to 100,000.
    inbox: mpsc::UnboundedSender<MailboxItem>,
    /// Where it is while it waits for calls.
    pub(super) idle: IdleSlot<Box<IdleGuest>, Broken>,
    pub(super) recipient: Recipient,
    /// Why it has ended.
    ended: Mutex<Option<String>>,
}

impl Mailbox {
    pub(super) fn new(guest: usize, name: Arc<str>, recipient: Recipient) -> (Arc<Mailbox>, Inbox) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let mailbox = Mailbox {
            node: WaitNode::new(guest),
            name,
            inbox: sender,
            idle: IdleSlot::default(),
            recipient,
            ended: Mutex::default(),
        };
        (Arc::new(mailbox), Inbox(inbox))
    }

    /// Sends a call; or, if the guest shares the caller's strand and has nothing else
    /// to do, has it begin at once. An error says that it has ended.
    fn send(&self, call: Box<Call>, same_strand: bool) -> Result<(), ()> {
        let begun = match same_strand {
            true => self.idle.begin(call, |it| it.is_free(), IdleGuest::answer),
            false => Err(call),
        };
        match begun {
            Ok(()) => Ok(()),
            Err(call) => self.inbox.send(MailboxItem::Call(call)).map_err(drop),
        }
    }

    /// The guest's index.
    pub(super) fn guest(&self) -> usize {
        self.node.guest()
    }

    /// What is to be told to a caller of a guest that has ended.
    pub(super) fn exit_reason(&self) -> String {
        match &*lock(&self.ended) {
            Some(why) => why.clone(),
            None => format!("guest `{}` has ended", self.name),
        }
    }

    /// Tells the guest that nobody has a resource of it any more. If it has
    /// ended, that went with it.
    pub(super) fn dropped(&self, dropped: Dropped) {
        let _ = self.inbox.send(MailboxItem::Drop(dropped));
    }
}

impl Peer {
    pub(super) fn new(index: usize, name: &str, recipient: Recipient) -> (Peer, Inbox) {
        let name: Arc<str> = name.into();
        let (mailbox, inbox) = Mailbox::new(index, name.clone(), recipient);
        let peer = Peer {
            name,
            mailbox: Mutex::new(mailbox),
        };
        (peer, inbox)
    }

    fn mailbox(&self) -> Arc<Mailbox> {
        lock(&self.mailbox).clone()
    }
}

/// All guests of an app, and who waits for whom.
pub(super) struct Calls {
    peers: Vec<Peer>,
    begun: watch::Sender<bool>,
    stopped: watch::Sender<bool>,
    ending: watch::Sender<bool>,
    /// Of each link by itself, so that calls share nothing.
    counts: Mutex<Vec<(Edge, Arc<Mutex<Count>>)>>,
}

/// Caller, callee, function.
type Edge = (usize, usize, Arc<str>);

#[derive(Clone, Default)]
struct Count {
    calls: u64,
    total: Duration,
    samples: Vec<Duration>,
    /// Of strings and lists.
    bytes: u64,
}

impl Count {
    fn add(&mut self, other: Count) {
        self.calls += other.calls;
        self.total += other.total;
        self.samples.extend(other.samples);
        self.bytes += other.bytes;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Calls {
    /// `stopped` says whether the app is to end.
    pub(super) fn new(peers: Vec<Peer>, stopped: watch::Sender<bool>) -> Arc<Calls> {
        Arc::new(Calls {
            peers,
            begun: watch::Sender::new(false),
            stopped,
            ending: watch::Sender::new(false),
            counts: Mutex::default(),
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.peers.iter().map(|peer| &*peer.name)
    }

    /// Lets the commands start.
    pub(super) fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Waits until the commands may start.
    pub(super) fn begun(&self) -> impl Future<Output = ()> + 'static {
        let mut begun = self.begun.subscribe();
        async move {
            // An error means that the app is gone, and this task with it.
            let _ = begun.wait_for(|begun| *begun).await;
        }
    }

    /// Has the app end.
    pub(super) fn stop_app(&self) {
        self.stopped.send_replace(true);
    }

    /// Waits until the app is to end.
    pub(super) async fn stopped(&self) {
        // It fails only when this is gone, which is borrowed.
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Tells all guests that there is nothing left to do.
    pub(super) fn stop(&self) {
        self.ending.send_replace(true);
        for peer in &self.peers {
            let _ = peer.mailbox().inbox.send(MailboxItem::Stop);
        }
    }

    /// Notes why a guest has ended, for those who call it from now on.
    pub(super) fn set_exit_reason(&self, index: usize, why: String) {
        *lock(&self.peers[index].mailbox().ended) = Some(why);
    }

    /// Gives a guest that is to be started again a new mailbox: who calls it from
    /// now on waits for that.
    pub(super) fn new_incarnation(&self, index: usize, recipient: Recipient) -> Inbox {
        let peer = &self.peers[index];
        let (mailbox, inbox) = Mailbox::new(index, peer.name.clone(), recipient);
        *lock(&peer.mailbox) = mailbox;
        inbox
    }

    /// The mailbox that a guest has at the moment.
    pub(super) fn mailbox(&self, index: usize) -> Arc<Mailbox> {
        self.peers[index].mailbox()
    }

    /// Whether the app ends: nobody is started again.
    pub(super) fn is_ending(&self) -> bool {
        *self.ending.borrow() || *self.stopped.borrow()
    }

    /// Waits until the app ends.
    pub(super) async fn ending(&self) {
        // It fails only when this is gone, which is borrowed.
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }

    /// Notes that `from` waits for `to`, until what is returned is dropped, and
    /// what it was told of is over.
    fn wait(&self, from: usize, to: &Mailbox) -> Result<WaitEdge, String> {
        // Who calls lives, and its mailbox is taken by the next life only after that.
        let caller = self.peers[from].mailbox();
        caller.node.wait(&to.node).map_err(|cycle| {
            let names: Vec<String> = cycle
                .iter()
                .map(|guest| format!("`{}`", self.peers[*guest].name))
                .collect();
            format!("the call would never return: {}", names.join(" waits for "))
        })
    }

    /// The bytes of strings and lists that went from guest to guest by value.
    pub(super) fn bytes_copied(&self) -> u64 {
        let counts = lock(&self.counts);
        counts.iter().map(|(_, count)| lock(count).bytes).sum()
    }

    pub(super) fn report(&self) -> Vec<CallReport> {
        // A guest may import an interface in several versions.
        let mut edges: BTreeMap<Edge, Count> = BTreeMap::new();
        for (edge, count) in &*lock(&self.counts) {
            let count = lock(count).clone();
            if count.calls > 0 {
                edges.entry(edge.clone()).or_default().add(count);
            }
        }
        edges
            .into_iter()
            .map(|((from, to, function), mut count)| {
                count.samples.sort_unstable();
                let median = count.samples.get(count.samples.len() / 2);
                CallReport {
                    caller: self.peers[from].name.to_string(),
                    callee: self.peers[to].name.to_string(),
                    function: function.to_string(),
                    count: count.calls,
                    total: count.total,
                    median: median.copied().unwrap_or_default(),
                }
            })
            .collect()
    }

    /// Defines, in the importer's linker, the functions and resources that another
    /// guest exports.
    pub(super) fn link(
        self: &Arc<Calls>,
        linker: &mut Linker<GuestState>,
        link: &Link,
        exporter: &Component,
        same_strand: bool,
    ) -> wasmtime::Result<()> {
        let missing = || wasmtime::Error::msg(format!("`{}` is planned but missing", link.export));
        let interface = exporter
            .get_export_index(None, &link.export)
            .ok_or_else(missing)?;
        let mut instance = linker.instance(&link.import)?;
        for (resource, kind) in &link.resources {
            let ty = ResourceType::host_dynamic(*kind);
            instance.resource(resource, ty, |mut store, rep| {
                store.data_mut().proxies.forget(rep)
            })?;
        }
        for function in &link.functions {
            let export = exporter
                .get_export_index(Some(&interface), &function.name)
                .ok_or_else(missing)?;
            let name = format!("{}.{}", escape(&link.export), function.name);
            let name: Arc<str> = name.into();
            let count = Arc::<Mutex<Count>>::default();
            let edge = (link.importer, link.exporter, name.clone());
            lock(&self.counts).push((edge, count.clone()));
            let target = Arc::new(Target {
                calls: self.clone(),
                from: link.importer,
                to: link.exporter,
                same_strand,
                export,
                function: name,
                count,
                results: function.ty.results().len(),
                handles: function.handles,
                error_slot: function.error_slot,
            });
            if bytes::define(&mut instance, &function.name, &function.ty, &target)? {
                continue;
            }
            instance.func_new_async(&function.name, move |store, _, params, results| {
                let target = target.clone();
                Box::new(async move {
                    let call = async |_| target.call(store, params, results).await;
                    target.watched(call).await
                })
            })?;
        }
        Ok(())
    }
}

/// The bytes of strings and lists of plain values in a value.
fn size(val: &Val) -> u64 {
    match val {
        Val::String(text) => text.len() as u64,
        Val::List(vals) => match vals.first() {
            Some(Val::U8(_) | Val::S8(_) | Val::Bool(_)) => vals.len() as u64,
            Some(Val::U16(_) | Val::S16(_)) => 2 * vals.len() as u64,
            Some(Val::U32(_) | Val::S32(_) | Val::Float32(_) | Val::Char(_)) => {
                4 * vals.len() as u64
            }
            Some(Val::U64(_) | Val::S64(_) | Val::Float64(_)) => 8 * vals.len() as u64,
            _ => vals.iter().map(size).sum(),
        },
        Val::Tuple(vals) | Val::FixedLengthList(vals) => vals.iter().map(size).sum(),
        Val::Record(fields) => fields.iter().map(|(_, val)| size(val)).sum(),
        Val::Variant(_, Some(val)) | Val::Option(Some(val)) => size(val),
        Val::Result(Ok(Some(val)) | Err(Some(val))) => size(val),
        _ => 0,
    }
}

/// A function of another guest, as an import of this one.
pub(super) struct Target {
    calls: Arc<Calls>,
    from: usize,
    to: usize,
    same_strand: bool,
    export: ComponentExportIndex,
    function: Arc<str>,
    count: Arc<Mutex<Count>>,
    results: usize,
    /// Handles can pass.
    handles: bool,
    error_slot: Option<ErrorSlot>,
}

/// A guest called another through a function whose result cannot carry an error text.
#[derive(Debug, thiserror::Error)]
#[error(
    "{why}; `{function}` cannot report this to its caller: its result has no `string` error and no \
     `peer-failed` case"
)]
pub(super) struct NoErrorSlot {
    function: Arc<str>,
    pub(super) why: String,
}

/// The lender's side of a call. If the call is dropped before it has returned,
/// the lender's windows on what it lent become zero pages here, while the call
/// still holds its store.
struct LenderGuard<'a> {
    store: StoreContextMut<'a, GuestState>,
    lending: Option<Lending>,
}

impl Drop for LenderGuard<'_> {
    fn drop(&mut self) {
        if let Some(lending) = self.lending.take()
            && let Err(error) = lending.abandon(&mut self.store)
        {
            let error = text::line(&error);
            tracing::error!("cannot take a cancelled lender's windows away: {error}");
        }
    }
}

impl Target {
    /// Makes a call in a span of its own, and counts it. The call hears when it was
    /// begun.
    async fn watched<R>(&self, call: impl AsyncFnOnce(Instant) -> R) -> R {
        let span = tracing::info_span!(
            "call",
            caller = &*self.calls.peers[self.from].name,
            callee = &*self.calls.peers[self.to].name,
            function = &*self.function,
        );
        let begun = Instant::now();
        let result = call(begun).instrument(span).await;
        self.count(begun.elapsed());
        result
    }

    fn count(&self, took: Duration) {
        let mut count = lock(&self.count);
        count.calls += 1;
        count.total += took;
        if count.samples.len() < SAMPLES {
            count.samples.push(took);
        }
    }

    /// Counts bytes that went by value.
    pub(super) fn count_copied(&self, bytes: u64) {
        lock(&self.count).bytes += bytes;
    }

    fn count_vals(&self, vals: &[Val]) {
        let bytes = vals.iter().map(size).sum();
        if bytes > 0 {
            self.count_copied(bytes);
        }
    }

    /// Calls the other guest with a list of bytes, and waits for it.
    pub(super) async fn call_bytes<R>(
        &self,
        clock: &Arc<Clock>,
        length: u64,
        call: Box<dyn ByteCall>,
        replied: oneshot::Receiver<Result<Charged<R>, String>>,
    ) -> Result<Charged<R>, NoErrorSlot> {
        let answer = self.watched(async |begun| {
            let mailbox = self.calls.mailbox(self.to);
            let waiting = self.calls.wait(self.from, &mailbox)?;
            self.count_copied(length);
            let _paused = clock.pause(begun);
            let call = Box::new(Call {
                export: self.export,
                function: self.function.clone(),
                work: Work::Bytes(call),
                span: tracing::Span::current(),
                waiting,
            });
            match mailbox.send(call, self.same_strand) {
                Ok(()) => replied.await.unwrap_or_else(|_| Err(mailbox.exit_reason())),
                Err(_) => Err(mailbox.exit_reason()),
            }
        });
        answer.await.map_err(|why| self.refused(why))
    }

    /// Notes that a call was refused or failed.
    pub(super) fn refused(&self, why: String) -> NoErrorSlot {
        tracing::info!(function = &*self.function, why, "call refused or failed");
        NoErrorSlot {
            function: self.function.clone(),
            why,
        }
    }

    /// Calls the other guest, and waits for it.
    async fn call(
        &self,
        mut store: StoreContextMut<'_, GuestState>,
        params: &[Val],
        results: &mut [Val],
    ) -> wasmtime::Result<()> {
        let mailbox = self.calls.mailbox(self.to);
        let waiting = match self.calls.wait(self.from, &mailbox) {
            Ok(waiting) => waiting,
            Err(cycle) => {
                Bundle::discard(&mut store, values::handles(params))?;
                return self.refuse(cycle, results);
            }
        };
        if mailbox.inbox.is_closed() {
            Bundle::discard(&mut store, values::handles(params))?;
            return self.refuse(mailbox.exit_reason(), results);
        }
        // Once for what wasmtime has lifted, and keeps for as long as the call takes;
        // once for the copy that goes to the callee, which may outlive the caller.
        let bytes = values::bytes(params);
        let charges = store.data().charge(bytes).and_then(|lifted| {
            let copied = store.data().charge(bytes)?;
            Ok((lifted, copied))
        });
        let charge = match charges {
            Ok((lifted, copied)) => {
                store.data_mut().keep_in_call(lifted);
                copied
            }
            Err(exhausted) => {
                Bundle::discard(&mut store, values::handles(params))?;
                return self.refuse(exhausted.to_string(), results);
            }
        };
        let params = params.to_vec();
        self.count_vals(&params);
        let caller = store.data_mut().region_ctx().recipient();
        let clock = store.data().clock.clone();
        let packed = match self.handles {
            true => {
                let to = (self.to, &mailbox.recipient);
                Bundle::pack(&mut store, params, to, Caller::Sends)
            }
            false => Ok(Bundle::plain(params)),
        };
        let (params, lending) = match packed {
            Ok(packed) => packed,
            Err(PassError::Fatal(error)) => return Err(error),
            Err(PassError::Refused(why)) => return self.refuse(why, results),
        };
        waiting.for_lends(lending.lends());
        let mut lender = LenderGuard {
            store,
            lending: Some(lending),
        };
        let (reply, replied) = oneshot::channel();
        let call = Box::new(Call {
            export: self.export,
            function: self.function.clone(),
            work: Work::Values {
                params,
                charge,
                results: self.results,
                caller,
                reply,
            },
            span: tracing::Span::current(),
            waiting,
        });
        let paused = clock.pause(Instant::now());
        let reply = match mailbox.send(call, self.same_strand) {
            Ok(()) => replied.await.ok(),
            Err(_) => None,
        };
        // Also when the callee has died: what it lent on may still be in use, by
        // a call that goes on.
        if let Some(lending) = &lender.lending {
            lending.over().await;
        }
        drop(paused);
        if let Some(lending) = lender.lending.take() {
            lending.end(&mut lender.store)?;
        }
        match reply {
            Some(Reply::Done(bundle, charge)) => {
                lender.store.data_mut().keep_in_call(charge);
                let vals = match bundle.unpack(&mut lender.store) {
                    Ok((vals, _)) => vals,
                    Err(PassError::Fatal(error)) => return Err(error),
                    Err(PassError::Refused(why)) => return self.refuse(why, results),
                };
                self.count_vals(&vals);
                results
                    .iter_mut()
                    .zip(vals)
                    .for_each(|(slot, val)| *slot = val);
                Ok(())
            }
            Some(Reply::Failed(why)) => self.refuse(why, results),
            None => self.refuse(mailbox.exit_reason(), results),
        }
    }

    /// Tells the caller, as a value if its result has an error slot, and by a trap otherwise.
    fn refuse(&self, why: String, results: &mut [Val]) -> wasmtime::Result<()> {
        tracing::info!(function = &*self.function, why, "call refused or failed");
        match (self.error_slot, results) {
            (Some(slot), [result]) => {
                *result = slot.error(why);
                Ok(())
            }
            _ => Err(NoErrorSlot {
                function: self.function.clone(),
                why,
            }
            .into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombolo::RegionHost;

    fn calls(names: &[&str]) -> Arc<Calls> {
        let host = RegionHost::new();
        let peers = names.iter().enumerate().map(|(index, name)| {
            let (peer, _) = Peer::new(index, name, host.context(*name).build().recipient());
            peer
        });
        Calls::new(peers.collect(), watch::Sender::new(false))
    }

    /// A lend that is not over before it is revoked.
    fn lend() -> (tombolo::Region, Lends, impl FnOnce()) {
        let host = RegionHost::new();
        let region = host.create("lent", 1).unwrap();
        let to = host.context("borrower").build().recipient();
        let (lent, lends) = Lends::to(&to, &region, tombolo::Rights::READ).unwrap();
        let revoked = lends.clone();
        (region, lends, move || {
            revoked.revoke();
            drop(lent);
        })
    }

    fn wait(calls: &Arc<Calls>, from: usize, to: usize) -> Result<WaitEdge, String> {
        calls.wait(from, &calls.peers[to].mailbox())
    }

    #[test]
    fn cycle_is_refused_until_a_call_on_it_has_returned() {
        let calls = calls(&["a", "b", "c"]);
        let first = wait(&calls, 0, 1).unwrap();
        let second = wait(&calls, 1, 2).unwrap();
        let Err(why) = wait(&calls, 2, 0) else {
            panic!("it would never return")
        };
        assert!(why.contains("`c` waits for `a` waits for `b` waits for `c`"));
        drop(second);
        assert!(wait(&calls, 2, 0).is_ok());
        drop(first);
        assert!(calls.peers.iter().all(|peer| !peer.mailbox().node.waits()));
    }

    #[test]
    fn caller_waits_for_what_it_lent_also_when_the_call_has_returned() {
        let calls = calls(&["a", "b", "c"]);
        let (_region, lends, revoke) = lend();
        let first = wait(&calls, 0, 1).unwrap();
        first.for_lends(lends);
        let second = wait(&calls, 1, 2).unwrap();
        // `b` has died; `c` goes on with what it lent on.
        drop(first);
        assert!(wait(&calls, 2, 0).is_err());
        revoke();
        assert!(wait(&calls, 2, 0).is_ok());
        drop(second);
    }

    /// What an earlier life of a guest left stands in nobody's way, but for what was
    /// lent to it.
    #[test]
    fn next_life_of_a_guest_waits_for_nothing_of_the_last() {
        let calls = calls(&["a", "b", "c"]);
        let recipient = || RegionHost::new().context("a").build().recipient();
        // `a` is ended while `b` works for it, and is started again.
        let old = wait(&calls, 0, 1).unwrap();
        let _inbox = calls.new_incarnation(0, recipient());
        // `b` may call it.
        drop(wait(&calls, 1, 0).unwrap());
        // It calls `c`, and `b` comes back: that changes nothing about `c`.
        let new = wait(&calls, 0, 2).unwrap();
        drop(old);
        assert!(wait(&calls, 2, 0).is_err(), "`a` waits for `c`");
        drop(new);
        assert!(wait(&calls, 2, 0).is_ok());
    }

    #[test]
    fn what_was_lent_to_an_earlier_life_is_still_waited_for() {
        let calls = calls(&["x", "a", "b"]);
        // `x` lent to `a`, which lent on to `b` and was ended.
        let (_region, lends, revoke) = lend();
        let outer = wait(&calls, 0, 1).unwrap();
        outer.for_lends(lends);
        let inner = wait(&calls, 1, 2).unwrap();
        drop(outer);
        let recipient = RegionHost::new().context("a").build().recipient();
        let old = calls.mailbox(1);
        let _inbox = calls.new_incarnation(1, recipient);
        let new = wait(&calls, 1, 2).unwrap();
        assert!(wait(&calls, 2, 0).is_err(), "`x` waits for what `b` has");
        revoke();
        assert!(wait(&calls, 2, 0).is_ok());
        drop((inner, new));
        assert!(!old.node.waits() && !calls.mailbox(1).node.waits());
    }
}
