//! A ring of samples in plain shared memory: one guest fills it, another one watches,
//! both by live windows.
//!
//! ```text
//!   count, ended, -, - | block 0 | block 1 | ... | block 63
//! ```
//!
//! The filler alone writes. It counts a block when it is complete, so that whoever
//! watches knows which blocks to read; and which not to read any more, since their
//! place is written anew.

pub mod levels;

use tombolo_guest::{LiveCells, LiveReadWindow, LiveWriteWindow, Read, Write};

/// The samples of a block: 10 ms of 48 kHz.
pub const BLOCK: usize = 480;
/// The blocks in the ring.
const BLOCKS: u32 = 64;
/// The values before the first block, of four bytes as samples have.
const HEAD: usize = 4;
/// Where in the head the number of complete blocks is, and whether more will come.
const COUNT: usize = 0;
const ENDED: usize = 1;

/// The size of the region.
pub const SIZE: u64 = ((HEAD + BLOCKS as usize * BLOCK) * size_of::<f32>()) as u64;
/// The scope in which the region is published, and its name there.
pub const SCOPE: &str = "sound";
/// See [`SCOPE`].
pub const NAME: &str = "ring";

fn place(block: u32) -> usize {
    HEAD + (block % BLOCKS) as usize * BLOCK
}

/// Writes blocks.
pub struct Filler<'w> {
    head: LiveCells<'w, u32, Write>,
    samples: LiveCells<'w, f32, Write>,
}

impl<'w> Filler<'w> {
    /// Fills the ring in a window.
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

    /// Says that no more will come.
    pub fn end(&self) {
        self.head.set(ENDED, 1);
    }
}

/// Reads blocks, without the filler's knowing.
pub struct Watcher<'w> {
    head: LiveCells<'w, u32, Read>,
    samples: LiveCells<'w, f32, Read>,
    next: u32,
}

/// What a watcher sees.
#[derive(Debug, PartialEq)]
pub enum Seen {
    /// The next block.
    Block(Box<[f32; BLOCK]>),
    /// So many blocks that nobody can read any more.
    Missed(u32),
    /// Nothing yet.
    Nothing,
    /// All there was.
    End,
}

impl<'w> Watcher<'w> {
    /// Watches the ring in a window, from its first block on.
    pub fn new(window: &'w LiveReadWindow<'_>) -> Self {
        Self {
            head: window.cells_of(),
            samples: window.cells_of(),
            next: 0,
        }
    }

    /// The next block, if it is there.
    pub fn read(&mut self) -> Seen {
        // In this order: nothing is counted after the end.
        let ended = self.head.get(ENDED) == 1;
        if self.next == self.head.get(COUNT) {
            return if ended { Seen::End } else { Seen::Nothing };
        }
        let mut block = Box::new([0.0; BLOCK]);
        self.samples.copy_to(place(self.next), &mut block[..]);
        // The turn may have ended in the middle: what is at its place now, or is being
        // written there, may be a later block.
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
