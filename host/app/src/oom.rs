//! Which guest to end when memory is short, one at a time.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;
use wasmtime::Engine;

use super::report::{KillReport, RECORDS};
use super::status::{GuestStatus, Stage, StopReason};

/// The score of a guest that was given none.
const DEFAULT_SCORE: u16 = 500;

/// The highest score and floor.
pub(super) const MAX_SCORE: u16 = 1000;

/// Guests with a score of 0 are never ended by default.
const DEFAULT_FLOOR: u16 = 1;

/// What to do when memory is short and purging has freed nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPressure {
    /// Nothing: purging is all.
    #[default]
    Purge,
    /// Only counts what [`Kill`](OnPressure::Kill) would have done, each guest
    /// once, since it would be gone then.
    DryRun,
    /// Ends a guest.
    Kill,
}

/// A guest that may be ended to free memory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Candidate {
    /// Its name.
    pub guest: String,
    /// From 0 to 1000: the higher, the sooner it is ended.
    pub score: u16,
    /// When it ran last. Waiting, in a host call or for another guest, is not
    /// running.
    pub last_busy: Instant,
    /// The bytes that its end would free: what is in memory of its linear memories,
    /// of regions that nobody else has a claim on, and of the host's own memory that
    /// is on its account, in steps of 64 KiB.
    pub bytes: u64,
}

/// What a hook says about ending a guest; see
/// [`AppBuilder::before_kill`](super::AppBuilder::before_kill).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The guest may be ended.
    Kill,
    /// It may not, this time; the next one is asked about.
    Spare,
}

type Hook = Box<dyn FnMut(&Candidate) -> Verdict + Send>;

/// What the operator wants to happen when memory is short.
pub(super) struct OomPolicy {
    pub(super) on_pressure: OnPressure,
    pub(super) floor: u16,
    /// The guests that were given one.
    pub(super) scores: Vec<(String, u16)>,
    pub(super) hook: Option<Hook>,
}

impl Default for OomPolicy {
    fn default() -> OomPolicy {
        OomPolicy {
            on_pressure: OnPressure::default(),
            floor: DEFAULT_FLOOR,
            scores: Vec::new(),
            hook: None,
        }
    }
}

impl fmt::Debug for OomPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OomPolicy")
            .field("on_pressure", &self.on_pressure)
            .field("floor", &self.floor)
            .field("scores", &self.scores)
            .finish_non_exhaustive()
    }
}

impl OomPolicy {
    /// The score of a guest; the last one that it was given counts.
    fn score(&self, guest: &str) -> u16 {
        let given = self.scores.iter().rev().find(|(name, _)| name == guest);
        given.map_or(DEFAULT_SCORE, |(_, score)| *score)
    }
}

/// Whom to end.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    /// Nobody, before the memory of this one is back.
    Wait(usize),
    /// Nobody at all.
    Nobody,
    Kill(usize),
}

/// Chooses the guest to end: of those that live, that are not below the floor,
/// whose end frees memory and whom the hook does not spare, the one with the
/// highest score, and among those the one that was busy longest ago.
///
/// What an end would free is asked by `bytes`, which may take a while, and noted: only
/// of those whose turn it would be.
fn choose(
    guests: &mut [(Stage, Candidate)],
    floor: u16,
    mut bytes: impl FnMut(usize) -> u64,
    mut ask: impl FnMut(&Candidate) -> Verdict,
) -> Choice {
    let ending = |(stage, _): &(Stage, Candidate)| *stage == Stage::Ending;
    if let Some(index) = guests.iter().position(ending) {
        return Choice::Wait(index);
    }
    let mut order: Vec<usize> = (0..guests.len())
        .filter(|index| {
            let (stage, guest) = &guests[*index];
            *stage == Stage::Alive && guest.score >= floor
        })
        .collect();
    order.sort_by_key(|index| {
        let (_, guest) = &guests[*index];
        (Reverse(guest.score), guest.last_busy)
    });
    order
        .into_iter()
        .find(|index| {
            let (_, guest) = &mut guests[*index];
            guest.bytes = bytes(*index);
            guest.bytes > 0 && ask(guest) == Verdict::Kill
        })
        .map_or(Choice::Nobody, Choice::Kill)
}

