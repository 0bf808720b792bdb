//! A kernel that refuses system calls.
