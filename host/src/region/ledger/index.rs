//! The windows of a region: by identity, and by where they are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use super::super::Span;
use super::{Access, Window, WindowId};

/// The windows of a region. What it costs to find those with which another one may
/// conflict grows with the logarithm of how many there are, and with how many of
/// them are there: windows to read are no matter for another one to read.
#[derive(Debug)]
pub(super) struct Windows<P> {
    all: BTreeMap<WindowId, Window<P>>,
    /// Those to read.
    readers: Starts,
    /// The others.
    others: Starts,
}

/// Windows by their first byte.
#[derive(Debug, Default)]
struct Starts {
    windows: BTreeSet<(u64, WindowId)>,
    /// None is longer than this: who is on some byte begins no further before it.
    longest: u64,
}

impl Starts {
    fn insert(&mut self, id: WindowId, span: Span) {
        self.windows.insert((span.offset(), id));
        self.longest = self.longest.max(span.length());
    }

    fn remove(&mut self, id: WindowId, span: Span) {
        self.windows.remove(&(span.offset(), id));
        if self.windows.is_empty() {
            self.longest = 0;
        }
    }

    /// All that overlap a span, and some beside it.
    fn around(&self, span: Span) -> impl Iterator<Item = WindowId> {
        let first = (span.offset() + 1).saturating_sub(self.longest);
        let last = span.offset().saturating_add(span.length());
        let range = (first, WindowId(0))..(last, WindowId(0));
        self.windows.range(range).map(|(_, id)| *id)
    }
}

impl<P> Windows<P> {
    pub(super) fn new() -> Windows<P> {
        Windows {
            all: BTreeMap::new(),
            readers: Starts::default(),
            others: Starts::default(),
        }
    }

    fn starts(&mut self, access: Access) -> &mut Starts {
        match access {
            Access::Read => &mut self.readers,
            _ => &mut self.others,
        }
    }

    pub(super) fn insert(&mut self, id: WindowId, window: Window<P>) {
        self.starts(window.access).insert(id, window.span);
        self.all.insert(id, window);
    }

    pub(super) fn remove(&mut self, id: WindowId) -> Option<Window<P>> {
        let window = self.all.remove(&id)?;
        self.starts(window.access).remove(id, window.span);
        Some(window)
    }

    pub(super) fn set_access(&mut self, id: WindowId, access: Access) {
        if let Some(window) = self.all.get_mut(&id) {
            let (before, span) = (window.access, window.span);
            window.access = access;
            self.starts(before).remove(id, span);
            self.starts(access).insert(id, span);
        }
    }

    /// The windows on a span with which one of this access does not go together.
    pub(super) fn against(
        &self,
        span: Span,
        access: Access,
    ) -> impl Iterator<Item = (WindowId, &Window<P>)> {
        let readers = (access != Access::Read).then(|| self.readers.around(span));
        let windows = readers
            .into_iter()
            .flatten()
            .chain(self.others.around(span));
        windows
            .filter_map(|id| Some((id, self.all.get(&id)?)))
            .filter(move |(_, other)| other.span.overlaps(span) && !other.access.goes_with(access))
    }
}

impl<P> Deref for Windows<P> {
    type Target = BTreeMap<WindowId, Window<P>>;

    fn deref(&self) -> &BTreeMap<WindowId, Window<P>> {
        &self.all
    }
}
