//! Finds the known name that is most similar to an unknown one.
//!
//! A comparison of two names compares each pair of their letters, and a component may have
//! thousands of long names. So the number of comparisons is bounded. If no similar name is found
//! in time, an unknown name is reported without a hint.

/// The most pairs of letters that are compared for one hint: 250 names of 25 letters, which takes
/// about a millisecond.
const FOR_ONE: u64 = 160_000;

/// The most pairs of letters that are compared for all hints of a run, which takes about 0.1 s.
const FOR_ALL: u64 = 100 * FOR_ONE;

/// A search for similar names, with a bounded number of comparisons.
#[derive(Debug)]
pub struct Hints {
    left: u64,
}

impl Default for Hints {
    fn default() -> Hints {
        Hints::new()
    }
}

impl Hints {
    /// Creates a search with all its comparisons left.
    #[must_use]
    pub fn new() -> Hints {
        Hints { left: FOR_ALL }
    }

    /// Returns the item whose name is most similar to `name`, the first of several. Returns `None`
    /// if no similarity reaches `least`, from 0 to 1, or no comparisons are left.
    pub fn nearest<'a, T>(
        &mut self,
        name: &str,
        known: impl Iterator<Item = (&'a str, T)>,
        least: f64,
    ) -> Option<T> {
        let mut left = self.left.min(FOR_ONE);
        let mut nearest: Option<(f64, T)> = None;
        for (other, thing) in known {
            // At least 1, so that the search ends even with empty names.
            let pairs = (name.len() as u64)
                .saturating_mul(other.len() as u64)
                .max(1);
            if pairs > left {
                self.left = self.left.saturating_sub(pairs.min(FOR_ONE));
                break;
            }
            left -= pairs;
            self.left -= pairs;
            let likeness = strsim::jaro_winkler(other, name);
            if likeness >= least && nearest.as_ref().is_none_or(|(most, _)| likeness > *most) {
                nearest = Some((likeness, thing));
            }
        }
        nearest.map(|(_, thing)| thing)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn most_similar_name_is_found() {
        let known = [("play", 1), ("pause", 2), ("plan", 3)];
        let nearest = |name| Hints::new().nearest(name, known.into_iter(), 0.7);
        assert_eq!(nearest("playy"), Some(1));
        assert_eq!(nearest("pauze"), Some(2));
        assert_eq!(nearest("unlike"), None);
    }

    // rule 9
    #[test]
    fn number_of_comparisons_is_bounded() {
        let names: Vec<String> = (0..900)
            .map(|at| format!("demo:pkg/interface-{at}"))
            .collect();
        let mut hints = Hints::new();
        let compared = Cell::new(0_u64);
        let mut found = 0;
        for name in &names {
            let known = names.iter().map(|it| (it.as_str(), ()));
            let known = known.inspect(|_| compared.set(compared.get() + 1));
            found += u64::from(hints.nearest(name, known, 0.8).is_some());
        }
        // All pairs would be 810,000 comparisons.
        assert!(
            (10_000..60_000).contains(&compared.get()),
            "{}",
            compared.get()
        );
        assert!(found > 50, "the first ones have hints: {found}");
    }

    #[test]
    fn very_long_names_have_no_hint() {
        let long = "a".repeat(100_000);
        let mut hints = Hints::new();
        assert_eq!(
            hints.nearest(&long, [(long.as_str(), ())].into_iter(), 0.8),
            None
        );
        let known = [("abc", ())].into_iter();
        assert_eq!(hints.nearest("abd", known, 0.8), Some(()), "others have");
    }
}
