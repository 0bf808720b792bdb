//! Guests that make the host allocate.
