//! Tests of the ledger under loom. They are in `tests/`.
