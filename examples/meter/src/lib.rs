//! A ring of samples in plain shared memory. One guest fills it and another one watches it,
//! both through live windows.
//!
//! ```text
//!   count, ended, -, - | block 0 | block 1 | ... | block 63
//! ```
//!
//! Only the filler writes. It counts each block when it is complete. So a watcher knows
//! which blocks it can read, and which blocks may have been overwritten.

pub mod levels;

use tombolo_guest::{LiveCells, LiveReadWindow, LiveWriteWindow, Read, Write};

/// The number of samples in a block: 10 ms at 48 kHz.
pub const BLOCK: usize = 480;
/// The number of blocks in the ring.
const BLOCKS: u32 = 64;
/// The number of values before the first block. They have four bytes, as samples do.
const HEAD: usize = 4;
/// The indices in the head: the number of complete blocks, and whether the tone has ended.
const COUNT: usize = 0;
const ENDED: usize = 1;

/// The size of the region in bytes.
pub const SIZE: u64 = ((HEAD + BLOCKS as usize * BLOCK) * size_of::<f32>()) as u64;
/// The scope of the published region.
pub const SCOPE: &str = "sound";
/// The name of the published region.
pub const NAME: &str = "ring";

fn place(block: u32) -> usize {
    HEAD + (block % BLOCKS) as usize * BLOCK
}

/// A writer of blocks.
pub struct Filler<'w> {
    head: LiveCells<'w, u32, Write>,
    samples: LiveCells<'w, f32, Write>,
}

impl<'w> Filler<'w> {
    /// Returns a filler of the ring in a window.
    pub fn new(window: &'w LiveWriteWindow<'_>) -> Self {
        Self {
            head: window.cells_of(),
            samples: window.cells_of(),
        }
    }

    /// Writes the next block, and counts it.
    pub fn write(&self, block: &[f32; BLOCK]) {
        let count = self.head.get(COUNT);
        self.samples.copy_from(place(count), block);
        self.head.set(COUNT, count + 1);
    }

    /// Marks the end.
    pub fn end(&self) {
        self.head.set(ENDED, 1);
    }
}

/// A reader of blocks. The filler does not notice it.
pub struct Watcher<'w> {
    head: LiveCells<'w, u32, Read>,
    samples: LiveCells<'w, f32, Read>,
    next: u32,
}

/// The state of the ring, as a watcher sees it.
#[derive(Debug, PartialEq)]
pub enum Seen {
    /// The next block.
    Block(Box<[f32; BLOCK]>),
    /// The number of blocks that were overwritten before they were read.
    Missed(u32),
    /// No new block.
    Nothing,
    /// The end, after all blocks.
    End,
}

impl<'w> Watcher<'w> {
    /// Returns a watcher of the ring in a window, which begins at the first block.
    pub fn new(window: &'w LiveReadWindow<'_>) -> Self {
        Self {
            head: window.cells_of(),
            samples: window.cells_of(),
            next: 0,
        }
    }

    /// Returns the next block, if it is complete.
    pub fn read(&mut self) -> Seen {
        // In this order, because nothing is counted after the end.
        let ended = self.head.get(ENDED) == 1;
        if self.next == self.head.get(COUNT) {
            return if ended { Seen::End } else { Seen::Nothing };
        }
        let mut block = Box::new([0.0; BLOCK]);
        self.samples.copy_to(place(self.next), &mut block[..]);
        // The turn may have ended during the copy. Then a later block is in its place, or
        // is being written there.
        let count = self.head.get(COUNT);
        if count - self.next >= BLOCKS {
            let missed = count - self.next - BLOCKS + 1;
            self.next += missed;
            return Seen::Missed(missed);
        }
        self.next += 1;
        Seen::Block(block)
    }
}
