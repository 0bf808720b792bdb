//! Scopes: names under which guests of an app find regions.
//!
//! A scope maps names to claims. Publishing duplicates a claim, on the publisher's account.
//! Opening duplicates it again, on the opener's account, with the rights that are published
//! *and* that the opener has in the scope. The name goes with its [`Publication`], at the
//! latest with the guest that has it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use tombolo::internal::{RecipientInternals as _, RegionInternals as _};
use tombolo::{Recipient, Region, RegionError, Rights};
use tombolo_exchange::GuestId;
use tombolo_region::RegionName;

/// Why a region was not published or opened.
#[derive(Debug)]
pub(super) enum ScopeError {
    NotPermitted,
    Absent,
    Taken,
    Region(RegionError),
}

impl From<RegionError> for ScopeError {
    fn from(error: RegionError) -> ScopeError {
        ScopeError::Region(error)
    }
}

/// A scope of an app.
pub(super) struct Scope {
    name: String,
    /// The members, and their rights.
    members: Vec<(GuestId, Rights)>,
    names: Mutex<BTreeMap<String, PublishedRegion>>,
    /// Notified of every name that is published.
    published: Notify,
}

/// A published region: a claim of the publisher, and the rights that others get.
struct PublishedRegion {
    region: Region,
    rights: Rights,
}

