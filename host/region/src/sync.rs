//! The primitives that threads and tasks wait with.
//!
//! The features `loom` and `shuttle` replace the locks of the standard library by those of a
//! model checker. With `shuttle`, each use of a notification is also a point at which another
//! thread may go on.

#[cfg(feature = "loom")]
pub use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(all(feature = "shuttle", not(feature = "loom")))]
pub use shuttle::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
pub use std::sync::{Condvar, Mutex, MutexGuard};

#[cfg(all(feature = "shuttle", not(feature = "loom")))]
pub use self::stepping::{Notify, step};
#[cfg(not(all(feature = "shuttle", not(feature = "loom"))))]
pub use tokio::sync::Notify;

/// Primitives each use of which is a step of a schedule.
#[cfg(all(feature = "shuttle", not(feature = "loom")))]
mod stepping {
    use shuttle::sync::atomic::{AtomicBool, Ordering};
    use tokio::sync::futures::Notified;

    /// Lets other threads go on, as each access to memory that threads share does.
    pub fn step() {
        AtomicBool::new(false).load(Ordering::SeqCst);
    }

    /// The `Notify` of tokio, with a step before each use.
    #[derive(Debug, Default)]
    pub struct Notify(tokio::sync::Notify);

    impl Notify {
        /// Creates one that was not notified.
        pub fn new() -> Notify {
            Notify::default()
        }

        /// Returns a wait for the next notification.
        pub fn notified(&self) -> Notified<'_> {
            step();
            self.0.notified()
        }

        /// Wakes all that wait now.
        pub fn notify_waiters(&self) {
            step();
            self.0.notify_waiters();
        }
    }
}
