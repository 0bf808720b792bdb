//! An interval tree of windows, for searches in logarithmic time.

use super::WindowId;
use crate::span::Span;

/// The index that stands for no node.
const NONE: u32 = u32::MAX;

/// A balanced tree of windows by their first granule. Each subtree notes how far its windows
/// reach, so a search skips subtrees that end before its span.
///
/// Each window has a tag. A search leaves out windows with some tags, for example those that a
/// lend sets aside. For this, each subtree also notes how far the windows reach that have
/// another tag than the furthest one. So with one tag left out, a search enters no subtree in
/// vain. With several it may.
#[derive(Debug)]
pub(super) struct IntervalTree {
    nodes: Vec<IntervalNode>,
    free: Vec<u32>,
    root: u32,
}

#[derive(Debug)]
struct IntervalNode {
    start: u64,
    id: WindowId,
    end: u64,
    tag: u64,
    left: u32,
    right: u32,
    size: u32,
    reach: Reach,
}

/// The furthest end of the windows of a subtree.
#[derive(Clone, Copy, Debug)]
struct Reach {
    end: u64,
    /// The tag of the window that ends there.
    tag: u64,
    /// The furthest end of windows with another tag; 0 if there are none.
    other: u64,
}

impl Reach {
    fn join(self, other: Reach) -> Reach {
        let (far, near) = match self.end >= other.end {
            true => (self, other),
            false => (other, self),
        };
        let beside = match near.tag == far.tag {
            true => near.other,
            false => near.end,
        };
        Reach {
            other: far.other.max(beside),
            ..far
        }
    }
}

/// The criteria of a search.
struct Search<'a, F> {
    start: u64,
    end: u64,
    without: &'a [u64],
    accept: F,
}

