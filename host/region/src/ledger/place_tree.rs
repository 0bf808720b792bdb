//! A segment tree of places in the queue, to find which waiter comes before which.

use std::collections::BTreeMap;

use super::{ClaimId, WaiterId};
use crate::span::Span;

/// The index that stands for no node.
const NONE: u32 = u32::MAX;

/// The maximum number of places of one claim that a search skips to find another claim's.
const OWN: usize = 8;

/// A place in the queue: its number, which is smaller for earlier waiters, and its waiter.
pub(super) type QueuePlace = (u64, WaiterId);

/// The places in the queue, each on a span of granules. Adding or removing a place and finding
/// the first one on a span take logarithmic time, in the region's size and the number of places.
///
/// Each node stands for a run of granules: the root for all of them, its children for the
/// halves. A place is noted in the few nodes that make up its span.
#[derive(Debug)]
pub(super) struct PlaceTree {
    granules: u64,
    nodes: Vec<PlaceNode>,
    free: Vec<u32>,
    root: u32,
}

#[derive(Debug, Default)]
struct PlaceNode {
    left: Option<u32>,
    right: Option<u32>,
    /// The places whose span has all of the node's granules, and not all of its parent's.
    here: BTreeMap<QueuePlace, ClaimId>,
    /// The places on any of the node's granules.
    all: BTreeMap<QueuePlace, ClaimId>,
    /// The first place of `here`.
    first_here: Option<First>,
    /// The first place of `all`.
    first: Option<First>,
}

/// The first place, and the first one of any other claim.
#[derive(Clone, Copy, Debug)]
struct First {
    place: QueuePlace,
    claim: ClaimId,
    other: Option<QueuePlace>,
}

impl First {
    fn join(one: Option<First>, other: Option<First>) -> Option<First> {
        let (Some(one), Some(two)) = (one, other) else {
            return one.or(other);
        };
        let (first, then) = match one.place <= two.place {
            true => (one, two),
            false => (two, one),
        };
        let beside = match then.claim == first.claim {
            true => then.other,
            false => Some(then.place),
        };
        let other = first.other.into_iter().chain(beside).min();
        Some(First { other, ..first })
    }

    fn of(here: &BTreeMap<QueuePlace, ClaimId>) -> Option<First> {
        let (place, claim) = here.first_key_value()?;
        let mut others = here.iter().filter(|(_, it)| *it != claim);
        Some(First {
            place: *place,
            claim: *claim,
            other: others.next().map(|(place, _)| *place),
        })
    }

    fn except(self, claim: ClaimId) -> Option<QueuePlace> {
        match self.claim == claim {
            true => self.other,
            false => Some(self.place),
        }
    }
}

/// A change to a place.
#[derive(Clone, Copy)]
enum Change {
    Insert(ClaimId),
    Remove,
}

