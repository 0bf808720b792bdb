//! A guest's table of regions.
//!
//! It does what wasmtime's `ResourceTable` does, for one type. So an entry needs no box, and a
//! lend allocates nothing for it.

use std::mem::replace;
use std::sync::atomic::{AtomicU32, Ordering};

use wasmtime::component::{Resource, ResourceTableError};

use crate::host::Region;

/// Returns the number from which a context counts its handles. Other contexts count from far away.
/// So a handle that a host program passes from guest to guest without a
/// [`Parcel`](crate::Parcel) names nothing there, rather than something of the receiver's.
pub(crate) fn fresh_base() -> u32 {
    static CONTEXTS: AtomicU32 = AtomicU32::new(0);
    // The golden ratio keeps consecutive contexts apart, and also many of them.
    let number = CONTEXTS.fetch_add(1, Ordering::Relaxed);
    number.wrapping_mul(0x9e37_79b1)
}

/// The regions of a guest, by the numbers of its handles.
#[derive(Debug, Default)]
pub struct RegionTable {
    entries: Vec<Entry>,
    /// The free entry that is used next, if there is one.
    free: Option<u32>,
    /// The most entries.
    capacity: usize,
    /// The number of the first handle.
    base: u32,
}

#[derive(Debug)]
enum Entry {
    Free {
        /// The free entry that is used after this one.
        next: Option<u32>,
    },
    Used(Region),
}

impl RegionTable {
    /// Creates a table of at most this many regions. Numbers begin at `base`.
    pub(crate) fn new(capacity: usize, base: u32) -> RegionTable {
        RegionTable {
            capacity,
            base,
            ..RegionTable::default()
        }
    }

    /// Adds a region, and returns an owned handle to it.
    ///
    /// # Errors
    ///
    /// [`ResourceTableError::Full`], which drops the region.
    #[inline]
    pub fn push(&mut self, region: Region) -> Result<Resource<Region>, ResourceTableError> {
        let used = Entry::Used(region);
        let index = match self.free {
            Some(index) => {
                let entry = &mut self.entries[index as usize];
                if let Entry::Free { next } = replace(entry, used) {
                    self.free = next;
                }
                index
            }
            None => self.add(used)?,
        };
        Ok(Resource::new_own(self.base.wrapping_add(index)))
    }

    fn add(&mut self, used: Entry) -> Result<u32, ResourceTableError> {
        let index = u32::try_from(self.entries.len()).ok();
        let index = index.filter(|_| self.entries.len() < self.capacity);
        let index = index.ok_or(ResourceTableError::Full)?;
        self.entries.push(used);
        Ok(index)
    }

    /// Returns the entry that a handle names, if it is one of this table.
    #[inline]
    fn index(&self, handle: &Resource<Region>) -> u32 {
        handle.rep().wrapping_sub(self.base)
    }

    /// Returns the region of a handle.
    ///
    /// # Errors
    ///
    /// [`ResourceTableError::NotPresent`].
    #[inline]
    pub fn get(&self, handle: &Resource<Region>) -> Result<&Region, ResourceTableError> {
        match self.entries.get(self.index(handle) as usize) {
            Some(Entry::Used(region)) => Ok(region),
            _ => Err(ResourceTableError::NotPresent),
        }
    }

    /// Takes the region of a handle out.
    ///
    /// # Errors
    ///
    /// [`ResourceTableError::NotPresent`].
    #[inline]
    pub fn delete(&mut self, handle: Resource<Region>) -> Result<Region, ResourceTableError> {
        debug_assert!(handle.owned());
        let index = self.index(&handle);
        match self.entries.get_mut(index as usize) {
            Some(entry @ Entry::Used(_)) => match replace(entry, Entry::Free { next: self.free }) {
                Entry::Used(region) => {
                    self.free = Some(index);
                    Ok(region)
                }
                Entry::Free { .. } => unreachable!("it was just seen"),
            },
            _ => Err(ResourceTableError::NotPresent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::RegionHost;

    // rule 9
    #[test]
    fn numbers_are_used_again_and_bounded() {
        let host = RegionHost::new();
        let mut table = RegionTable::new(2, u32::MAX);
        let push = |table: &mut RegionTable| {
            let region = host.create("it", 65_536).expect("it is created");
            table.push(region).map(|handle| handle.rep())
        };
        let own = Resource::<Region>::new_own;
        let (first, second) = (u32::MAX, 0);
        assert_eq!(push(&mut table).ok(), Some(first));
        assert_eq!(push(&mut table).ok(), Some(second));
        assert!(matches!(push(&mut table), Err(ResourceTableError::Full)));
        assert!(table.get(&own(second)).is_ok() && table.get(&own(1)).is_err());
        assert!(table.delete(own(first)).is_ok() && table.delete(own(second)).is_ok());
        assert!(table.get(&own(second)).is_err() && table.delete(own(second)).is_err());
        assert_eq!(push(&mut table).ok(), Some(second));
        assert_eq!(push(&mut table).ok(), Some(first));
        assert!(matches!(push(&mut table), Err(ResourceTableError::Full)));
    }

    // rule 1
    #[test]
    fn contexts_count_from_far_apart() {
        let mut bases: Vec<u32> = (0..1000).map(|_| fresh_base()).collect();
        bases.sort_unstable();
        // More than the handles that a guest may have by default, and as many again.
        assert!(bases.windows(2).all(|pair| pair[1] - pair[0] > 8192));
    }
}
