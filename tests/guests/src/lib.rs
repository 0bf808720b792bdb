//! Code that the guests of the tests share with each other, and with native tests.

pub mod kernels;
#[cfg(target_arch = "wasm32")]
pub mod node;
#[cfg(target_arch = "wasm32")]
pub mod parts;
#[cfg(target_arch = "wasm32")]
pub mod raw;
pub mod scenarios;
pub mod soak;