/// Ends guests of an app, for want of memory or by the operator's wish.
pub(super) struct OomKiller {
    on_pressure: OnPressure,
    floor: u16,
    guests: Vec<OomEntry>,
    log: Mutex<KillLog>,
    /// Held while it is asked, which may take as long as it likes.
    hook: Mutex<Option<Hook>>,
    /// Held from when a guest is looked for until its memory is back, so that two are
    /// never ended at once.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The engine of the guests.
    engine: OnceLock<Engine>,
}

struct OomEntry {
    name: String,
    score: u16,
    /// The one that it statuses now, or will next.
    status: Mutex<Arc<GuestStatus>>,
}

impl OomEntry {
    fn status(&self) -> Arc<GuestStatus> {
        let status = self.status.lock();
        status.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct KillLog {
    /// The guests that would be gone if it were not for counting only.
    counted: Vec<usize>,
    /// The last ones.
    kills: VecDeque<KillReport>,
    total: u64,
}

impl OomKiller {
    pub(super) fn new(
        policy: OomPolicy,
        statuses: Vec<(String, Arc<GuestStatus>)>,
    ) -> Arc<OomKiller> {
        let guests = statuses
            .into_iter()
            .map(|(name, status)| OomEntry {
                score: policy.score(&name),
                name,
                status: Mutex::new(status),
            })
            .collect();
        Arc::new(OomKiller {
            on_pressure: policy.on_pressure,
            floor: policy.floor,
            guests,
            hook: Mutex::new(policy.hook),
            log: Mutex::new(KillLog {
                counted: Vec::new(),
                kills: VecDeque::new(),
                total: 0,
            }),
            turn: Arc::default(),
            engine: OnceLock::new(),
        })
    }

    /// Makes guests of this engine notice at once that they are to end, instead of at the
    /// next tick: until then they could fill the memory that is left.
    pub(super) fn set_engine(&self, engine: &Engine) {
        let _ = self.engine.set(engine.clone());
    }

    fn log(&self) -> MutexGuard<'_, KillLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.guests.iter().map(|entry| &*entry.name)
    }

    /// The statuses of the guests of this name.
    pub(super) fn statuses<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = Arc<GuestStatus>> + 'a {
        let guests = self.guests.iter().filter(move |entry| entry.name == name);
        guests.map(OomEntry::status)
    }

