//! The windows of a region: by identity, by where they are, and by whose they are.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Span;
use super::interval_tree::IntervalTree;
use super::{Access, ClaimId, LendId, WindowId, WindowRecord};

/// The windows of a region. What it costs to open, close and find one grows with the
/// logarithm of how many there are, also where many are on the same granules.
#[derive(Debug)]
pub(super) struct WindowIndex<P> {
    all: BTreeMap<WindowId, WindowRecord<P>>,
    /// All of them. Of few kinds: each store has its own live ones.
    places: BTreeMap<Access, IntervalTree>,
    /// The same, of each claim.
    of_claims: BTreeMap<(ClaimId, Access), IntervalTree>,
    through: BTreeSet<(ClaimId, Option<LendId>, WindowId)>,
}

impl<P> WindowIndex<P> {
    pub(super) fn new() -> WindowIndex<P> {
        WindowIndex {
            all: BTreeMap::new(),
            places: BTreeMap::new(),
            of_claims: BTreeMap::new(),
            through: BTreeSet::new(),
        }
    }

    pub(super) fn get(&self, id: WindowId) -> Option<&WindowRecord<P>> {
        self.all.get(&id)
    }

    /// Whether all of them only read.
    pub(super) fn only_read(&self) -> bool {
        let mut places = self.places.iter();
        places.all(|(access, places)| *access == Access::Read || places.is_empty())
    }

    pub(super) fn insert(&mut self, id: WindowId, window: WindowRecord<P>) {
        self.place(id, &window);
        self.through.insert((window.claim, window.via, id));
        self.all.insert(id, window);
    }

    pub(super) fn remove(&mut self, id: WindowId) -> Option<WindowRecord<P>> {
        let window = self.all.remove(&id)?;
        self.through.remove(&(window.claim, window.via, id));
        self.displace(id, &window);
        Some(window)
    }

    pub(super) fn set_access(&mut self, id: WindowId, access: Access) {
        if let Some(mut window) = self.all.remove(&id) {
            self.displace(id, &window);
            window.access = access;
            self.place(id, &window);
            self.all.insert(id, window);
        }
    }

    fn place(&mut self, id: WindowId, window: &WindowRecord<P>) {
        let places = self.places.entry(window.access);
        let places = places.or_insert_with(IntervalTree::new);
        places.insert(id, window.span, window.tag);
        let of_claim = self.of_claims.entry((window.claim, window.access));
        let of_claim = of_claim.or_insert_with(IntervalTree::new);
        of_claim.insert(id, window.span, window.tag);
    }

    fn displace(&mut self, id: WindowId, window: &WindowRecord<P>) {
        let (access, span) = (window.access, window.span);
        remove(&mut self.places, access, access, id, span);
        remove(
            &mut self.of_claims,
            (window.claim, access),
            access,
            id,
            span,
        );
    }

    /// A claim has ended, and has no window any more.
    pub(super) fn forget(&mut self, claim: ClaimId) {
        for access in [Access::Read, Access::Write] {
            self.of_claims.remove(&(claim, access));
        }
    }

    /// Finds a window on a span that sees as `sees` wants and is `accept`ed, among
    /// those whose tag is not in `without`.
    pub(super) fn find(
        &self,
        span: Span,
        sees: impl Fn(Access) -> bool,
        without: &[u64],
        mut accept: impl FnMut(WindowId, &WindowRecord<P>) -> bool,
    ) -> Option<WindowId> {
        let kinds = self.places.iter();
        let mut kinds = kinds.filter(|(other, _)| sees(**other));
        let mut accept = |id| accept(id, &self.all[&id]);
        kinds.find_map(|(_, places)| places.find(span, without, &mut accept))
    }

    /// As [`find`](WindowIndex::find), among the windows of one claim with which one of this
    /// access does not go together.
    pub(super) fn find_against(
        &self,
        claim: ClaimId,
        span: Span,
        access: Access,
        without: &[u64],
        mut accept: impl FnMut(WindowId, &WindowRecord<P>) -> bool,
    ) -> Option<WindowId> {
        let mut accept = |id| accept(id, &self.all[&id]);
        self.of_claim(claim)
            .filter(|(other, _)| !access.goes_with(*other))
            .find_map(|(_, places)| places.find(span, without, &mut accept))
    }

    /// The windows of a claim on a span, in the order in which they were opened.
    pub(super) fn on(&self, claim: ClaimId, span: Span) -> Vec<(WindowId, &WindowRecord<P>)> {
        let mut found = Vec::new();
        for (_, places) in self.of_claim(claim) {
            places.find(span, &[], |id| {
                found.push((id, &self.all[&id]));
                false
            });
        }
        found.sort_unstable_by_key(|(id, _)| *id);
        found
    }

    /// Whether there is a window of a claim on a span that is `accept`ed.
    pub(super) fn any_on(
        &self,
        claim: ClaimId,
        span: Span,
        accept: impl Fn(&WindowRecord<P>) -> bool,
    ) -> bool {
        self.of_claim(claim).any(|(_, places)| {
            places
                .find(span, &[], |id| accept(&self.all[&id]))
                .is_some()
        })
    }

    fn of_claim(&self, claim: ClaimId) -> impl Iterator<Item = (Access, &IntervalTree)> {
        self.of_claims
            .range((claim, Access::FIRST)..)
            .take_while(move |((other, _), _)| *other == claim)
            .map(|((_, access), places)| (*access, places))
    }

    /// The windows of a claim that were opened through a lend, or, with `None`, by its
    /// own holder.
    pub(super) fn through(
        &self,
        claim: ClaimId,
        via: Option<LendId>,
    ) -> impl Iterator<Item = (WindowId, &WindowRecord<P>)> {
        let first = (claim, via, WindowId(0));
        let last = (claim, via, WindowId(u64::MAX));
        let through = self.through.range(first..=last);
        through.map(|(.., id)| (*id, &self.all[id]))
    }
}

/// Removes a window from a tree. An empty one is kept for the next window, but not for
/// those of a store, which may be gone.
fn remove<K: Ord>(
    trees: &mut BTreeMap<K, IntervalTree>,
    key: K,
    access: Access,
    id: WindowId,
    span: Span,
) {
    let Some(tree) = trees.get_mut(&key) else {
        return;
    };
    tree.remove(id, span);
    if tree.is_empty() && access.live().is_some() {
        trees.remove(&key);
    }
}
