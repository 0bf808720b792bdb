//! Which guest is ended when memory is short: a pure choice among candidates.

use std::cmp::Reverse;
use std::fmt;
use std::time::Instant;

use super::status::Stage;
use tombolo_exchange::GuestId;

/// The score of a guest for which none was set.
const DEFAULT_SCORE: u16 = 500;

/// The highest score and floor.
pub(super) const MAX_SCORE: u16 = 1000;

/// Guests with a score of 0 are never ended by default.
const DEFAULT_FLOOR: u16 = 1;

/// The action to take when memory is short and purging has freed nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnPressure {
    /// Does nothing besides purging.
    #[default]
    Purge,
    /// Counts what [`Kill`](OnPressure::Kill) would have done. Each guest counts once,
    /// because it would be gone then.
    DryRun,
    /// Ends a guest.
    Kill,
}

/// A guest that may be ended to free memory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Candidate {
    /// The guest's name.
    pub guest: String,
    /// The guest's score, from 0 to 1000: the higher it is, the sooner the guest is ended.
    pub score: u16,
    /// When the guest ran last. A guest that waits, in a host call or for another guest,
    /// does not run.
    pub last_busy: Instant,
    /// The bytes that its end would free. They are the resident bytes of its linear
    /// memories and of regions on which no other guest has a claim, and the host memory on
    /// its account, in steps of 64 KiB.
    pub bytes: u64,
}

/// The answer of a hook that is asked before a guest is ended; see
/// [`AppBuilder::before_kill`](super::AppBuilder::before_kill).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The guest may be ended.
    Kill,
    /// The guest is spared this time. The hook is asked about the next one.
    Spare,
}

pub(super) type Hook = Box<dyn FnMut(&Candidate) -> Verdict + Send>;

/// The operator's settings for when memory is short.
pub(super) struct OomPolicy {
    pub(super) on_pressure: OnPressure,
    pub(super) floor: u16,
    /// The scores that were set, by the guests' names.
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
    /// Returns the score of a guest. The last one that was set for it counts.
    pub(super) fn score(&self, guest: &str) -> u16 {
        let given = self.scores.iter().rev().find(|(name, _)| name == guest);
        given.map_or(DEFAULT_SCORE, |(_, score)| *score)
    }
}

/// A guest, as the policy looks at it.
#[derive(Clone)]
pub(super) struct RatedGuest {
    pub(super) id: GuestId,
    pub(super) stage: Stage,
    pub(super) candidate: Candidate,
}

/// The choice of one of several guests.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Wait for the memory of this one, and end none before.
    Wait(GuestId),
    /// End none at all.
    Nobody,
    /// End this one.
    Kill(GuestId),
}

