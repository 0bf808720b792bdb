//! The errors of operations on windows.

use std::io;

use crate::sys::vmas::TooManyVmas;

/// A reason why a window could not be mapped or changed.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// Another window is under that part of the memory.
    #[error("another window lies there")]
    Overlap,
    /// The process's VMAs are used up.
    #[error(transparent)]
    Process(#[from] TooManyVmas),
    /// The guest's VMA splits are used up.
    #[error("limit `vmas`: no more kernel mappings (VMAs) for this guest's memories")]
    Guest {
        /// The limit.
        most: u64,
    },
    /// The store in hand is not the one that the memory belongs to.
    #[error("the window belongs to another store than the one in hand")]
    Foreign,
    /// The memory could not be restored earlier on.
    #[error("the memory could not be restored, and is out of use")]
    Broken,
    /// The kernel refused.
    #[error("the kernel refused the mapping")]
    System(#[from] io::Error),
}
