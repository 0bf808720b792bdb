//! Lends: what a borrower keeps, and lends within one guest.
//!
//! | module | content |
//! |---|---|
//! | `composed` | lends between the parts of a composed component |
//! | `compose` | composing components |
//! | `kept` | windows that a borrower keeps after a lend |
//! | `within` | lends within a guest, step by step |

mod compose;
mod composed;
mod kept;
mod within;

tombolo_tests::guests!(lends);
