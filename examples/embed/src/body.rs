//! Bodies of requests: short ones as bytes, long ones in regions that are used again.

use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tombolo::{ReadGuard, Region, RegionError, RegionHost};

use crate::http::{self, ReceiveError};
use crate::plugin::{Refusal, Settings};

/// The length in bytes from which a body goes into a region. Shorter ones stay in the processor's
/// caches, where a copy takes less time than a window.
const LONG: u64 = 2 << 20;

/// The bytes that a body pins first. From then on it doubles what it pins.
const STEP: u64 = 256 << 10;

/// The most idle regions. Each takes a descriptor.
const MOST_IDLE: usize = 32;

/// The time after which a refused body looks again whether there is room.
const PAUSE: Duration = Duration::from_millis(20);

/// The body of a request.
#[derive(Debug)]
pub(crate) enum Body {
    Bytes(Bytes),
    /// The first `length` bytes of a region.
    Region {
        region: Pooled,
        length: u64,
    },
}

/// A reason why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Body(#[from] ReceiveError),
    #[error("there is no room for the body")]
    Busy(#[source] RegionError),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<RegionError> for Error {
    fn from(error: RegionError) -> Error {
        Error::Refused(error.into())
    }
}

/// The regions for bodies. Idle ones are unpinned, so the host purges them if it needs their
/// memory for others.
#[derive(Debug)]
pub(crate) struct Bodies {
    host: RegionHost,
    /// The longest body in bytes.
    most: u64,
    wait_time: Duration,
    /// The region that was used last is at the back.
    idle: Mutex<Vec<Region>>,
    /// Notified whenever a body has ended.
    ended: Notify,
}

impl Bodies {
    pub(crate) fn new(host: &RegionHost, settings: &Settings) -> Arc<Bodies> {
        Arc::new(Bodies {
            host: host.clone(),
            most: settings.body_bytes.min(settings.all_bytes),
            wait_time: settings.wait_time,
            idle: Mutex::default(),
            ended: Notify::new(),
        })
    }

    /// Receives a body.
    ///
    /// # Errors
    ///
    /// [`Error::Body`]; [`Error::Busy`] if there was no memory or no descriptor for too long.
    pub(crate) async fn receive(self: &Arc<Self>, mut body: Incoming) -> Result<Body, Error> {
        let announced = http::announced(&body, self.most)?;
        let mut start = Bytes::new();
        if announced < LONG {
            start = http::collect(&mut body, LONG.min(self.most + 1) as usize).await?;
            if start.len() as u64 > self.most {
                return Err(ReceiveError::TooLarge(self.most).into());
            }
            if (start.len() as u64) < LONG {
                return Ok(Body::Bytes(start));
            }
        }
        // A client that does not tell the length gets a region for the longest body. Bytes that
        // are not pinned cost nothing.
        let length = body.size_hint().exact().map(|_| announced);
        let mut filling = self.filling(length.unwrap_or(self.most)).await?;
        filling.write(&start).await?;
        while let Some(data) = http::next(&mut body).await? {
            filling.write(&data).await?;
        }
        if length.is_some() {
            // Then windows on the region always show the same part of it. It does no harm if
            // there is no room for this.
            let _ = filling.region.pin(..);
        }
        Ok(Body::Region {
            region: filling.region,
            length: filling.length,
        })
    }

    async fn filling(self: &Arc<Self>, size: u64) -> Result<Filling, Error> {
        // A few different sizes, so that regions fit again.
        let size = size.next_power_of_two().min(self.most);
        let region = self.patiently(|| self.region(size)).await?;
        Ok(Filling {
            region: Pooled {
                region: Some(region),
                bodies: self.clone(),
            },
            pinned: 0,
            length: 0,
        })
    }

    /// Returns an unpinned region of this size.
    fn region(&self, size: u64) -> Result<Region, RegionError> {
        let mut idle = self.idle();
        if let Some(at) = idle.iter().rposition(|region| region.size() == size) {
            return Ok(idle.remove(at));
        }
        let created = self.host.create_unpinned("body", size);
        if created.is_err() && !idle.is_empty() {
            // For its descriptor.
            idle.remove(0);
            return self.host.create_unpinned("body", size);
        }
        created
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Region>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Repeats something that others may be in the way of, until they no longer are.
    async fn patiently<R>(
        &self,
        mut act: impl FnMut() -> Result<R, RegionError>,
    ) -> Result<R, Error> {
        let deadline = Instant::now() + self.wait_time;
        loop {
            let ended = self.ended.notified();
            match act() {
                Err(error @ (RegionError::Exhausted(_) | RegionError::System(_))) => {
                    if Instant::now() >= deadline {
                        return Err(Error::Busy(error));
                    }
                    let _ = timeout(PAUSE, ended).await;
                }
                result => return Ok(result?),
            }
        }
    }
}

/// A body that is being received.
struct Filling {
    region: Pooled,
    /// How many bytes are pinned: in proportion to what has come, not to what was announced.
    pinned: u64,
    length: u64,
}

impl Filling {
    async fn write(&mut self, mut data: &[u8]) -> Result<(), Error> {
        while !data.is_empty() {
            if self.length == self.pinned {
                self.pin_more().await?;
            }
            let count = data.len().min((self.pinned - self.length) as usize);
            let (now, rest) = data.split_at(count);
            let Range { start, end } = self.length..self.length + count as u64;
            self.region.try_write(start..end)?.copy_from_slice(now);
            self.length = end;
            data = rest;
        }
        Ok(())
    }

    async fn pin_more(&mut self) -> Result<(), Error> {
        let Filling { region, pinned, .. } = self;
        let end = (2 * *pinned).max(STEP).min(region.size());
        if end == *pinned {
            return Err(ReceiveError::TooLarge(end).into());
        }
        let range = *pinned..end;
        let bodies = &region.bodies;
        bodies.patiently(|| region.pin(range.clone())).await?;
        *pinned = end;
        Ok(())
    }
}

/// A region that goes back to the others when it is dropped.
#[derive(Debug)]
pub(crate) struct Pooled {
    /// `None` only while this is dropped.
    region: Option<Region>,
    bodies: Arc<Bodies>,
}

impl Deref for Pooled {
    type Target = Region;

    fn deref(&self) -> &Region {
        self.region.as_ref().expect("taken only by the drop")
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        // A plugin that died may have left half of something, or windows.
        if let Some(region) = self.region.take()
            && !region.is_poisoned()
            && region.unpin(..).is_ok()
        {
            let mut idle = self.bodies.idle();
            idle.push(region);
            if idle.len() > MOST_IDLE {
                idle.remove(0);
            }
        }
        self.bodies.ended.notify_waiters();
    }
}

impl Body {
    /// Returns the answer that the plugin has put in the place of this body.
    ///
    /// # Errors
    ///
    /// [`Refusal::Failed`] if there is no region of that length.
    pub(crate) fn answer(self, length: u64) -> Result<Bytes, Refusal> {
        match self {
            Body::Region { region, .. } if length <= region.size() => {
                let guard = region.try_read(..length)?;
                Ok(Bytes::from_owner(InPlace {
                    guard,
                    _region: region,
                }))
            }
            _ => Err(Refusal::Failed(format!(
                "it says that its answer is in place, but there are no {length} bytes"
            ))),
        }
    }
}

/// An answer that is being sent.
struct InPlace {
    // Dropped before the region goes back.
    guard: ReadGuard,
    _region: Pooled,
}

impl AsRef<[u8]> for InPlace {
    fn as_ref(&self) -> &[u8] {
        &self.guard
    }
}
