//! Counted VMA splits against a memory in which the kernel merges as little as it may.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use proptest::prelude::*;
use tombolo_region_tests::region::{SplitPoints, vma_splits};

/// The pages of the memory.
const PAGES: usize = 24;

/// The contents of a page. The kernel merges adjacent pages only if they are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// Private pages that were mapped in this step.
    Private(u64),
    /// A window that was opened in this step.
    Window(u64),
}

#[derive(Clone, Debug)]
enum Op {
    /// Opens a window, if none lies there.
    Map(Range<usize>),
    /// Closes the window on a page.
    Unmap(usize),
    /// Masks a part of the window on its first page.
    Mask(Range<usize>),
    /// Unmasks a part of the window on its first page.
    Unmask(Range<usize>),
}

fn range() -> impl Strategy<Value = Range<usize>> {
    (0..PAGES, 1..=PAGES).prop_map(|(start, length)| start..(start + length).min(PAGES))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        range().prop_map(Op::Map),
        (0..PAGES).prop_map(Op::Unmap),
        range().prop_map(Op::Mask),
        range().prop_map(Op::Unmask),
    ]
}

/// A window with its masked pages, each with the step that masked it.
struct Window {
    step: u64,
    end: usize,
    masked: BTreeMap<usize, u64>,
}

impl Window {
    /// Returns the masked parts: pages side by side that one step masked.
    fn parts(&self) -> Vec<Range<usize>> {
        let mut parts: Vec<(Range<usize>, u64)> = Vec::new();
        for (page, step) in &self.masked {
            match parts.last_mut() {
                Some((part, last)) if part.end == *page && last == step => part.end += 1,
                _ => parts.push((*page..page + 1, *step)),
            }
        }
        parts.into_iter().map(|(part, _)| part).collect()
    }

    fn splits(&self, start: usize, range: &Range<usize>) -> u64 {
        vma_splits(&(start..self.end), &self.parts(), range)
    }
}

struct Memory {
    pages: [Page; PAGES],
    windows: BTreeMap<usize, Window>,
    split_points: SplitPoints,
    /// The VMAs that were counted, beyond the first one.
    counted: u64,
}

impl Memory {
    /// Returns the window on the first page of a range, with the part of the range inside.
    fn window(&mut self, range: &Range<usize>) -> Option<(usize, Range<usize>, &mut Window)> {
        let (start, window) = self.windows.range_mut(..=range.start).next_back()?;
        let part = range.start..range.end.min(window.end);
        (range.start < window.end).then_some((*start, part, window))
    }

    fn act(&mut self, op: &Op, step: u64) {
        match op {
            Op::Map(range) => {
                let below = self.windows.range(..range.end).next_back();
                if below.is_some_and(|(_, window)| window.end > range.start) {
                    return;
                }
                self.counted += self.split_points.vma_splits(range);
                self.split_points.insert(range);
                assert_eq!(self.split_points.vma_splits(range), 0);
                let (end, masked) = (range.end, BTreeMap::new());
                self.windows
                    .insert(range.start, Window { step, end, masked });
                self.pages[range.clone()].fill(Page::Window(step));
            }
            Op::Unmap(page) => {
                if let Some((start, ..)) = self.window(&(*page..page + 1)) {
                    let window = self.windows.remove(&start).expect("found above");
                    let range = start..window.end;
                    self.counted -= window.splits(start, &range);
                    self.pages[range].fill(Page::Private(step));
                }
            }
            Op::Mask(range) | Op::Unmask(range) => {
                let Some((start, part, window)) = self.window(range) else {
                    return;
                };
                let whole = start..window.end;
                let before = (window.splits(start, &part), window.splits(start, &whole));
                let shows = Page::Window(window.step);
                let mut pages = Vec::new();
                for page in part.clone() {
                    if matches!(op, Op::Unmask(_)) {
                        window.masked.remove(&page);
                        pages.push((page, shows));
                    } else if let Entry::Vacant(entry) = window.masked.entry(page) {
                        entry.insert(step);
                        pages.push((page, Page::Private(step)));
                    }
                }
                let after = (window.splits(start, &part), window.splits(start, &whole));
                assert_eq!(
                    after.0.wrapping_sub(before.0),
                    after.1.wrapping_sub(before.1),
                    "edges change only where the part is"
                );
                self.counted = self.counted + after.0 - before.0;
                for (page, shows) in pages {
                    self.pages[page] = shows;
                }
            }
        }
    }

    /// Returns the VMAs beyond the first one.
    fn splits(&self) -> u64 {
        self.pages.windows(2).filter(|it| it[0] != it[1]).count() as u64
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 2000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    // rule 10
    #[test]
    fn memory_has_no_more_vmas_than_counted(ops in proptest::collection::vec(op(), 1..40)) {
        let mut memory = Memory {
            pages: [Page::Private(0); PAGES],
            windows: BTreeMap::new(),
            split_points: SplitPoints::default(),
            counted: 0,
        };
        for (step, op) in ops.iter().enumerate() {
            memory.act(op, step as u64 + 1);
            prop_assert!(memory.splits() <= memory.counted, "after {op:?}");
            let masked: u64 = memory
                .windows
                .iter()
                .map(|(start, window)| window.splits(*start, &(*start..window.end)))
                .sum();
            prop_assert_eq!(memory.counted, memory.split_points.count() + masked);
        }
    }
}

// rule 10
#[test]
fn same_window_again_adds_no_vma() {
    let mut points = SplitPoints::default();
    assert_eq!(points.vma_splits(&(1..3)), 2);
    points.insert(&(1..3));
    assert_eq!(points.vma_splits(&(1..3)), 0);
    assert_eq!(points.vma_splits(&(3..5)), 1);
    assert_eq!((points.first(), points.count()), (Some(1), 2));
}

#[test]
fn common_edge_of_masked_parts_counts_once() {
    let parts = [2..4, 4..6];
    assert_eq!(vma_splits(&(0..8), &parts, &(0..8)), 3);
    assert_eq!(vma_splits(&(0..8), &parts, &(4..4)), 1);
    assert_eq!(vma_splits(&(0..8), &parts, &(5..8)), 1);
}

#[test]
fn masked_edge_at_the_window_end_is_free() {
    assert_eq!(vma_splits(&(2..8), [&(2..8)], &(2..8)), 0);
    assert_eq!(vma_splits(&(2..8), [&(2..5)], &(0..9)), 1);
}
