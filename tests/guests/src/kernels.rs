//! What is done to bytes, the same in guests and natively.

/// The step between two touches: a page of the kernel's.
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
        let word: [u8; 8] = word.try_into().expect("they are eight");
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

/// The same with the vector instructions of wasm.
#[cfg(target_family = "wasm")]
#[target_feature(enable = "simd128")]
#[inline(never)]
pub fn fill_simd(bytes: &mut [u8], seed: u64) {
    fill_body(bytes, seed);
}

/// The same with the vector instructions of wasm.
#[cfg(target_family = "wasm")]
#[target_feature(enable = "simd128")]
#[inline(never)]
pub fn sum_simd(bytes: &[u8]) -> u64 {
    sum_body(bytes)
}

/// Reads a byte of each page.
#[inline(never)]
pub fn touch(bytes: &[u8]) -> u64 {
    let pages = bytes.iter().step_by(PAGE);
    pages.fold(0, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}

/// Reads so many words here and there, each where the one before it says.
#[inline(never)]
pub fn scatter(bytes: &[u8], times: usize) -> u64 {
    let words = bytes.len() / 8;
    let mut at = 1usize;
    let mut sum = 0u64;
    for _ in 0..times {
        let word = &bytes[8 * (at % words)..][..8];
        let value = u64::from_le_bytes(word.try_into().expect("they are eight"));
        sum = sum.wrapping_add(value);
        // A step of a generator of full period, and what was read.
        let next = (at as u64).wrapping_mul(6_364_136_223_846_793_005);
        at = (next.wrapping_add(1_442_695_040_888_963_407) >> 11) as usize ^ (value & 1) as usize;
    }
    sum
}
