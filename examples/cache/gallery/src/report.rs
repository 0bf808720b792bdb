use std::fmt;

use crate::cache::{Cache, Seen};

/// The final output of the gallery: a name and a value on each line.
pub(crate) struct Report {
    images: usize,
    bytes: u64,
    largest: u64,
    hits: u64,
    misses: u64,
    /// The number of bytes that were decoded again because they were lost.
    pub(crate) decoded_again: u64,
}

impl Report {
    pub(crate) fn new(cache: &Cache) -> Self {
        Self {
            images: cache.len(),
            bytes: cache.bytes(),
            largest: cache.largest(),
            hits: 0,
            misses: 0,
            decoded_again: 0,
        }
    }

    pub(crate) fn note(&mut self, seen: &Seen) {
        match seen.lost {
            true => self.misses += 1,
            false => self.hits += 1,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let views = self.hits + self.misses;
        // Without views there are no misses.
        let rate = match views {
            0 => 100.0,
            _ => 100.0 * self.hits as f64 / views as f64,
        };
        let mut line = |name: &str, value: String| writeln!(f, "{name:<16}{value:>12}");
        line("images", self.images.to_string())?;
        line("bytes", self.bytes.to_string())?;
        line("largest", self.largest.to_string())?;
        line("views", views.to_string())?;
        line("hits", self.hits.to_string())?;
        line("misses", self.misses.to_string())?;
        line("hit rate", format!("{rate:.1} %"))?;
        line("decoded again", self.decoded_again.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(hits: u64, misses: u64) -> String {
        let report = Report {
            images: 4,
            bytes: 4 << 20,
            largest: 1 << 20,
            hits,
            misses,
            decoded_again: misses << 20,
        };
        report.to_string()
    }

    #[test]
    fn hit_rate_counts_all_views() {
        let text = report(2, 1);
        assert!(text.contains("\nviews                      3\n"), "{text}");
        assert!(text.contains("\nhit rate              66.7 %\n"), "{text}");
    }

    #[test]
    fn no_views_have_no_misses() {
        assert!(report(0, 0).contains("100.0 %"));
    }
}
