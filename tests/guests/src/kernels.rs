//! Loops over bytes, the same in guests and natively.

/// The step between two touches: the size of a kernel page, in bytes.
pub const PAGE: usize = 4096;

#[inline(always)]
fn fill_body(bytes: &mut [u8], seed: u64) {
    let mut value = seed;
    for word in bytes.chunks_exact_mut(8) {
        word.copy_from_slice(&value.to_le_bytes());
        value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    }
}

#[inline(always)]
fn sum_body(bytes: &[u8]) -> u64 {
    let mut sum = 0u64;
    for word in bytes.chunks_exact(8) {
        let word: [u8; 8] = word.try_into().expect("chunks have eight bytes");
        sum = sum.wrapping_add(u64::from_le_bytes(word));
    }
    sum
}

/// Writes every byte, eight at a time.
#[inline(never)]
pub fn fill(bytes: &mut [u8], seed: u64) {
    fill_body(bytes, seed);
}

/// Reads every byte, eight at a time.
#[inline(never)]
pub fn sum(bytes: &[u8]) -> u64 {
    sum_body(bytes)
}

/// The same loops with wasm vector instructions, several at a time. Natively, the compiler
/// vectorises the loops above in this way.
#[cfg(target_family = "wasm")]
#[allow(unsafe_code)]
pub mod vectors {
    use core::arch::wasm32::{
        i64x2_add, u64x2, u64x2_extract_lane, u64x2_splat, v128_load, v128_store,
    };
    use core::hint::black_box;

    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    /// Repeats an expression for each of these numbers, without a loop.
    macro_rules! for_each {
        ($part:ident of $($number:literal)*, $what:expr) => {
            $({
                let $part: usize = $number;
                $what
            })*
        };
    }

    // With epochs, each iteration of a loop checks the guest's deadline, and spills all vector
    // registers for that. So an iteration does much work. It begins with an address that is
    // opaque to the compiler: offsets from it are then part of the instructions, instead of
    // being added first.

    /// Writes every byte, as [`fill`](super::fill) does.
    #[target_feature(enable = "simd128")]
    #[inline(never)]
    pub fn fill(bytes: &mut [u8], seed: u64) {
        /// The number of vectors in flight.
        const VECTORS: usize = 8;

        /// The size of a part in bytes. Parts are written in order; the compiler chooses
        /// the order within a part.
        const PART: usize = 16 * VECTORS * 2;
        const BYTES: usize = PART * 8;

        let at = |index| seed.wrapping_add(STEP.wrapping_mul(index));
        let mut values = [u64x2_splat(0); VECTORS];
        for (index, value) in (0..).step_by(2).zip(&mut values) {
            *value = u64x2(at(index), at(index + 1));
        }
        let next = u64x2_splat(STEP.wrapping_mul(2 * VECTORS as u64));
        let (chunks, rest) = bytes.as_chunks_mut::<BYTES>();
        for chunk in chunks {
            let (parts, _) = chunk.as_chunks_mut::<PART>();
            for_each!(part of 0 1 2 3 4 5 6 7, {
                let (places, _) = black_box(&mut parts[part]).as_chunks_mut::<16>();
                for (index, place) in places.iter_mut().enumerate() {
                    let value = &mut values[index % VECTORS];
                    // SAFETY: a vector fits the place, at any alignment.
                    unsafe { v128_store(place.as_mut_ptr().cast(), *value) };
                    *value = i64x2_add(*value, next);
                }
            });
        }
        super::fill_body(rest, u64x2_extract_lane::<0>(values[0]));
    }

    /// Reads every byte, as [`sum`](super::sum) does.
    #[target_feature(enable = "simd128")]
    #[inline(never)]
    pub fn sum(bytes: &[u8]) -> u64 {
        /// The number of bytes that fit into the available registers.
        const BYTES: usize = 16 * 12;

        let mut sum = 0u64;
        let (chunks, rest) = bytes.as_chunks::<BYTES>();
        for chunk in chunks {
            let (places, _) = black_box(chunk).as_chunks::<16>();
            let mut one = u64x2_splat(0);
            for place in places {
                // SAFETY: as above.
                one = i64x2_add(one, unsafe { v128_load(place.as_ptr().cast()) });
            }
            // No vector lives beyond the iteration.
            let one = u64x2_extract_lane::<0>(one).wrapping_add(u64x2_extract_lane::<1>(one));
            sum = sum.wrapping_add(one);
        }
        sum.wrapping_add(super::sum_body(rest))
    }
}

/// Reads a byte of each page.
#[inline(never)]
pub fn touch(bytes: &[u8]) -> u64 {
    let pages = bytes.iter().step_by(PAGE);
    pages.fold(0, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}

/// Reads `times` words at scattered addresses. Each address depends on the previous word.
#[inline(never)]
pub fn scatter(bytes: &[u8], times: usize) -> u64 {
    let words = bytes.len() / 8;
    let mut at = 1usize;
    let mut sum = 0u64;
    for _ in 0..times {
        let word = &bytes[8 * (at % words)..][..8];
        let value = u64::from_le_bytes(word.try_into().expect("chunks have eight bytes"));
        sum = sum.wrapping_add(value);
        // A step of a generator with a full period, combined with the word.
        let next = (at as u64).wrapping_mul(6_364_136_223_846_793_005);
        at = (next.wrapping_add(1_442_695_040_888_963_407) >> 11) as usize ^ (value & 1) as usize;
    }
    sum
}
