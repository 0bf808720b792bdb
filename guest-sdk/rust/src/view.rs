//! The mapping behind each kind of window.

use std::fmt;
use std::ops::{Range, RangeBounds};

use crate::access::sealed::AccessKind;
use crate::bindings::pins::Span;
use crate::bindings::windows::Access;
use crate::error::Error;
use crate::ledger::{self, Claim, Entry, WindowRecord};
use crate::pins::Pinned;
use crate::range;
use crate::region::Region;
use crate::sys::Mapping;

/// A mapped part of a region. Each kind of window wraps one.
pub(crate) struct View<'r, K> {
    mapping: Mapping<K>,
    // Dropped after the mapping: the window counts while its bytes are visible.
    entry: Entry,
    region: &'r Region,
    offset: u64,
}

impl<'r, K: AccessKind> View<'r, K> {
    /// Maps a part of the region, or refuses at once.
    pub(crate) fn try_map(region: &'r Region, range: impl RangeBounds<u64>) -> Result<Self, Error> {
        Self::try_map_window(region, &range::window(range, region.size())?)
    }

    /// Maps a part of the region, and waits for a turn if necessary. Refuses if this
    /// guest would wait for itself.
    pub(crate) fn map(region: &'r Region, range: impl RangeBounds<u64>) -> Result<Self, Error> {
        let range = range::window(range, region.size())?;
        let mut mapped = Self::try_map_window(region, &range);
        while let Err(Error::WouldBlock) = mapped {
            let own = ledger::conflict(region.id(), &range, K::CODE, region.aside());
            if let Some(own) = own {
                return Err(deadlock(&region.name(), &own, K::CODE));
            }
            // Kept while mapping, because it carries the reservation.
            let turn = region.turn::<K>(&range)?;
            turn.wait();
            mapped = Self::try_map_window(region, &range);
        }
        mapped
    }

    /// Maps a part of the region, and waits for a turn if necessary, while other tasks of
    /// this guest run. One of those may drop a window that conflicts, so this does not
    /// look for such windows.
    #[cfg(feature = "async")]
    pub(crate) async fn map_async(
        region: &'r Region,
        range: impl RangeBounds<u64>,
    ) -> Result<Self, Error> {
        let range = range::window(range, region.size())?;
        let mut mapped = Self::try_map_window(region, &range);
        while let Err(Error::WouldBlock) = mapped {
            // Kept while mapping, because it carries the reservation.
            let _turn = region.turn_async::<K>(&range).await?;
            mapped = Self::try_map_window(region, &range);
        }
        mapped
    }

    fn try_map_window(region: &'r Region, range: &Range<u64>) -> Result<Self, Error> {
        let length = range.end - range.start;
        let mapping = Mapping::new(region.as_handle(), range.start, length)?;
        let covered = range.start..range.start + mapping.covered();
        Ok(Self {
            entry: Entry::new(region.claim(), region.id(), covered, K::CODE),
            mapping,
            region,
            offset: range.start,
        })
    }

    pub(crate) fn mapping(&self) -> &Mapping<K> {
        &self.mapping
    }

    pub(crate) fn mapping_mut(&mut self) -> &mut Mapping<K> {
        &mut self.mapping
    }

    pub(crate) fn region(&self) -> &'r Region {
        self.region
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn claim(&self) -> Claim {
        self.entry.claim()
    }

    /// Changes the access, or returns the unchanged view.
    pub(crate) fn set_access<B: AccessKind>(self) -> Result<View<'r, B>, (Self, Error)> {
        let Self {
            mapping,
            mut entry,
            region,
            offset,
        } = self;
        match mapping.set_access() {
            Ok(mapping) => {
                entry.set_access(B::CODE);
                Ok(View {
                    mapping,
                    entry,
                    region,
                    offset,
                })
            }
            Err((mapping, code)) => {
                let view = Self {
                    mapping,
                    entry,
                    region,
                    offset,
                };
                Err((view, code.into()))
            }
        }
    }

    /// Unpins the bytes, unless another window shows them. From then on no slices of
    /// this view may exist.
    pub(crate) fn unpin(mut self) -> Result<Self, (Self, Error)> {
        self.entry.set_visible(false);
        let unpinned = match ledger::shows(self.claim(), self.entry.range()) {
            true => Err(Error::WouldBlock),
            false => self.region.unpin_span(self.span()),
        };
        match unpinned {
            Ok(()) => Ok(self),
            Err(error) => {
                self.entry.set_visible(true);
                Err((self, error))
            }
        }
    }

    /// Pins the bytes again, after which slices of this view may exist.
    pub(crate) fn pin(mut self) -> Result<Pinned<Self>, (Self, Error)> {
        match self.region.pin_span(self.span()) {
            Ok(pinned) => {
                self.entry.set_visible(true);
                Ok(pinned.map(|()| self))
            }
            Err(error) => Err((self, error)),
        }
    }

    fn span(&self) -> Span {
        Span {
            offset: self.offset,
            length: self.mapping.covered(),
        }
    }

    pub(crate) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("region", self.region)
            .field("offset", &self.offset)
            .field("len", &self.mapping.len())
            .finish_non_exhaustive()
    }
}

/// Returns the refusal of a wait for `wanted` access that a window of this guest
/// prevents.
fn deadlock(region: &str, own: &WindowRecord, wanted: Access) -> Error {
    let Range { start, end } = own.range;
    let state = match own.visible {
        true => "open",
        false => "unpinned",
    };
    Error::Deadlock(format!(
        "this guest has an {state} `{}` window on bytes {start}..{end} of region \
         `{region}`; drop it before waiting for a `{}` window there",
        word(own.access),
        word(wanted),
    ))
}

fn word(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Write => "write",
        Access::LiveRead => "live-read",
        Access::LiveWrite => "live-write",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlock_names_the_window() {
        let mut own = WindowRecord {
            range: 0..65536,
            access: Access::Write,
            visible: true,
        };
        assert_eq!(
            deadlock("table", &own, Access::Read).to_string(),
            "deadlock: this guest has an open `write` window on bytes 0..65536 of region \
             `table`; drop it before waiting for a `read` window there"
        );
        own.visible = false;
        let text = deadlock("table", &own, Access::LiveRead).to_string();
        assert!(text.contains("has an unpinned `write` window"), "{text}");
    }
}
