//! A guest's table of regions.
//!
//! It does what wasmtime's `ResourceTable` does, for one type. So an entry needs no box, and a
//! lend allocates nothing for it.

use std::mem::replace;

use wasmtime::component::{Resource, ResourceTableError};

use crate::host::Region;

/// The regions of a guest, by the numbers of its handles.
#[derive(Debug, Default)]
pub struct RegionTable {
    entries: Vec<Entry>,
    /// The free entry that is used next, if there is one.
    free: Option<u32>,
    /// The most entries.
    capacity: usize,
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
    /// Creates a table of at most this many regions.
    pub(crate) fn new(capacity: usize) -> RegionTable {
        RegionTable {
            capacity,
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
        let rep = match self.free {
            Some(rep) => {
                let entry = &mut self.entries[rep as usize];
                if let Entry::Free { next } = replace(entry, used) {
                    self.free = next;
                }
                rep
            }
            None => self.add(used)?,
        };
        Ok(Resource::new_own(rep))
    }

    fn add(&mut self, used: Entry) -> Result<u32, ResourceTableError> {
        let rep = u32::try_from(self.entries.len()).ok();
        let rep = rep.filter(|_| self.entries.len() < self.capacity);
        let rep = rep.ok_or(ResourceTableError::Full)?;
        self.entries.push(used);
        Ok(rep)
    }

    /// Returns the region of a handle.
    ///
    /// # Errors
    ///
    /// [`ResourceTableError::NotPresent`].
    #[inline]
    pub fn get(&self, handle: &Resource<Region>) -> Result<&Region, ResourceTableError> {
        match self.entries.get(handle.rep() as usize) {
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
        let rep = handle.rep();
        match self.entries.get_mut(rep as usize) {
            Some(entry @ Entry::Used(_)) => match replace(entry, Entry::Free { next: self.free }) {
                Entry::Used(region) => {
                    self.free = Some(rep);
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
        let mut table = RegionTable::new(2);
        let push = |table: &mut RegionTable| {
            let region = host.create("it", 65_536).expect("it is created");
            table.push(region).map(|handle| handle.rep())
        };
        let own = Resource::<Region>::new_own;
        assert_eq!(push(&mut table).ok(), Some(0));
        assert_eq!(push(&mut table).ok(), Some(1));
        assert!(matches!(push(&mut table), Err(ResourceTableError::Full)));
        assert!(table.get(&own(1)).is_ok() && table.get(&own(2)).is_err());
        assert!(table.delete(own(0)).is_ok() && table.delete(own(1)).is_ok());
        assert!(table.get(&own(1)).is_err() && table.delete(own(1)).is_err());
        assert_eq!(push(&mut table).ok(), Some(1));
        assert_eq!(push(&mut table).ok(), Some(0));
        assert!(matches!(push(&mut table), Err(ResourceTableError::Full)));
    }
}
