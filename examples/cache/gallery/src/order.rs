/// Which images are looked at, one after the other: at random, some of them
/// often and most of them seldom, and the same ones for the same seed.
///
/// The image on rank `r` is looked at `1 / (r + 1)` times as often as the first,
/// which is what is found of books in libraries and of pages on the web.
pub(crate) struct Order {
    random: fastrand::Rng,
    /// The images, by rank.
    ranks: Vec<usize>,
    /// The sum of the weights up to each rank.
    sums: Vec<f64>,
}

impl Order {
    /// An order of so many images, at least one.
    pub(crate) fn new(images: usize, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut ranks: Vec<_> = (0..images).collect();
        // Else the rank would go with the order in which the cache was filled.
        random.shuffle(&mut ranks);
        let mut sum = 0.0;
        let sums = (1..=images)
            .map(|rank| {
                sum += 1.0 / rank as f64;
                sum
            })
            .collect();
        Self {
            random,
            ranks,
            sums,
        }
    }
}

impl Iterator for Order {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let all = self.sums.last()?;
        let point = self.random.f64() * all;
        let rank = self.sums.partition_point(|&sum| sum <= point);
        // The product may be rounded up to the sum of all.
        self.ranks.get(rank).or(self.ranks.last()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_order() {
        let order = |seed| Order::new(48, seed).take(600).collect::<Vec<_>>();
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn few_images_take_half_of_the_views_and_all_have_some() {
        let mut views = [0_u32; 48];
        for number in Order::new(views.len(), 1).take(10_000) {
            views[number] += 1;
        }
        views.sort_unstable();
        assert!(views[0] > 0);
        // 1 + 1/2 + ... + 1/6 of 1 + 1/2 + ... + 1/48: 55 %.
        let often: u32 = views[42..].iter().sum();
        assert!((5300..5700).contains(&often), "{often}");
    }

    #[test]
    fn the_only_image_is_always_looked_at() {
        assert_eq!(Order::new(1, 3).take(3).collect::<Vec<_>>(), [0, 0, 0]);
    }
}
