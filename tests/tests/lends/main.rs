//! Lends: what a borrower keeps, and lends within one guest.
//!
//! | module | content |
//! |---|---|
//! | `kept` | windows that a borrower keeps after a lend |
//! | `within` | lends within a guest, step by step |

mod kept;
mod within;