impl IntervalTree {
    pub(super) fn new() -> IntervalTree {
        IntervalTree {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NONE,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.root == NONE
    }

    /// Adds a window, which must not be in the tree yet.
    pub(super) fn insert(&mut self, id: WindowId, span: Span, tag: u64) {
        let granules = span.granules();
        let node = IntervalNode {
            start: granules.start,
            id,
            end: granules.end,
            tag,
            left: NONE,
            right: NONE,
            size: 1,
            reach: Reach {
                end: granules.end,
                tag,
                other: 0,
            },
        };
        let new = match self.free.pop() {
            Some(new) => {
                self.nodes[new as usize] = node;
                new
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("windows are limited to fewer")
            }
        };
        self.root = self.insert_below(self.root, new);
    }

    /// Removes a window, if it is in the tree.
    pub(super) fn remove(&mut self, id: WindowId, span: Span) {
        let key = (span.granules().start, id);
        self.root = self.remove_below(self.root, key);
        if self.root == NONE {
            self.nodes.clear();
            self.free.clear();
        }
    }

    /// Finds a window on a span that `accept` accepts, among those whose tag is not in
    /// `without`.
    pub(super) fn find(
        &self,
        span: Span,
        without: &[u64],
        accept: impl FnMut(WindowId) -> bool,
    ) -> Option<WindowId> {
        let granules = span.granules();
        let mut search = Search {
            start: granules.start,
            end: granules.end,
            without,
            accept,
        };
        self.find_below(self.root, &mut search)
    }

    fn find_below<F: FnMut(WindowId) -> bool>(
        &self,
        at: u32,
        search: &mut Search<'_, F>,
    ) -> Option<WindowId> {
        if at == NONE {
            return None;
        }
        let node = &self.nodes[at as usize];
        let reach = &node.reach;
        let far = match search.without.contains(&reach.tag) {
            true => reach.other,
            false => reach.end,
        };
        if far <= search.start {
            return None;
        }
        if let Some(found) = self.find_below(node.left, search) {
            return Some(found);
        }
        if node.start >= search.end {
            return None;
        }
        if node.end > search.start
            && !search.without.contains(&node.tag)
            && (search.accept)(node.id)
        {
            return Some(node.id);
        }
        self.find_below(node.right, search)
    }

    fn size(&self, at: u32) -> u32 {
        match at {
            NONE => 0,
            _ => self.nodes[at as usize].size,
        }
    }

    /// Updates what a node notes of its children.
    fn update(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        let (left, right) = (node.left, node.right);
        let mut reach = Reach {
            end: node.end,
            tag: node.tag,
            other: 0,
        };
        let mut size = 1;
        for child in [left, right] {
            if child != NONE {
                let child = &self.nodes[child as usize];
                size += child.size;
                reach = reach.join(child.reach);
            }
        }
        let node = &mut self.nodes[at as usize];
        (node.size, node.reach) = (size, reach);
    }

    fn rotate_left(&mut self, at: u32) -> u32 {
        let up = self.nodes[at as usize].right;
        self.nodes[at as usize].right = self.nodes[up as usize].left;
        self.nodes[up as usize].left = at;
        self.update(at);
        up
    }

    fn rotate_right(&mut self, at: u32) -> u32 {
        let up = self.nodes[at as usize].left;
        self.nodes[at as usize].left = self.nodes[up as usize].right;
        self.nodes[up as usize].right = at;
        self.update(at);
        up
    }

    /// Restores the balance after one window was added or removed below: no child has more than
    /// three times as many windows as the other one. Nodes are up to date before and after.
    /// Returns the root of the subtree.
    fn balance(&mut self, at: u32) -> u32 {
        let node = &self.nodes[at as usize];
        let (left, right) = (node.left, node.right);
        let (size_left, size_right) = (self.size(left), self.size(right));
        if size_left + size_right <= 1 {
            return at;
        }
        let up = if size_right > 3 * size_left {
            let inner = self.size(self.nodes[right as usize].left);
            if inner >= 2 * self.size(self.nodes[right as usize].right) {
                let up = self.rotate_right(right);
                self.nodes[at as usize].right = up;
            }
            self.rotate_left(at)
        } else if size_left > 3 * size_right {
            let inner = self.size(self.nodes[left as usize].right);
            if inner >= 2 * self.size(self.nodes[left as usize].left) {
                let up = self.rotate_left(left);
                self.nodes[at as usize].left = up;
            }
            self.rotate_right(at)
        } else {
            return at;
        };
        self.update(up);
        up
    }

    fn key(&self, at: u32) -> (u64, WindowId) {
        let node = &self.nodes[at as usize];
        (node.start, node.id)
    }

    fn insert_below(&mut self, at: u32, new: u32) -> u32 {
        if at == NONE {
            return new;
        }
        let added = self.nodes[new as usize].reach;
        let before = self.key(new) < self.key(at);
        let node = &mut self.nodes[at as usize];
        node.size += 1;
        node.reach = node.reach.join(added);
        let (left, right) = (node.left, node.right);
        if before {
            let below = self.insert_below(left, new);
            self.nodes[at as usize].left = below;
        } else {
            let below = self.insert_below(right, new);
            self.nodes[at as usize].right = below;
        }
        self.balance(at)
    }

    fn remove_below(&mut self, at: u32, key: (u64, WindowId)) -> u32 {
        if at == NONE {
            return NONE;
        }
        let (left, right) = (self.nodes[at as usize].left, self.nodes[at as usize].right);
        match key.cmp(&self.key(at)) {
            std::cmp::Ordering::Less => {
                let below = self.remove_below(left, key);
                self.nodes[at as usize].left = below;
            }
            std::cmp::Ordering::Greater => {
                let below = self.remove_below(right, key);
                self.nodes[at as usize].right = below;
            }
            std::cmp::Ordering::Equal => {
                self.free.push(at);
                if left == NONE || right == NONE {
                    return if left == NONE { right } else { left };
                }
                let (next, rest) = self.take_first(right);
                let node = &mut self.nodes[next as usize];
                (node.left, node.right) = (left, rest);
                self.update(next);
                return self.balance(next);
            }
        }
        self.update(at);
        self.balance(at)
    }

    /// Takes the first node out of a subtree. Returns it and the root of the rest.
    fn take_first(&mut self, at: u32) -> (u32, u32) {
        let (left, right) = (self.nodes[at as usize].left, self.nodes[at as usize].right);
        if left == NONE {
            return (at, right);
        }
        let (first, rest) = self.take_first(left);
        self.nodes[at as usize].left = rest;
        self.update(at);
        (first, self.balance(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A simple random generator, so that each run is the same.
    struct Random(u64);

    impl Random {
        fn below(&mut self, most: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.0 >> 33) % most
        }

        fn span(&mut self) -> Span {
            let start = self.below(60);
            let most = if self.below(4) == 0 { 60 } else { 3 };
            Span::of_granules(start..start + 1 + self.below(most))
        }
    }

    fn depth(tree: &IntervalTree, at: u32) -> u32 {
        match at {
            NONE => 0,
            _ => {
                let node = &tree.nodes[at as usize];
                1 + depth(tree, node.left).max(depth(tree, node.right))
            }
        }
    }

    #[test]
    fn finds_the_same_as_a_linear_search() {
        let mut random = Random(1);
        let mut tree = IntervalTree::new();
        let mut all: Vec<(WindowId, Span, u64)> = Vec::new();
        for round in 0..if cfg!(miri) { 100 } else { 20_000 } {
            // The tree grows, shrinks, and is empty now and then.
            let more = if round / 150 % 2 == 0 { 3 } else { 1 };
            if all.is_empty() || random.below(4) < more {
                let (id, span, tag) = (WindowId(round), random.span(), random.below(4));
                tree.insert(id, span, tag);
                all.push((id, span, tag));
            } else {
                let at = random.below(all.len() as u64);
                let (id, span, _) = all.swap_remove(usize::try_from(at).unwrap());
                tree.remove(id, span);
            }
            let span = random.span();
            let without: Vec<u64> = (0..random.below(3)).map(|_| random.below(4)).collect();
            let odd = random.below(2) == 0;
            let accept = |id: WindowId| !odd || id.0 % 2 == 1;
            let expected: Vec<WindowId> = all
                .iter()
                .filter(|(id, it, tag)| it.overlaps(span) && !without.contains(tag) && accept(*id))
                .map(|(id, ..)| *id)
                .collect();
            match tree.find(span, &without, accept) {
                Some(found) => assert!(expected.contains(&found), "{found:?}"),
                None => assert_eq!(expected, []),
            }
            assert_eq!(tree.is_empty(), all.is_empty());
            let most = 2 * (all.len() + 1).ilog2() + 2;
            assert!(depth(&tree, tree.root) <= most, "{} windows", all.len());
        }
    }

    #[test]
    fn skips_all_windows_of_one_tag() {
        let mut tree = IntervalTree::new();
        for at in 0..4000 {
            // Windows of one tag reach into the span, those of the other do not.
            let end = if at % 2 == 0 { 9000 } else { at + 1 };
            let tag = at % 2;
            tree.insert(WindowId(at), Span::of_granules(at..end), tag);
        }
        let mut seen = 0;
        let span = Span::of_granules(5000..6000);
        let found = tree.find(span, &[0], |_| {
            seen += 1;
            true
        });
        assert_eq!((found, seen), (None, 0));
        tree.insert(WindowId(5000), Span::of_granules(10..5001), 7);
        assert_eq!(tree.find(span, &[0], |_| true), Some(WindowId(5000)));
    }
}