impl Scope {
    pub(super) fn new(name: String, members: Vec<(GuestId, Rights)>) -> Scope {
        Scope {
            name,
            members,
            names: Mutex::default(),
            published: Notify::new(),
        }
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, PublishedRegion>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A published name, until it is dropped.
pub(super) struct Publication {
    scope: Arc<Scope>,
    name: String,
}

impl Drop for Publication {
    fn drop(&mut self) {
        // Dropped without the lock, because regions have locks of their own.
        let entry = self.scope.names().remove(&self.name);
        drop(entry);
    }
}

/// Waits for a name.
#[derive(Clone)]
pub(super) struct Awaited {
    scope: Arc<Scope>,
    name: String,
}

impl Awaited {
    pub(super) async fn ready(&self) {
        loop {
            // Registers before it looks, so that no name is missed.
            let published = self.scope.published.notified();
            tokio::pin!(published);
            published.as_mut().enable();
            if self.scope.names().contains_key(&self.name) {
                return;
            }
            published.await;
        }
    }
}

/// The scopes of an app.
#[derive(Default)]
pub(super) struct Scopes(Vec<Arc<Scope>>);

impl Scopes {
    pub(super) fn new(scopes: impl IntoIterator<Item = Scope>) -> Scopes {
        Scopes(scopes.into_iter().map(Arc::new).collect())
    }

    /// Returns the scope of this name, and the rights that the guest has in it.
    fn granted(&self, guest: GuestId, name: &str) -> Result<(&Arc<Scope>, Rights), ScopeError> {
        let scope = self.0.iter().find(|scope| scope.name == name);
        let scope = scope.ok_or(ScopeError::NotPermitted)?;
        let member = scope.members.iter().find(|(member, _)| *member == guest);
        let (_, rights) = member.ok_or(ScopeError::NotPermitted)?;
        Ok((scope, *rights))
    }

    /// Publishes a region of the guest.
    pub(super) fn publish(
        &self,
        guest: GuestId,
        scope: &str,
        name: String,
        region: &Region,
        rights: Rights,
    ) -> Result<Publication, ScopeError> {
        let (scope, granted) = self.granted(guest, scope)?;
        if !granted.contains(Rights::SHARE) {
            return Err(ScopeError::NotPermitted);
        }
        RegionName::new(&name).map_err(RegionError::from)?;
        if scope.names().contains_key(&name) {
            return Err(ScopeError::Taken);
        }
        // Duplicating it needs `share`, whether or not others get that.
        let entry = PublishedRegion {
            region: region.duplicate(rights | Rights::SHARE)?,
            rights,
        };
        let mut names = scope.names();
        if names.contains_key(&name) {
            drop(names);
            // Another guest was faster. The claim is dropped without the lock.
            drop(entry);
            return Err(ScopeError::Taken);
        }
        names.insert(name.clone(), entry);
        drop(names);
        scope.published.notify_waiters();
        Ok(Publication {
            scope: scope.clone(),
            name,
        })
    }

    /// Opens the region that is published under a name, for the guest.
    pub(super) fn open(
        &self,
        guest: GuestId,
        scope: &str,
        name: &str,
        to: &Recipient,
    ) -> Result<Region, ScopeError> {
        let (scope, granted) = self.granted(guest, scope)?;
        let names = scope.names();
        let entry = names.get(name).ok_or(ScopeError::Absent)?;
        let rights = entry.rights.and(granted);
        Ok(entry.region.duplicate_for(rights, to.owner())?)
    }

    /// Returns a wait until a name is published.
    pub(super) fn awaited(
        &self,
        guest: GuestId,
        scope: &str,
        name: &str,
    ) -> Result<Awaited, ScopeError> {
        let (scope, _) = self.granted(guest, scope)?;
        // The text is kept while the guest waits, so its length is checked.
        RegionName::new(name).map_err(RegionError::from)?;
        Ok(Awaited {
            scope: scope.clone(),
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use tombolo::RegionHost;

    fn id(index: usize) -> GuestId {
        GuestId::new(index)
    }

    /// Guest 0 has all rights in `s`, guest 1 those to read, guest 2 is not a member.
    fn scopes() -> Scopes {
        Scopes::new([Scope::new(
            "s".into(),
            vec![(id(0), Rights::ALL), (id(1), Rights::READ)],
        )])
    }

    fn is_ready(awaited: &Awaited) -> bool {
        let ready = pin!(awaited.ready());
        ready.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    // rule 1
    #[test]
    fn opened_region_has_the_members_rights() {
        let (host, scopes) = (RegionHost::new(), scopes());
        let region = host.create("r", 1).unwrap();
        let awaited = scopes.awaited(id(1), "s", "n").unwrap();
        assert!(!is_ready(&awaited));
        let all = Rights::READ | Rights::WRITE;
        let publication = scopes
            .publish(id(0), "s", "n".into(), &region, all)
            .unwrap();
        assert!(is_ready(&awaited));
        let to = host.context("1").build().recipient();
        let opened = scopes.open(id(1), "s", "n", &to).unwrap();
        assert_eq!((opened.id(), opened.rights()), (region.id(), Rights::READ));
        assert_eq!(&*opened.owner().name, "1");
        assert_eq!(scopes.open(id(0), "s", "n", &to).unwrap().rights(), all);
        let again = scopes.publish(id(0), "s", "n".into(), &region, all);
        assert!(matches!(again, Err(ScopeError::Taken)));
        drop(publication);
        assert!(!is_ready(&awaited));
        assert!(matches!(
            scopes.open(id(1), "s", "n", &to),
            Err(ScopeError::Absent)
        ));
        drop(region);
        assert_eq!(host.counts().regions_freed, 0, "it is open");
        drop(opened);
        assert_eq!(host.counts().regions_freed, 1);
    }

    // rule 1
    #[test]
    fn refusal_hides_whether_a_name_exists() {
        let (host, scopes) = (RegionHost::new(), scopes());
        let region = host.create("r", 1).unwrap();
        let to = host.context("2").build().recipient();
        let _it = scopes
            .publish(id(0), "s", "n".into(), &region, Rights::READ)
            .unwrap();
        for (scope, name) in [("s", "n"), ("s", "m"), ("t", "n")] {
            let opened = scopes.open(id(2), scope, name, &to);
            assert!(matches!(opened, Err(ScopeError::NotPermitted)));
            let awaited = scopes.awaited(id(2), scope, name);
            assert!(matches!(awaited, Err(ScopeError::NotPermitted)));
            for guest in [1, 2] {
                let published =
                    scopes.publish(id(guest), scope, name.into(), &region, Rights::READ);
                assert!(matches!(published, Err(ScopeError::NotPermitted)));
            }
        }
    }

    // rule 1
    #[test]
    fn publishing_needs_the_share_right() {
        let (host, scopes) = (RegionHost::new(), scopes());
        let region = host.create("r", 1).unwrap();
        let reader = region.duplicate(Rights::READ).unwrap();
        let published = scopes.publish(id(0), "s", "n".into(), &reader, Rights::READ);
        let Err(ScopeError::Region(RegionError::NotPermitted)) = published else {
            panic!("it cannot be shared");
        };
        let sharer = region.duplicate(Rights::READ | Rights::SHARE).unwrap();
        let published = scopes.publish(id(0), "s", "n".into(), &sharer, Rights::WRITE);
        assert!(
            matches!(published, Err(ScopeError::Region(_))),
            "more than it has"
        );
        let long = "n".repeat(201);
        for name in ["", "\0", &long] {
            let awaited = scopes.awaited(id(0), "s", name);
            assert!(matches!(
                awaited,
                Err(ScopeError::Region(RegionError::Name(_)))
            ));
        }
        let published = scopes.publish(id(0), "s", "\0".into(), &sharer, Rights::READ);
        assert!(matches!(
            published,
            Err(ScopeError::Region(RegionError::Name(_)))
        ));
    }
}
