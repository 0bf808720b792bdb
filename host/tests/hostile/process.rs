//! Resource limits, signals, closed descriptors, and no threads to be had.