    /// A guest is to live again.
    pub(super) fn on_restart(&self, index: usize, status: Arc<GuestStatus>) {
        let entry = self.guests[index].status.lock();
        *entry.unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// Tells a guest to end because the app does.
    pub(super) fn end_with_app(&self, index: usize, reason: &str) {
        self.guests[index].status().end(StopReason {
            reason: reason.into(),
            app_shutdown: true,
        });
    }

    pub(super) fn end_all_with_app(&self, reason: &str) {
        for index in 0..self.guests.len() {
            self.end_with_app(index, reason);
        }
    }

    /// The last guests that were ended for want of memory, or would have been, and
    /// how many there were.
    pub(super) fn kills(&self) -> (Vec<KillReport>, u64) {
        let log = self.log();
        (log.kills.iter().cloned().collect(), log.total)
    }

    /// Ends at most one guest, as the operator wants it, and waits for its
    /// memory. To be called on a tokio runtime.
    pub(super) async fn kill_for_memory(self: &Arc<Self>) -> Option<KillReport> {
        if self.on_pressure == OnPressure::Purge {
            return None;
        }
        let Ok(turn) = self.turn.clone().try_lock_owned() else {
            // Whoever was faster may free enough.
            drop(self.turn.lock().await);
            return None;
        };
        // Looking at memories takes a while, in which guests go on. The turn is kept
        // for as long as that takes, also if nobody waits for it any more.
        let killer = self.clone();
        let (tell, told) = oneshot::channel();
        let step = move || {
            let step = AssertUnwindSafe(|| killer.step());
            let _ = tell.send((std::panic::catch_unwind(step), turn));
        };
        let thread = std::thread::Builder::new().name("tombolo-oom".into());
        let (step, _turn) = match thread.spawn(step) {
            Ok(_) => told.await.expect("it tells"),
            // There may be no memory for a thread, of all times now: here, then.
            Err(_) => {
                let turn = self.turn.clone().lock_owned().await;
                (Ok(self.step()), turn)
            }
        };
        let (status, kill) = match step {
            Ok(chosen) => chosen,
            // The hook's own.
            Err(panic) => std::panic::resume_unwind(panic),
        };
        if let Some(status) = status {
            status.exited().await;
        }
        kill
    }

    /// Chooses a guest and tells it to end, or only counts it. Says whose memory
    /// to wait for.
    fn step(&self) -> (Option<Arc<GuestStatus>>, Option<KillReport>) {
        let counted = self.log().counted.clone();
        // Each in the status that it is looked at in, whatever happens to it meanwhile.
        let mut statuses = Vec::new();
        let mut guests: Vec<(Stage, Candidate)> = self
            .guests
            .iter()
            .enumerate()
            .map(|(index, entry)| {
                let status = entry.status();
                let stage = match counted.contains(&index) {
                    true => Stage::Exited,
                    false => status.stage(),
                };
                let candidate = Candidate {
                    guest: entry.name.clone(),
                    score: entry.score,
                    last_busy: status.last_busy(),
                    bytes: 0,
                };
                statuses.push(status);
                (stage, candidate)
            })
            .collect();
        // It may have panicked before.
        let mut hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = |index: usize| statuses[index].bytes();
        let choice = choose(
            &mut guests,
            self.floor,
            bytes,
            |candidate| match &mut *hook {
                Some(hook) => hook(candidate),
                None => Verdict::Kill,
            },
        );
        drop(hook);
        let mut log = self.log();
        let index = match choice {
            Choice::Nobody => return (None, None),
            Choice::Wait(index) => return (Some(statuses.swap_remove(index)), None),
            Choice::Kill(index) => index,
        };
        let OomEntry { name, score, .. } = &self.guests[index];
        let status = statuses.swap_remove(index);
        let kill = KillReport {
            guest: name.clone(),
            score: *score,
            reason: format!("the host is short of memory, and its score is {score}"),
            bytes: guests[index].1.bytes,
            dry_run: self.on_pressure == OnPressure::DryRun,
        };
        if kill.dry_run {
            log.counted.push(index);
        } else {
            let told = StopReason {
                reason: kill.reason.as_str().into(),
                app_shutdown: false,
            };
            if !status.end(told) {
                // Somebody else was faster.
                return (Some(status), None);
            }
            if let Some(engine) = self.engine.get() {
                engine.increment_epoch();
            }
        }
        tracing::warn!(
            guest = kill.guest,
            score,
            bytes = kill.bytes,
            "{}",
            match kill.dry_run {
                true => "memory is short: the guest would be ended",
                false => "memory is short: the guest is ended",
            }
        );
        log.total += 1;
        if log.kills.len() >= RECORDS {
            log.kills.pop_front();
        }
        log.kills.push_back(kill.clone());
        (
            match kill.dry_run {
                true => None,
                false => Some(status),
            },
            Some(kill),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::status::ExitGuard;
    use super::*;

    /// Guests by score, seconds since they were busy, and bytes.
    fn guests(all: &[(u16, u64, u64)]) -> Vec<(Stage, Candidate)> {
        let now = Instant::now() + Duration::from_secs(1 << 20);
        all.iter()
            .enumerate()
            .map(|(index, (score, idle, bytes))| {
                let candidate = Candidate {
                    guest: index.to_string(),
                    score: *score,
                    last_busy: now - Duration::from_secs(*idle),
                    bytes: *bytes,
                };
                (Stage::Alive, candidate)
            })
            .collect()
    }

    /// Chooses among guests whose bytes are known.
    fn choose(
        guests: &[(Stage, Candidate)],
        floor: u16,
        ask: impl FnMut(&Candidate) -> Verdict,
    ) -> Choice {
        let bytes = |index: usize| guests[index].1.bytes;
        super::choose(&mut guests.to_vec(), floor, bytes, ask)
    }

    fn end(_: &Candidate) -> Verdict {
        Verdict::Kill
    }

    #[test]
    fn highest_score_goes_first() {
        let guests = guests(&[(500, 9, 1), (900, 1, 1), (899, 9, 9)]);
        assert_eq!(choose(&guests, 1, end), Choice::Kill(1));
    }

    #[test]
    fn within_a_score_who_was_busy_longest_ago_goes_first() {
        let guests = guests(&[(500, 1, 9), (500, 3, 1), (500, 2, 9)]);
        assert_eq!(choose(&guests, 1, end), Choice::Kill(1));
    }

    #[test]
    fn nobody_below_the_floor_is_ended() {
        let all = guests(&[(0, 1, 1), (1, 1, 1)]);
        assert_eq!(choose(&all, 0, end), Choice::Kill(1));
        assert_eq!(choose(&all, 1, end), Choice::Kill(1));
        assert_eq!(choose(&all, 2, end), Choice::Nobody);
        assert_eq!(choose(&all[..1], 1, end), Choice::Nobody);
        assert_eq!(choose(&all[..1], 0, end), Choice::Kill(0));
    }

    #[test]
    fn whose_end_frees_nothing_is_skipped() {
        let all = guests(&[(1000, 9, 0), (1, 1, 1)]);
        assert_eq!(choose(&all, 1, end), Choice::Kill(1));
        assert_eq!(choose(&all[..1], 1, end), Choice::Nobody);
    }

    #[test]
    fn nobody_is_looked_at_whose_turn_it_is_not() {
        let mut all = guests(&[(900, 1, 0), (800, 1, 7), (700, 1, 9)]);
        let bytes: Vec<u64> = all.iter().map(|(_, guest)| guest.bytes).collect();
        let mut looked_at = Vec::new();
        let bytes = |index: usize| {
            looked_at.push(index);
            bytes[index]
        };
        assert_eq!(super::choose(&mut all, 1, bytes, end), Choice::Kill(1));
        assert_eq!(looked_at, [0, 1]);
        assert_eq!(all[1].1.bytes, 7);
    }

    #[test]
    fn one_at_a_time() {
        let mut all = guests(&[(900, 1, 1), (1, 1, 1), (500, 1, 1)]);
        all[1].0 = Stage::Ending;
        let asked = |_: &Candidate| panic!("before the earlier one's memory is back");
        assert_eq!(choose(&all, 1, asked), Choice::Wait(1));
        all[1].0 = Stage::Exited;
        all[0].0 = Stage::Exited;
        assert_eq!(choose(&all, 1, end), Choice::Kill(2));
    }

    #[test]
    fn who_is_spared_leaves_it_to_the_next() {
        let all = guests(&[(900, 1, 1), (800, 1, 1), (700, 1, 1)]);
        let mut asked = Vec::new();
        let choice = choose(&all, 1, |candidate| {
            asked.push(candidate.guest.clone());
            match candidate.score {
                900 => Verdict::Spare,
                _ => Verdict::Kill,
            }
        });
        assert_eq!(choice, Choice::Kill(1));
        assert_eq!(asked, ["0", "1"]);
        assert_eq!(choose(&all, 1, |_| Verdict::Spare), Choice::Nobody);
    }

    #[test]
    fn last_score_of_a_guest_counts_and_others_have_the_middle_one() {
        let policy = OomPolicy {
            scores: vec![("a".into(), 1), ("b".into(), 2), ("a".into(), 3)],
            ..OomPolicy::default()
        };
        assert_eq!(
            [policy.score("a"), policy.score("b"), policy.score("c")],
            [3, 2, 500]
        );
    }

    fn killer(on_pressure: OnPressure, bytes: &[u64]) -> (Arc<OomKiller>, Vec<ExitGuard>) {
        let statuses: Vec<Arc<GuestStatus>> = bytes
            .iter()
            .map(|bytes| {
                let owner = tombolo::RegionHost::new()
                    .context("a")
                    .build()
                    .owner()
                    .clone();
                let bytes = *bytes;
                Arc::new(GuestStatus::new(
                    move || bytes,
                    tombolo::RegionHost::new(),
                    owner,
                ))
            })
            .collect();
        let last = statuses.iter().cloned().map(ExitGuard).collect();
        let names = (0..).map(|index: usize| index.to_string());
        let policy = OomPolicy {
            on_pressure,
            ..OomPolicy::default()
        };
        (OomKiller::new(policy, names.zip(statuses).collect()), last)
    }

    /// Lets others run until the guest was told to end.
    async fn ending(status: &GuestStatus) {
        while status.stage() != Stage::Ending {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn memory_of_the_one_is_back_before_the_next_is_told() {
        let (killer, mut last) = killer(OnPressure::Kill, &[1, 2]);
        let kill_for_memory = || {
            let killer = killer.clone();
            tokio::spawn(async move { killer.kill_for_memory().await })
        };
        let (one, other) = (kill_for_memory(), kill_for_memory());
        ending(&killer.guests[0].status()).await;
        assert!(!one.is_finished() && !other.is_finished());
        assert_eq!(killer.guests[1].status().stage(), Stage::Alive);
        drop(last.remove(0));
        let kill = one.await.unwrap().unwrap();
        assert_eq!((&*kill.guest, kill.score, kill.bytes), ("0", 500, 1));
        assert_eq!(other.await.unwrap(), None, "it ended nobody");
        assert_eq!(killer.guests[1].status().stage(), Stage::Alive);
        assert_eq!(killer.kills(), (vec![kill], 1));
    }

    /// A guest may be started again while it is looked at: its next status is spared,
    /// and not waited for.
    #[tokio::test]
    async fn life_that_was_looked_at_is_the_one_that_ends() {
        let (killer, mut last) = killer(OnPressure::Kill, &[1]);
        let (other, _others) = self::killer(OnPressure::Kill, &[0]);
        let next = other.guests[0].status();
        let hook = {
            let (killer, next) = (Arc::downgrade(&killer), next.clone());
            move |_: &Candidate| {
                killer.upgrade().unwrap().on_restart(0, next.clone());
                Verdict::Kill
            }
        };
        *killer.hook.lock().unwrap() = Some(Box::new(hook));
        let old = killer.guests[0].status();
        let kill_for_memory = tokio::spawn({
            let killer = killer.clone();
            async move { killer.kill_for_memory().await }
        });
        ending(&old).await;
        assert_eq!((old.stage(), next.stage()), (Stage::Ending, Stage::Alive));
        drop(last.remove(0));
        assert_eq!(kill_for_memory.await.unwrap().unwrap().bytes, 1);
    }

    #[tokio::test]
    async fn who_waits_no_more_still_leaves_one_at_a_time() {
        let (killer, last) = killer(OnPressure::Kill, &[1, 2]);
        let first = killer.guests[0].status();
        tokio::select! {
            biased;
            _ = killer.kill_for_memory() => panic!("its memory is not back"),
            () = ending(&first) => {}
        }
        // The thread that chose the guest may still have the turn for an instant.
        drop(killer.turn.lock().await);
        let kill_for_memory =
            tokio::time::timeout(Duration::from_millis(50), killer.kill_for_memory());
        assert!(kill_for_memory.await.is_err(), "its memory is not back");
        assert_eq!(killer.guests[1].status().stage(), Stage::Alive);
        assert_eq!(killer.kills().0.len(), 1);
        drop(last);
    }

    #[tokio::test]
    async fn counting_ends_nobody_and_counts_each_once() {
        let (killer, _last) = killer(OnPressure::DryRun, &[1, 2]);
        let counted: Vec<_> = [
            killer.kill_for_memory().await,
            killer.kill_for_memory().await,
        ]
        .into_iter()
        .flatten()
        .map(|kill| (kill.guest, kill.dry_run))
        .collect();
        assert_eq!(counted, [("0".to_owned(), true), ("1".to_owned(), true)]);
        assert_eq!(killer.kill_for_memory().await, None);
        for entry in &killer.guests {
            assert_eq!(entry.status().stage(), Stage::Alive);
        }
    }

    #[tokio::test]
    async fn where_purging_is_all_nobody_is_ended() {
        let (killer, _last) = killer(OnPressure::Purge, &[1]);
        assert_eq!(killer.kill_for_memory().await, None);
        assert_eq!(killer.kills(), (vec![], 0));
    }
}
