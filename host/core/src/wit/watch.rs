//! Watches of the level of memory pressure.

use std::sync::{Arc, Mutex, PoisonError};

use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::Pollable;

use crate::host::RegionHost;
use crate::pressure::Level;

/// The resource `watch`. Its pollables are clones of it, so that they can outlive it.
#[derive(Clone)]
pub struct Watch {
    /// Owns the sender of the level.
    host: RegionHost,
    told: Arc<Mutex<Level>>,
}

impl Watch {
    pub(super) fn new(host: RegionHost) -> Watch {
        Watch {
            host,
            told: Arc::new(Mutex::new(Level::Normal)),
        }
    }

    fn told(&self) -> Level {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self) -> Level {
        let level = self.host.pressure();
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = level;
        level
    }
}

#[async_trait]
impl Pollable for Watch {
    async fn ready(&mut self) {
        let mut changes = self.host.pressure_changes();
        while changes.level() == self.told() {
            changes.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_ready(watch: &mut Watch) -> bool {
        let ready = pin!(watch.ready());
        ready.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    // rule 8
    #[test]
    fn watch_is_ready_until_the_level_is_read() {
        let host = RegionHost::new();
        let watch = Watch::new(host.clone());
        let mut pollable = watch.clone();
        assert!(!is_ready(&mut pollable));
        host.report_pressure(Level::Moderate);
        assert!(is_ready(&mut pollable));
        assert!(is_ready(&mut pollable), "until it is told");
        assert_eq!(watch.tell(), Level::Moderate);
        assert!(!is_ready(&mut pollable));
        host.report_pressure(Level::Critical);
        assert!(is_ready(&mut pollable));
        host.report_pressure(Level::Moderate);
        assert!(!is_ready(&mut pollable), "it is as it was told");
        host.report_pressure(Level::Normal);
        assert!(is_ready(&mut pollable));
    }

    // rule 8
    #[test]
    fn new_watch_is_ready_at_once_under_pressure() {
        let host = RegionHost::new();
        host.report_pressure(Level::Moderate);
        assert!(is_ready(&mut Watch::new(host)));
    }

    // rule 8
    #[test]
    fn change_between_looking_and_waiting_wakes() {
        let host = RegionHost::new();
        let watch = Watch::new(host.clone());
        assert_eq!(watch.tell(), Level::Normal);
        host.report_pressure(Level::Critical);
        let mut pollable = watch.clone();
        // Nothing comes after this, and still it does not wait for ever.
        assert!(is_ready(&mut pollable));
    }
}
