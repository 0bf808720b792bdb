//! Ending guests when memory is short, one at a time.
//!
//! The host asks the kernel (`/proc/self/pagemap`) how much the end of a guest would free. It
//! does so on a thread that may block, and only about the guest whose turn it is: linear
//! memories are large and mostly untouched. The zero pages that a memory began with do not
//! count.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use wasmtime::Engine;

use super::oom_policy::{Candidate, Choice, OnPressure, OomPolicy, RatedGuest, Verdict, choose};
use super::report::{KillReport, RECORDS};
use super::status::{GuestStatus, Stage, StopReason};
use tombolo_exchange::GuestId;

/// A guest as the OOM killer sees it: in the incarnation that it has at that moment.
#[derive(Clone)]
pub(super) struct GuestView {
    pub(super) id: GuestId,
    pub(super) name: Arc<str>,
    pub(super) status: Arc<GuestStatus>,
}

/// Ends guests to free memory, as its policy says, and keeps a log of that.
pub(super) struct OomKiller {
    /// Locked while the hook is asked, which may take long.
    policy: Mutex<OomPolicy>,
    on_pressure: OnPressure,
    log: Mutex<KillLog>,
    /// Held from the choice of a guest until its memory is freed, so that two are never
    /// ended at once.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The engine of the guests. Its epoch is advanced after a kill, so that the guest
    /// notices at once and not at the next tick: it could fill the memory that is left.
    engine: Option<Engine>,
}

struct KillLog {
    /// The guests that would be gone if this were not a dry run.
    counted: Vec<GuestId>,
    /// The last kills.
    kills: VecDeque<KillReport>,
    total: u64,
}

impl OomKiller {
    pub(super) fn new(policy: OomPolicy, engine: Option<Engine>) -> Arc<OomKiller> {
        Arc::new(OomKiller {
            on_pressure: policy.on_pressure,
            policy: Mutex::new(policy),
            log: Mutex::new(KillLog {
                counted: Vec::new(),
                kills: VecDeque::new(),
                total: 0,
            }),
            turn: Arc::default(),
            engine,
        })
    }

    fn log(&self) -> MutexGuard<'_, KillLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the last kills, and how many there were in all.
    pub(super) fn kills(&self) -> (Vec<KillReport>, u64) {
        let log = self.log();
        (log.kills.iter().cloned().collect(), log.total)
    }

    /// Ends at most one of the guests that `views` returns, as the policy says, and waits
    /// until its memory is freed. To be called on a tokio runtime.
    ///
    /// # Panics
    ///
    /// If the hook panics. No guest is ended then.
    pub(super) async fn kill_for_memory(
        self: &Arc<Self>,
        views: impl Fn() -> Vec<GuestView> + Clone + Send + 'static,
    ) -> Option<KillReport> {
        if self.on_pressure == OnPressure::Purge {
            return None;
        }
        let Ok(turn) = self.turn.clone().try_lock_owned() else {
            // The kill that is under way may free enough.
            drop(self.turn.lock().await);
            return None;
        };
        // Measuring memories takes a while, in which guests go on. So it has a thread, which
        // keeps the turn even if this future is dropped.
        let (tell, told) = oneshot::channel();
        let step = {
            let (killer, views) = (self.clone(), views.clone());
            move || {
                let step = AssertUnwindSafe(|| killer.step(&views()));
                let _ = tell.send((std::panic::catch_unwind(step), turn));
            }
        };
        let thread = std::thread::Builder::new().name("tombolo-oom".into());
        let (step, _turn) = match thread.spawn(step) {
            Ok(_) => told.await.expect("the thread sends a result"),
            // Memory is short, so there may be none for a thread: then it runs here.
            Err(_) => {
                let turn = self.turn.clone().lock_owned().await;
                (Ok(self.step(&views())), turn)
            }
        };
        let (status, kill) = match step {
            Ok(chosen) => chosen,
            // A panic of the hook.
            Err(panic) => std::panic::resume_unwind(panic),
        };
        if let Some(status) = status {
            status.exited().await;
        }
        kill
    }

