//! Pipes that nobody reads, FIFOs and slow file operations.
