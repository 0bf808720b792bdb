//! Hints for names that are not known: the known one that was meant, perhaps.
//!
//! Comparing two names compares each letter with each, and a component may have thousands of
//! long names. So the number of comparisons is bounded: a name for which no similar one is
//! found in time is reported without a hint.

/// The pairs of letters that are compared for one hint, about a millisecond's worth:
/// 250 names of 25 letters.
const FOR_ONE: u64 = 160_000;

/// The pairs of letters that are compared for all hints of a question, a tenth of a
/// second's worth.
const FOR_ALL: u64 = 100 * FOR_ONE;

/// The comparisons that are left.
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
    /// Starts with all comparisons of a question.
    #[must_use]
    pub fn new() -> Hints {
        Hints { left: FOR_ALL }
    }

    /// Finds the known thing whose name is most like `name`, and of the same likeness
    /// the first one. Returns `None` if none is as like as `least`, from 0 to 1.
    pub fn nearest<'a, T>(
        &mut self,
        name: &str,
        known: impl Iterator<Item = (&'a str, T)>,
        least: f64,
    ) -> Option<T> {
        let mut left = self.left.min(FOR_ONE);
        let mut nearest: Option<(f64, T)> = None;
        for (other, thing) in known {
            // At least 1, so that even empty names come to an end.
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
    fn nearest_is_the_most_like_one() {
        let known = [("play", 1), ("pause", 2), ("plan", 3)];
        let nearest = |name| Hints::new().nearest(name, known.into_iter(), 0.7);
        assert_eq!(nearest("playy"), Some(1));
        assert_eq!(nearest("pauze"), Some(2));
        assert_eq!(nearest("unlike"), None);
    }

    #[test]
    fn many_names_beside_many_others_end_soon() {
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
        // All of them would be 810,000.
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
