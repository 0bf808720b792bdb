//! Hostile guests and hostile process conditions against the real program.
//!
//! Each case runs an innocent guest beside the hostile one, and checks that the innocent guest
//! finishes its work correctly. Its name states the property that must hold.
//!
//! | module | hostile part |
//! |---|---|
//! | `starvation` | guests that make the host's own steps long |
//! | `host_memory` | guests that make the host allocate |
//! | `low_memory` | a memory cgroup that is nearly full |
//! | `refusals` | a kernel that refuses system calls |
//! | `blocking` | pipes without a reader, FIFOs, slow file operations |
//! | `process` | resource limits, signals, closed descriptors, no threads |
//! | `text` | escape sequences in components, identities that reveal too much |
//! | `bombs` | small components that are expensive to compile |

mod blocking;
mod bombs;
mod host_memory;
mod low_memory;
mod process;
mod program;
mod refusals;
mod starvation;
mod text;

tombolo_tests::guests!(hostile);
