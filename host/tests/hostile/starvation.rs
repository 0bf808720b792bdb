//! Guests that make the host's own steps long.