    /// Chooses a guest and tells it to end, or only counts it. Returns the status of the
    /// guest whose memory to wait for.
    fn step(&self, views: &[GuestView]) -> (Option<Arc<GuestStatus>>, Option<KillReport>) {
        let (choice, rated) = self.choose(views);
        let id = match choice {
            Choice::Nobody => return (None, None),
            Choice::Wait(id) => return (Some(view(views, id).status.clone()), None),
            Choice::Kill(id) => id,
        };
        let status = &view(views, id).status;
        let chosen = rated.into_iter().find(|guest| guest.id == id);
        let Candidate {
            guest,
            score,
            bytes,
            ..
        } = chosen.expect("it was chosen among them").candidate;
        let kill = KillReport {
            guest,
            score,
            reason: format!("the host is short of memory, and its score is {score}"),
            bytes,
            dry_run: self.on_pressure == OnPressure::DryRun,
        };
        let mut log = self.log();
        if kill.dry_run {
            log.counted.push(id);
        } else {
            let reason = StopReason {
                reason: kill.reason.as_str().into(),
                app_shutdown: false,
            };
            if !status.end(reason) {
                // It was told to end for another reason first.
                return (Some(status.clone()), None);
            }
            if let Some(engine) = &self.engine {
                engine.increment_epoch();
            }
        }
        tracing::warn!(
            guest = kill.guest,
            score,
            bytes,
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
        ((!kill.dry_run).then(|| status.clone()), Some(kill))
    }

    /// Chooses among the guests, and asks the hook.
    fn choose(&self, views: &[GuestView]) -> (Choice, Vec<RatedGuest>) {
        let counted = self.log().counted.clone();
        // An earlier hook may have panicked.
        let mut policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = |view: &GuestView| RatedGuest {
            id: view.id,
            stage: match counted.contains(&view.id) {
                true => Stage::Exited,
                false => view.status.stage(),
            },
            candidate: Candidate {
                guest: view.name.to_string(),
                score: policy.score(&view.name),
                last_busy: view.status.last_busy(),
                bytes: 0,
            },
        };
        let mut guests: Vec<_> = views.iter().map(rate).collect();
        let bytes = |id: GuestId| view(views, id).status.bytes();
        let floor = policy.floor;
        let choice = choose(&mut guests, floor, bytes, |candidate| {
            match &mut policy.hook {
                Some(hook) => hook(candidate),
                None => Verdict::Kill,
            }
        });
        (choice, guests)
    }
}

/// Returns the view of one of these guests.
fn view(views: &[GuestView], id: GuestId) -> &GuestView {
    let mut views = views.iter();
    views.find(|view| view.id == id).expect("it is one of them")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::status::ExitGuard;
    use super::*;
    use tombolo::RegionHost;
    use tombolo::internal::RegionCtxInternals as _;

    type Guests = Arc<Mutex<Vec<GuestView>>>;

    /// An OOM killer and its guests, by the bytes that their ends would free.
    struct Setup {
        killer: Arc<OomKiller>,
        guests: Guests,
        guards: Vec<ExitGuard>,
    }

    fn status(bytes: u64) -> Arc<GuestStatus> {
        let owner = RegionHost::new().context("a").build().owner().clone();
        Arc::new(GuestStatus::new(move || bytes, RegionHost::new(), owner))
    }

    fn setup(policy: OomPolicy, guests: Guests) -> Setup {
        let views = guests.lock().unwrap().clone();
        let guards = views.into_iter().map(|view| ExitGuard(view.status));
        Setup {
            killer: OomKiller::new(policy, None),
            guests,
            guards: guards.collect(),
        }
    }

    fn guests(bytes: &[u64]) -> Guests {
        let guests = bytes.iter().enumerate().map(|(index, bytes)| GuestView {
            id: GuestId::new(index),
            name: index.to_string().into(),
            status: status(*bytes),
        });
        Arc::new(Mutex::new(guests.collect()))
    }

    fn with(on_pressure: OnPressure, bytes: &[u64]) -> Setup {
        let policy = OomPolicy {
            on_pressure,
            ..OomPolicy::default()
        };
        setup(policy, guests(bytes))
    }

    impl Setup {
        fn status(&self, index: usize) -> Arc<GuestStatus> {
            self.guests.lock().unwrap()[index].status.clone()
        }

        fn kill(&self) -> impl Future<Output = Option<KillReport>> + Send + 'static {
            let (killer, guests) = (self.killer.clone(), self.guests.clone());
            async move {
                killer
                    .kill_for_memory(move || guests.lock().unwrap().clone())
                    .await
            }
        }
    }