/// Chooses the guest to end. It lives, is not below the floor, frees memory by its end, and
/// is not spared by the hook. Of those, it has the highest score. Among equal scores, it was
/// busy longest ago.
///
/// `bytes` returns what the end of a guest would free, which may take a while. It is asked
/// only about guests whose turn it would be, and the answer is noted in the candidate.
pub(super) fn choose(
    guests: &mut [RatedGuest],
    floor: u16,
    mut bytes: impl FnMut(GuestId) -> u64,
    mut ask: impl FnMut(&Candidate) -> Verdict,
) -> Choice {
    if let Some(ending) = guests.iter().find(|guest| guest.stage == Stage::Ending) {
        return Choice::Wait(ending.id);
    }
    let mut order: Vec<&mut RatedGuest> = guests
        .iter_mut()
        .filter(|guest| guest.stage == Stage::Alive && guest.candidate.score >= floor)
        .collect();
    order.sort_by_key(|guest| {
        let candidate = &guest.candidate;
        (Reverse(candidate.score), candidate.last_busy)
    });
    for RatedGuest { id, candidate, .. } in order {
        candidate.bytes = bytes(*id);
        if candidate.bytes > 0 && ask(candidate) == Verdict::Kill {
            return Choice::Kill(*id);
        }
    }
    Choice::Nobody
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Returns guests by score, seconds since they were busy, and bytes.
    fn guests(all: &[(u16, u64, u64)]) -> Vec<RatedGuest> {
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
                RatedGuest {
                    id: GuestId::new(index),
                    stage: Stage::Alive,
                    candidate,
                }
            })
            .collect()
    }

    /// Chooses among guests whose bytes are known.
    fn choose(guests: &[RatedGuest], floor: u16, ask: impl FnMut(&Candidate) -> Verdict) -> Choice {
        let bytes = |guest: GuestId| guests[guest.index()].candidate.bytes;
        super::choose(&mut guests.to_vec(), floor, bytes, ask)
    }

    fn kill(guest: usize) -> Choice {
        Choice::Kill(GuestId::new(guest))
    }

    fn end(_: &Candidate) -> Verdict {
        Verdict::Kill
    }

    // rule 8
    #[test]
    fn highest_score_goes_first() {
        let guests = guests(&[(500, 9, 1), (900, 1, 1), (899, 9, 9)]);
        assert_eq!(choose(&guests, 1, end), kill(1));
    }

    // rule 8
    #[test]
    fn equal_scores_go_by_longest_idle() {
        let guests = guests(&[(500, 1, 9), (500, 3, 1), (500, 2, 9)]);
        assert_eq!(choose(&guests, 1, end), kill(1));
    }

    // rule 8
    #[test]
    fn floor_protects_lower_scores() {
        let all = guests(&[(0, 1, 1), (1, 1, 1)]);
        assert_eq!(choose(&all, 0, end), kill(1));
        assert_eq!(choose(&all, 1, end), kill(1));
        assert_eq!(choose(&all, 2, end), Choice::Nobody);
        assert_eq!(choose(&all[..1], 1, end), Choice::Nobody);
        assert_eq!(choose(&all[..1], 0, end), kill(0));
    }

    // rule 8
    #[test]
    fn guest_that_frees_nothing_is_skipped() {
        let all = guests(&[(1000, 9, 0), (1, 1, 1)]);
        assert_eq!(choose(&all, 1, end), kill(1));
        assert_eq!(choose(&all[..1], 1, end), Choice::Nobody);
    }

    #[test]
    fn only_guests_in_turn_are_measured() {
        let mut all = guests(&[(900, 1, 0), (800, 1, 7), (700, 1, 9)]);
        let bytes: Vec<u64> = all.iter().map(|guest| guest.candidate.bytes).collect();
        let mut measured = Vec::new();
        let bytes = |guest: GuestId| {
            measured.push(guest.index());
            bytes[guest.index()]
        };
        assert_eq!(super::choose(&mut all, 1, bytes, end), kill(1));
        assert_eq!(measured, [0, 1]);
        assert_eq!(all[1].candidate.bytes, 7);
    }

    // rule 8
    #[test]
    fn one_at_a_time() {
        let mut all = guests(&[(900, 1, 1), (1, 1, 1), (500, 1, 1)]);
        all[1].stage = Stage::Ending;
        let asked = |_: &Candidate| panic!("the memory of the earlier guest is not freed yet");
        assert_eq!(choose(&all, 1, asked), Choice::Wait(GuestId::new(1)));
        all[1].stage = Stage::Exited;
        all[0].stage = Stage::Exited;
        assert_eq!(choose(&all, 1, end), kill(2));
    }

    // rule 8
    #[test]
    fn spared_guest_passes_the_turn_on() {
        let all = guests(&[(900, 1, 1), (800, 1, 1), (700, 1, 1)]);
        let mut asked = Vec::new();
        let choice = choose(&all, 1, |candidate| {
            asked.push(candidate.guest.clone());
            match candidate.score {
                900 => Verdict::Spare,
                _ => Verdict::Kill,
            }
        });
        assert_eq!(choice, kill(1));
        assert_eq!(asked, ["0", "1"]);
        assert_eq!(choose(&all, 1, |_| Verdict::Spare), Choice::Nobody);
    }

    // rule 8
    #[test]
    fn last_score_counts_and_500_is_the_default() {
        let policy = OomPolicy {
            scores: vec![("a".into(), 1), ("b".into(), 2), ("a".into(), 3)],
            ..OomPolicy::default()
        };
        assert_eq!(
            [policy.score("a"), policy.score("b"), policy.score("c")],
            [3, 2, 500]
        );
    }
}
