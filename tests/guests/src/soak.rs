//! Code that the guests of the soak test share with its test program: the expected bytes,
//! and the dice that choose the acts.

/// The number of bytes in a granule.
pub const GRANULE: usize = 65536;

/// The exit code of a guest that saw unexpected bytes. WASI has only this code and 0. A guest
/// that crashes on purpose traps, without a code.
pub const WRONG: i32 = 1;

/// Dice that roll the same numbers for the same seed.
pub struct Dice(u64);

impl Dice {
    /// The dice of a program that is given no seed.
    pub const FIRST: Self = Self(0);

    /// Returns the dice of a seed.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// Returns the next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end as u64).expect("the result is below `end`")
    }

    /// Returns true once in `times` calls, on average.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Returns a range of at least one of `count` items.
    pub fn range(&mut self, count: usize) -> std::ops::Range<usize> {
        let start = self.below(count);
        start..start + 1 + self.below(count - start)
    }
}

/// Spreads each bit over all bits.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// One granule of a region: the version that was written last, and its state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Part {
    /// The version, or 0 if the granule was never written.
    pub version: u32,
    /// Whether it was reported lost. Each word may then be zero.
    pub doubtful: bool,
    /// Whether its writer died while writing it. It may then hold any bytes.
    pub torn: bool,
    /// Whether it is pinned.
    pub pinned: bool,
}

impl Part {
    /// Returns an intact, unpinned granule of this version.
    pub fn of(version: u32) -> Self {
        Self {
            version,
            ..Self::default()
        }
    }
}

/// Returns the words of a granule, from its beginning. Those of version 0 are zero.
fn words(seed: u64, granule: usize, version: u32) -> impl Iterator<Item = u64> {
    const STEP: u64 = 0xd134_2543_de82_ef95;
    let base = mix(seed ^ mix(((granule as u64) << 32) | u64::from(version)));
    let some = u64::from(version > 0);
    (0..).map(move |at: u64| (base.wrapping_add(at.wrapping_mul(STEP)) | 1) * some)
}

/// Writes a granule.
pub fn fill(bytes: &mut [u8], seed: u64, granule: usize, version: u32) {
    let words = words(seed, granule, version);
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
}

/// Checks the bytes of a granule, starting at `offset` in it.
///
/// # Errors
///
/// The first word that is wrong.
pub fn check(
    bytes: &[u8],
    offset: usize,
    seed: u64,
    granule: usize,
    part: Part,
) -> Result<(), String> {
    if part.torn {
        return Ok(());
    }
    let words = words(seed, granule, part.version).skip(offset / 8);
    for (at, (found, word)) in bytes.chunks_exact(8).zip(words).enumerate() {
        let found = u64::from_le_bytes(found.try_into().expect("chunks have eight bytes"));
        if found != word && !(part.doubtful && found == 0) {
            return Err(format!(
                "granule {granule}, word {}: found {found:#x}, expected {word:#x}, {part:?}",
                offset / 8 + at
            ));
        }
    }
    Ok(())
}
