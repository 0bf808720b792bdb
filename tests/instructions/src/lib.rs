//! Nothing: see `benches/instructions.rs`.
