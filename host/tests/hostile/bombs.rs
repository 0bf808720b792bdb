//! Small components that are expensive to compile.
