//! The windows of a region: by identity, by span, and by claim.
//!
//! Windows of one access, of all claims and of each claim, are in interval trees, which find one
//! on a span. The search skips windows that a lend sets aside by their *tag*. The windows of a
//! claim's owner share a tag, and so do those of one lend. Windows opened after the claim had
//! been lent or the lend re-lent do not have it.

use std::collections::{BTreeMap, BTreeSet};

use super::interval_tree::IntervalTree;
use super::{Access, ClaimId, LendId, WindowId, WindowRecord};
use crate::span::Span;

/// The windows of a region. Opening, closing and finding one takes time logarithmic in the
/// number of windows, even if many are on the same granules.
#[derive(Debug)]
pub(super) struct WindowIndex<P> {
    all: BTreeMap<WindowId, WindowRecord<P>>,
    /// All windows, by access. There are few accesses: two, and two for each store with live
    /// windows.
    places: BTreeMap<Access, IntervalTree>,
    /// The same, for each claim.
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

    /// Returns whether all windows only read.
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

    /// Removes a claim that has ended and has no windows.
    pub(super) fn forget(&mut self, claim: ClaimId) {
        for access in [Access::Read, Access::Write] {
            self.of_claims.remove(&(claim, access));
        }
    }

    /// Finds a window on a span whose access and identity are accepted by `sees` and `accept`,
    /// among those whose tag is not in `without`.
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

    /// Finds a window as [`find`](WindowIndex::find) does, among the windows of one claim that
    /// conflict with this access.
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
            .filter(|(other, _)| !access.is_compatible_with(*other))
            .find_map(|(_, places)| places.find(span, without, &mut accept))
    }

    /// Returns the windows of a claim on a span, in the order in which they were opened.
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

    /// Returns whether a claim has a window on a span that `accept` accepts.
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

    /// Returns the windows of a claim that were opened via a lend, or with `None` by its owner.
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

/// Removes a window from a tree. An empty tree is kept for the next window, but not one of a
/// store, which may be gone.
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
