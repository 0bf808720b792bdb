//! Escape sequences in components, and ids that reveal too much.
