//! A memory cgroup that is nearly full.
