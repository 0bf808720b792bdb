//! The lends of a region.

use std::collections::BTreeMap;

use super::{LendId, LendRecord};

/// The lends that are not over yet.
///
/// The latest one has a place of its own. Most lends end before the next one begins, and so never
/// enter the map.
#[derive(Debug, Default)]
pub(super) struct LendTable {
    latest: Option<(LendId, LendRecord)>,
    earlier: BTreeMap<LendId, LendRecord>,
}

impl LendTable {
    /// Adds a lend, whose id is none of those that are there.
    #[inline]
    pub(super) fn insert(&mut self, id: LendId, lend: LendRecord) {
        if let Some((id, earlier)) = self.latest.replace((id, lend)) {
            self.earlier.insert(id, earlier);
        }
    }

    /// Returns a lend.
    #[inline]
    pub(super) fn get(&self, id: &LendId) -> Option<&LendRecord> {
        match &self.latest {
            Some((latest, lend)) if latest == id => Some(lend),
            _ => self.earlier.get(id),
        }
    }

    /// Returns a lend, to change it.
    #[inline]
    pub(super) fn get_mut(&mut self, id: &LendId) -> Option<&mut LendRecord> {
        match &mut self.latest {
            Some((latest, lend)) if latest == id => Some(lend),
            _ => self.earlier.get_mut(id),
        }
    }

    /// Takes a lend out.
    #[inline]
    pub(super) fn remove(&mut self, id: &LendId) -> Option<LendRecord> {
        match &self.latest {
            Some((latest, _)) if latest == id => self.latest.take().map(|(_, lend)| lend),
            _ => self.earlier.remove(id),
        }
    }

    /// Returns whether a lend is there.
    #[inline]
    pub(super) fn contains_key(&self, id: &LendId) -> bool {
        self.get(id).is_some()
    }
}
