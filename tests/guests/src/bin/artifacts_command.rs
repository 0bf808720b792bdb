//! Exits successfully, without doing anything.

fn main() {}
