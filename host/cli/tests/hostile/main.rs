//! Hostile guests and hostile process conditions, met by the real program.
//!
//! Each case runs an innocent guest beside the hostile one and checks that the
//! innocent guest's work comes out right. Each is named for what must hold.
//!
//! | module | what is hostile |
//! |---|---|
//! | `starvation` | guests that make the host's own steps long |
//! | `host_memory` | guests that make the host allocate |
//! | `low_memory` | a memory cgroup that is nearly full |
//! | `refusals` | a kernel that refuses system calls |
//! | `blocking` | pipes that nobody reads, FIFOs, slow file operations |
//! | `process` | resource limits, signals, closed descriptors, no threads |
//! | `text` | escape sequences in components, ids that tell too much |
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
