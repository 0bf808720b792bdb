//! What the soak's guests and its test program share: which bytes there should
//! be, and by which dice they act.

/// The bytes in a granule.
pub const GRANULE: usize = 65536;

/// The code by which a guest says that it saw what it must not see. WASI knows no
/// others than this and 0; a guest that is to crash traps without one.
pub const WRONG: i32 = 1;

/// Dice that fall the same way for the same seed.
pub struct Dice(u64);

impl Dice {
    /// For who is given no seed.
    pub const FIRST: Self = Self(0);

    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("it is below a usize")
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A range of at least one of `count`.
    pub fn range(&mut self, count: usize) -> std::ops::Range<usize> {
        let start = self.below(count);
        start..start + 1 + self.below(count - start)
    }
}

/// Spreads every bit over all of them.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// One granule of a region: which version of it was written last, and what is
/// known of that.
#[derive(Clone, Copy, Debug, Default)]
pub struct Part {
    /// 0 for one that was never written.
    pub version: u32,
    /// It was told lost: each word may be a zero.
    pub doubtful: bool,
    /// Its writer died at it: it may be anything.
    pub torn: bool,
    pub pinned: bool,
}

impl Part {
    pub fn of(version: u32) -> Self {
        Self {
            version,
            ..Self::default()
        }
    }
}

/// The words of a granule, from the beginning on. Those of version 0 are zeros.
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

/// Says what is wrong with the bytes of a granule, of which these are those from
/// `offset` on.
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
        let found = u64::from_le_bytes(found.try_into().expect("eight of them"));
        if found != word && !(part.doubtful && found == 0) {
            return Err(format!(
                "granule {granule}, word {}: {found:#x} and not {word:#x}, {part:?}",
                offset / 8 + at
            ));
        }
    }
    Ok(())
}
