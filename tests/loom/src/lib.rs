//! Tests of the ledger under loom; see `tests/`.