    /// Lets other tasks run until the guest was told to end.
    async fn ending(status: &GuestStatus) {
        while status.stage() != Stage::Ending {
            tokio::task::yield_now().await;
        }
    }

    // rule 8
    #[tokio::test]
    async fn one_memory_is_freed_before_the_next_kill() {
        let mut setup = with(OnPressure::Kill, &[1, 2]);
        let (one, other) = (tokio::spawn(setup.kill()), tokio::spawn(setup.kill()));
        ending(&setup.status(0)).await;
        assert!(!one.is_finished() && !other.is_finished());
        assert_eq!(setup.status(1).stage(), Stage::Alive);
        drop(setup.guards.remove(0));
        let kill = one.await.unwrap().unwrap();
        assert_eq!((&*kill.guest, kill.score, kill.bytes), ("0", 500, 1));
        assert_eq!(other.await.unwrap(), None, "it ended no guest");
        assert_eq!(setup.status(1).stage(), Stage::Alive);
        assert_eq!(setup.killer.kills(), (vec![kill], 1));
    }

    /// A guest may be restarted while it is measured. Its next incarnation is spared, and
    /// not waited for.
    // rule 8
    #[tokio::test]
    async fn measured_incarnation_is_the_one_killed() {
        let guests = guests(&[1]);
        let next = status(0);
        let policy = OomPolicy {
            on_pressure: OnPressure::Kill,
            hook: Some({
                let (guests, next) = (guests.clone(), next.clone());
                Box::new(move |_: &Candidate| {
                    guests.lock().unwrap()[0].status = next.clone();
                    Verdict::Kill
                })
            }),
            ..OomPolicy::default()
        };
        let mut setup = setup(policy, guests);
        let old = setup.status(0);
        let kill = tokio::spawn(setup.kill());
        ending(&old).await;
        assert_eq!((old.stage(), next.stage()), (Stage::Ending, Stage::Alive));
        drop((old, setup.guards.remove(0)));
        assert_eq!(kill.await.unwrap().unwrap().bytes, 1);
    }

    // rule 8
    #[tokio::test]
    async fn dropped_call_keeps_its_turn() {
        let setup = with(OnPressure::Kill, &[1, 2]);
        let first = setup.status(0);
        tokio::select! {
            biased;
            _ = setup.kill() => panic!("its memory is not freed"),
            () = ending(&first) => {}
        }
        // The thread that chose the guest may still have the turn for an instant.
        drop(setup.killer.turn.lock().await);
        let kill = tokio::time::timeout(Duration::from_millis(50), setup.kill());
        assert!(kill.await.is_err(), "its memory is not freed");
        assert_eq!(setup.status(1).stage(), Stage::Alive);
        assert_eq!(setup.killer.kills().0.len(), 1);
    }

    // rule 8
    #[tokio::test]
    async fn dry_run_ends_none_and_counts_each_once() {
        let setup = with(OnPressure::DryRun, &[1, 2]);
        let counted: Vec<_> = [setup.kill().await, setup.kill().await]
            .into_iter()
            .flatten()
            .map(|kill| (kill.guest, kill.dry_run))
            .collect();
        assert_eq!(counted, [("0".to_owned(), true), ("1".to_owned(), true)]);
        assert_eq!(setup.kill().await, None);
        for index in 0..2 {
            assert_eq!(setup.status(index).stage(), Stage::Alive);
        }
    }

    // rule 8
    #[tokio::test]
    async fn purge_policy_ends_none() {
        let setup = with(OnPressure::Purge, &[1]);
        assert_eq!(setup.kill().await, None);
        assert_eq!(setup.killer.kills(), (vec![], 0));
    }
}