impl PlaceTree {
    /// Creates an empty tree for a region of so many granules.
    pub(super) fn new(granules: u64) -> PlaceTree {
        PlaceTree {
            granules: granules.max(1).next_power_of_two(),
            nodes: Vec::new(),
            free: Vec::new(),
            root: NONE,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.root == NONE
    }

    pub(super) fn insert(&mut self, place: QueuePlace, span: Span, claim: ClaimId) {
        self.change(place, span, Change::Insert(claim));
    }

    pub(super) fn remove(&mut self, place: QueuePlace, span: Span) {
        self.change(place, span, Change::Remove);
    }

    fn change(&mut self, place: QueuePlace, span: Span, change: Change) {
        let root = match self.root {
            NONE => None,
            root => Some(root),
        };
        let root = self.change_below(root, (0, self.granules), place, span, change);
        self.root = root.unwrap_or(NONE);
        if self.root == NONE {
            self.nodes.clear();
            self.free.clear();
        }
    }

    /// Changes a place below a node, which stands for the granules from `start` to `end`.
    /// Returns the node, unless it is empty now.
    fn change_below(
        &mut self,
        at: Option<u32>,
        (start, end): (u64, u64),
        place: QueuePlace,
        span: Span,
        change: Change,
    ) -> Option<u32> {
        let granules = span.granules();
        if granules.end <= start || end <= granules.start {
            return at;
        }
        let at = match (at, change) {
            (Some(at), _) => at,
            (None, Change::Insert(_)) => self.node(),
            (None, Change::Remove) => return None,
        };
        let all = &mut self.nodes[at as usize].all;
        match change {
            Change::Insert(claim) => all.insert(place, claim),
            Change::Remove => all.remove(&place),
        };
        if granules.start <= start && end <= granules.end {
            let node = &mut self.nodes[at as usize];
            match change {
                Change::Insert(claim) => node.here.insert(place, claim),
                Change::Remove => node.here.remove(&place),
            };
            node.first_here = First::of(&node.here);
        } else {
            let middle = start + (end - start) / 2;
            let (left, right) = (self.nodes[at as usize].left, self.nodes[at as usize].right);
            let left = self.change_below(left, (start, middle), place, span, change);
            let right = self.change_below(right, (middle, end), place, span, change);
            let node = &mut self.nodes[at as usize];
            (node.left, node.right) = (left, right);
        }
        let node = &self.nodes[at as usize];
        let below = First::join(self.first(node.left), self.first(node.right));
        let first = First::join(node.first_here, below);
        self.nodes[at as usize].first = first;
        if first.is_none() {
            self.free.push(at);
            return None;
        }
        Some(at)
    }

    fn node(&mut self) -> u32 {
        if let Some(at) = self.free.pop() {
            self.nodes[at as usize] = PlaceNode::default();
            return at;
        }
        self.nodes.push(PlaceNode::default());
        u32::try_from(self.nodes.len() - 1).expect("handles, and so waiters, are limited to fewer")
    }

    fn first(&self, at: Option<u32>) -> Option<First> {
        self.nodes[at? as usize].first
    }

    /// Returns the first place on a span, except for those of a claim.
    pub(super) fn earliest(&self, span: Span, except: ClaimId) -> Option<QueuePlace> {
        let root = match self.root {
            NONE => return None,
            root => Some(root),
        };
        self.earliest_below(root, (0, self.granules), span, except)
    }

    /// Returns the last place on a span that comes before a `place`, except for those of a
    /// claim. If that claim has many places itself, it may return an earlier one.
    pub(super) fn latest(&self, span: Span, except: ClaimId, place: u64) -> Option<QueuePlace> {
        let first = self.earliest(span, except)?;
        if first.0 >= place {
            return None;
        }
        let last = self.latest_below(self.root, (0, self.granules), span, except, place);
        last.or(Some(first))
    }

    fn latest_below(
        &self,
        at: u32,
        (start, end): (u64, u64),
        span: Span,
        except: ClaimId,
        place: u64,
    ) -> Option<QueuePlace> {
        let granules = span.granules();
        if granules.end <= start || end <= granules.start {
            return None;
        }
        let last = |places: &BTreeMap<QueuePlace, ClaimId>| {
            let before = places.range(..(place, WaiterId(0))).rev().take(OWN);
            let mut others = before.filter(|(_, claim)| **claim != except);
            others.next().map(|(place, _)| *place)
        };
        let node = &self.nodes[at as usize];
        if granules.start <= start && end <= granules.end {
            return last(&node.all);
        }
        let middle = start + (end - start) / 2;
        let below = |at: Option<u32>, run| self.latest_below(at?, run, span, except, place);
        let left = below(node.left, (start, middle));
        let right = below(node.right, (middle, end));
        last(&node.here).max(left).max(right)
    }

    fn earliest_below(
        &self,
        at: Option<u32>,
        (start, end): (u64, u64),
        span: Span,
        except: ClaimId,
    ) -> Option<QueuePlace> {
        let granules = span.granules();
        if granules.end <= start || end <= granules.start {
            return None;
        }
        let node = &self.nodes[at? as usize];
        if granules.start <= start && end <= granules.end {
            return node.first.and_then(|first| first.except(except));
        }
        let middle = start + (end - start) / 2;
        let here = node.first_here.and_then(|first| first.except(except));
        let left = self.earliest_below(node.left, (start, middle), span, except);
        let right = self.earliest_below(node.right, (middle, end), span, except);
        here.into_iter().chain(left).chain(right).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_same_as_a_linear_search() {
        let mut state = 1_u64;
        let mut below = |most: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % most
        };
        let granules = 37;
        let mut tree = PlaceTree::new(granules);
        let mut all: Vec<(QueuePlace, Span, ClaimId)> = Vec::new();
        for round in 0..if cfg!(miri) { 100 } else { 20_000 } {
            let mut span = || {
                let start = below(granules);
                Span::of_granules(start..start + 1 + below(granules - start))
            };
            let (asked, new) = (span(), span());
            let more = if round / 150 % 2 == 0 { 3 } else { 1 };
            if all.is_empty() || below(4) < more {
                let place = (below(1000), WaiterId(round));
                let claim = ClaimId(below(3));
                tree.insert(place, new, claim);
                all.push((place, new, claim));
            } else {
                let at = below(all.len() as u64);
                let (place, span, _) = all.swap_remove(usize::try_from(at).unwrap());
                tree.remove(place, span);
            }
            let except = ClaimId(below(3));
            let places = all.iter();
            let places = places.filter(|(_, it, claim)| it.overlaps(asked) && *claim != except);
            let expected = places.map(|(place, ..)| *place).min();
            assert_eq!(tree.earliest(asked, except), expected);
            let before = below(1000);
            let places = all.iter().filter(|(_, it, _)| it.overlaps(asked));
            let places = places.filter(|(place, ..)| place.0 < before);
            let own = places
                .clone()
                .filter(|(.., claim)| *claim == except)
                .count();
            let others = places.filter(|(.., claim)| *claim != except);
            let expected = others.map(|(place, ..)| *place).max();
            let latest = tree.latest(asked, except, before);
            assert_eq!(latest.is_some(), expected.is_some());
            assert!(
                latest == expected || own >= OWN,
                "{latest:?}, not {expected:?}"
            );
            assert_eq!(tree.is_empty(), all.is_empty());
        }
    }
}
