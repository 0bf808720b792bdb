/// A random order of views. Some images are viewed often and most of them rarely. The order
/// is the same for the same seed.
///
/// The image on rank `r` is viewed `1 / (r + 1)` times as often as the first. Books in
/// libraries and pages on the web follow this distribution.
pub(crate) struct Order {
    random: fastrand::Rng,
    /// The images, by rank.
    ranks: Vec<usize>,
    /// The sum of the weights up to each rank.
    sums: Vec<f64>,
}

impl Order {
    /// Returns an order of this many images, at least one.
    pub(crate) fn new(images: usize, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut ranks: Vec<_> = (0..images).collect();
        // Otherwise the rank would match the order in which the cache was filled.
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
        // The product may be rounded up to the total.
        self.ranks.get(rank).or(self.ranks.last()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_yields_same_order() {
        let order = |seed| Order::new(48, seed).take(600).collect::<Vec<_>>();
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn few_images_get_half_of_the_views() {
        let mut views = [0_u32; 48];
        for number in Order::new(views.len(), 1).take(10_000) {
            views[number] += 1;
        }
        views.sort_unstable();
        assert!(views[0] > 0);
        // (1 + 1/2 + ... + 1/6) / (1 + 1/2 + ... + 1/48) = 55 %.
        let often: u32 = views[42..].iter().sum();
        assert!((5300..5700).contains(&often), "{often}");
    }

    #[test]
    fn only_image_gets_every_view() {
        assert_eq!(Order::new(1, 3).take(3).collect::<Vec<_>>(), [0, 0, 0]);
    }
}
