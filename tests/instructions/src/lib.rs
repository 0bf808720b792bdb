//! Instruction counts of the ledger. They are in `benches/`.
