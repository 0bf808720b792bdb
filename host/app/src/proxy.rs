//! Resources that guests define, in the hands of other guests.
//!
//! ```text
//!   guest A's store                                owner's store
//!   handle -> ProxyEntry --- Arc<Token> -------->  ResourceAny -> its rep
//! ```
//!
//! # Tokens
//!
//! Another guest has a *proxy*: a resource of the host, whose entry has a [`Token`]. The token
//! stands for the one owning handle, which the owner's store keeps, and names one incarnation
//! of the owner by its mailbox. Moving a proxy moves the token from table to table. When it
//! reaches its owner, it becomes the handle again. A proxy to an earlier incarnation is never
//! looked up in a later one: the call is answered that the resource is gone, and why.
//!
//! The last holder of a token tells the owner when it drops it, by an item in the mailbox,
//! behind all calls that were sent before. That is in the token's `Drop`. So it does not matter
//! whether a guest dropped the handle, ended, or was to get it in a reply that is not awaited
//! any more. The owner runs the destructor as it runs a call, with a deadline, and a failure
//! ends the owner.
//!
//! # Lending
//!
//! Lending makes an entry in the borrower's table with the same token, for the length of the
//! call. The entry notes how the lender has the proxy. So the end of a call also revokes what
//! was re-lent in it. The owner itself is lent its own handle. Unlike with regions, the lender
//! does not wait until what was re-lent is back: the owner takes one call at a time, and checks
//! when it begins it.
//!
//! A proxy counts as one of the guest's `handles`, lent or not. The receiver's account is
//! charged before anything is sent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::component::{
    Component, Instance, Resource, ResourceAny, ResourceDynamic, ResourceTable, ResourceType,
};
use wasmtime::{AsContextMut, Store, StoreContextMut};

use super::link;
use tombolo::internal::{
    BorrowedInternals as _, RecipientInternals as _, RegionCtxInternals as _,
    RegionErrorInternals as _,
};
use tombolo::{Borrowed, Limits, PackError, Recipient, RegionError, RegionView};
use tombolo_exchange::GuestId;
use tombolo_region::escape;
use tombolo_region::{Charge, ChargeKind};

/// A resource that a guest defines.
#[derive(Debug)]
pub(super) struct ProxyKind {
    /// The number that tells it from all others, in the stores of other guests.
    number: u32,
    defined: link::ResourceDef,
    /// With its interface, for messages.
    text: String,
}

impl ProxyKind {
    /// Returns those of an app, by their numbers.
    pub(super) fn all(kinds: Vec<link::ResourceDef>) -> Vec<Arc<ProxyKind>> {
        let kinds = (0..).zip(kinds).map(|(number, defined)| {
            let text = format!("{}.{}", escape(&defined.export), defined.name);
            Arc::new(ProxyKind {
                number,
                defined,
                text,
            })
        });
        kinds.collect()
    }

    /// Returns the name of its destructor, as the canonical ABI has it.
    pub(super) fn destructor(&self) -> String {
        format!(
            "{}.[dtor]{}",
            escape(&self.defined.export),
            self.defined.name
        )
    }
}

/// A resource that no other guest has any more, for its owner.
pub(super) struct Dropped {
    pub(super) resource: ResourceAny,
    pub(super) kind: Arc<ProxyKind>,
}

/// The incarnation of a guest that defines resources.
pub(super) trait ProxyOwner: Send + Sync {
    /// Returns the guest.
    fn guest(&self) -> GuestId;

    /// Returns the guest as a receiver of regions.
    fn recipient(&self) -> &Recipient;

    /// Returns the text for a caller of the guest after its end.
    fn exit_reason(&self) -> String;

    /// Notifies the guest that no other guest has one of its resources any more. If the guest
    /// has ended, the resource went with it.
    fn notify_dropped(&self, dropped: Dropped);
}

/// The data of a store whose guest has proxies.
pub(super) trait ProxyView: RegionView + Send + 'static {
    /// Returns the guest's proxies.
    fn proxies(&mut self) -> &mut Proxies;
}

/// One resource of a guest, which other guests have.
struct Token {
    kind: Arc<ProxyKind>,
    /// The incarnation of the guest that defines it.
    owner: Arc<dyn ProxyOwner>,
    /// The owning handle in the owner's store, until it is back there. Only the owner's task
    /// takes it out.
    resource: Mutex<Option<ResourceAny>>,
}

impl Token {
    fn resource(&self) -> MutexGuard<'_, Option<ResourceAny>> {
        self.resource.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn belongs_to(&self, recipient: &Recipient) -> bool {
        Arc::ptr_eq(self.owner.recipient().owner(), recipient.owner())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if let Some(resource) = self.resource().take() {
            self.owner.notify_dropped(Dropped {
                resource,
                kind: self.kind.clone(),
            });
        }
    }
}

/// A lend of a proxy, for one call.
struct Lend {
    over: AtomicBool,
    /// The lend by which the lender itself has it.
    parent: Option<Arc<Lend>>,
}

impl Lend {
    /// Returns whether this call has ended, or one in which it was made.
    fn is_over(&self) -> bool {
        let mut next = Some(self);
        while let Some(lend) = next {
            if lend.over.load(Ordering::Acquire) {
                return true;
            }
            next = lend.parent.as_deref();
        }
        false
    }
}

/// Ends a lend when it is dropped.
struct ProxyLendGuard(Arc<Lend>);

impl Drop for ProxyLendGuard {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

/// A proxy in a guest's table.
struct ProxyEntry {
    token: Arc<Token>,
    /// The lend, if it is lent to the guest.
    lend: Option<Arc<Lend>>,
    _charge: Option<Charge>,
}

/// The proxies of one guest, and the types of its own resources.
pub(super) struct Proxies {
    table: ResourceTable,
    own: Vec<(ResourceType, Arc<ProxyKind>)>,
    /// The guest itself, once it is instantiated.
    owner: Option<Arc<dyn ProxyOwner>>,
}

impl Proxies {
    pub(super) fn new(limits: &Limits) -> Proxies {
        let mut table = ResourceTable::new();
        // More than the account allows, so that the account's limit is met first.
        table.set_max_capacity((limits.handles as usize).saturating_add(16));
        Proxies {
            table,
            own: Vec::new(),
            owner: None,
        }
    }

    /// Notes the types of the resources that the guest itself defines, after it was
    /// instantiated.
    pub(super) fn instantiated(
        store: &mut Store<impl ProxyView>,
        component: &Component,
        instance: Instance,
        kinds: &[Arc<ProxyKind>],
        owner: Arc<dyn ProxyOwner>,
    ) {
        let own = kinds
            .iter()
            .filter(|kind| kind.defined.owner == owner.guest())
            .filter_map(|kind| {
                let interface = component.get_export_index(None, &kind.defined.export)?;
                let export = component.get_export_index(Some(&interface), &kind.defined.name)?;
                let ty = instance.get_resource(&mut *store, export)?;
                Some((ty, kind.clone()))
            });
        let own = own.collect();
        let proxies = store.data_mut().proxies();
        proxies.own = own;
        proxies.owner = Some(owner);
    }

    /// Removes the entry of a handle that the guest has dropped.
    pub(super) fn forget(&mut self, rep: u32) -> wasmtime::Result<()> {
        self.table.delete(entry(rep))?;
        Ok(())
    }

    fn own(&self, ty: ResourceType) -> Option<(Arc<ProxyKind>, Arc<dyn ProxyOwner>)> {
        let (_, kind) = self.own.iter().find(|(own, _)| *own == ty)?;
        Some((kind.clone(), self.owner.clone()?))
    }
}

/// Returns the place of an entry in the table.
fn entry(rep: u32) -> Resource<ProxyEntry> {
    Resource::new_own(rep)
}

/// Why values do not reach their receiver.
pub(super) enum PassError {
    /// The text for the caller.
    Refused(String),
    /// The guest whose store is in use cannot go on.
    Fatal(wasmtime::Error),
}

impl From<wasmtime::Error> for PassError {
    fn from(error: wasmtime::Error) -> PassError {
        PassError::Fatal(error)
    }
}

/// The role of the guest that is told why values cannot be passed: always the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// It sends arguments.
    Sends,
    /// It receives results.
    Receives,
}

impl Caller {
    /// Returns the text for the caller. The operator gets the whole error.
    pub(super) fn refused(self, error: PackError) -> PassError {
        let told = match self {
            Caller::Sends => error.for_sender(),
            Caller::Receives => error.for_receiver(),
        };
        match error {
            PackError::Fatal(error) => PassError::Fatal(error),
            error => {
                let error = wasmtime::Error::from(error);
                tracing::info!("values cannot be passed: {error:#}");
                PassError::Refused(told)
            }
        }
    }
}

/// A proxy without a store.
pub(super) struct CarriedProxy {
    token: Arc<Token>,
    /// The lend, if it is lent.
    lend: Option<ProxyLendGuard>,
    /// The charge on the receiver's account. The owner itself is not charged.
    charge: Option<Charge>,
}

impl CarriedProxy {
    /// Charges it to the guest to which it goes.
    ///
    /// # Errors
    ///
    /// The reason why it may not go there.
    pub(super) fn address(
        &mut self,
        guest: GuestId,
        to: &Recipient,
        caller: Caller,
    ) -> Result<(), String> {
        self.check()?;
        if self.token.belongs_to(to) {
            return Ok(());
        }
        if self.token.owner.guest() == guest {
            // The owner was restarted, and does not know this resource.
            return Err(self.gone());
        }
        let charge = to.owner().account.charge(ChargeKind::Handles, 1);
        let charge = charge.map_err(|error| {
            let what = match self.lend {
                Some(_) => "lent",
                None => "moved",
            };
            let reason = RegionError::from(error);
            let reason = match caller {
                Caller::Sends => reason.for_others(),
                Caller::Receives => reason.for_its_guest(),
            };
            let text = &self.token.kind.text;
            format!("resource `{text}` cannot be {what}: {reason}")
        })?;
        self.charge = Some(charge);
        Ok(())
    }

    /// Fails if its holder may not use it any more.
    pub(super) fn check(&self) -> Result<(), String> {
        let text = &self.token.kind.text;
        if self
            .lend
            .as_ref()
            .is_some_and(|ProxyLendGuard(lend)| lend.is_over())
        {
            return Err(format!(
                "resource `{text}` was lent for a call that has ended"
            ));
        }
        match *self.token.resource() {
            Some(_) => Ok(()),
            None => Err(format!("resource `{text}` is back with its owner")),
        }
    }

    fn gone(&self) -> String {
        let why = self.token.owner.exit_reason();
        format!("resource `{}` is gone: {why}", self.token.kind.text)
    }
}

/// Takes one handle out of the sender's store; begins the lend of a borrowed one.
pub(super) fn take_out(
    store: &mut StoreContextMut<'_, impl ProxyView>,
    any: ResourceAny,
) -> wasmtime::Result<CarriedProxy> {
    if let Some((kind, owner)) = store.data_mut().proxies().own(any.ty()) {
        if !any.owned() {
            wasmtime::bail!("a guest cannot lend a resource of its own");
        }
        let resource = Mutex::new(Some(any));
        return Ok(CarriedProxy {
            token: Arc::new(Token {
                kind,
                owner,
                resource,
            }),
            lend: None,
            charge: None,
        });
    }
    let proxy = any.try_into_resource_dynamic(&mut *store)?;
    let table = &mut store.data_mut().proxies().table;
    if proxy.owned() {
        let ProxyEntry { token, .. } = table.delete(entry(proxy.rep()))?;
        return Ok(CarriedProxy {
            token,
            lend: None,
            charge: None,
        });
    }
    let ProxyEntry { token, lend, .. } = table.get(&entry(proxy.rep()))?;
    let lend = Lend {
        over: AtomicBool::new(false),
        parent: lend.clone(),
    };
    Ok(CarriedProxy {
        token: token.clone(),
        lend: Some(ProxyLendGuard(Arc::new(lend))),
        charge: None,
    })
}

/// Puts one handle into the receiver's store; notes a lent one.
pub(super) fn put_in(
    store: &mut StoreContextMut<'_, impl ProxyView>,
    one: CarriedProxy,
    held: &mut Vec<HeldOne>,
) -> wasmtime::Result<ResourceAny> {
    let CarriedProxy {
        token,
        lend,
        charge,
    } = one;
    if Arc::ptr_eq(
        token.owner.recipient().owner(),
        store.data_mut().region_ctx().owner(),
    ) {
        // It was checked that it is there, and only this task takes it out.
        let back = || wasmtime::Error::msg("a resource is back with its owner already");
        return match lend {
            None => token.resource().take().ok_or_else(back),
            Some(guard) => {
                let any = (*token.resource()).ok_or_else(back)?;
                held.push(HeldOne {
                    proxy: None,
                    _guard: guard,
                    _token: token,
                });
                Ok(any)
            }
        };
    }
    let kind = token.kind.number;
    let made = store.data_mut().proxies().table.push(ProxyEntry {
        token: token.clone(),
        lend: lend.as_ref().map(|ProxyLendGuard(lend)| lend.clone()),
        _charge: charge,
    });
    let rep = made?.rep();
    let any = ResourceDynamic::new_own(rep, kind).try_into_resource_any(&mut *store)?;
    if let Some(guard) = lend {
        held.push(HeldOne {
            proxy: Some((any, rep)),
            _guard: guard,
            _token: token,
        });
    }
    Ok(any)
}

/// The proxies and regions that a callee borrowed by one [`Bundle`](super::bundle::Bundle). Dropping it ends the
/// lends, and leaves what is in the callee's store to the drop of that store.
#[must_use]
pub(super) struct Held {
    regions: Borrowed,
    proxies: Vec<HeldOne>,
}

/// A borrowed proxy.
pub(super) struct HeldOne {
    /// `None` if the resource is the callee's own.
    proxy: Option<(ResourceAny, u32)>,
    /// Dropped before the token, whose last holder may not have it lent.
    _guard: ProxyLendGuard,
    _token: Arc<Token>,
}

impl Held {
    pub(super) fn new(regions: Borrowed, proxies: Vec<HeldOne>) -> Held {
        Held { regions, proxies }
    }

    /// Regions that a callee borrowed, and no proxies.
    pub(super) fn regions(regions: Borrowed) -> Held {
        Held {
            regions,
            proxies: Vec::new(),
        }
    }

    /// Ends the lends, after the call has returned.
    ///
    /// # Errors
    ///
    /// If the callee's state does not allow it. Then the callee cannot go on.
    pub(super) fn end(self, mut store: impl AsContextMut<Data: ProxyView>) -> wasmtime::Result<()> {
        let mut store = store.as_context_mut();
        let mut result = self.regions.end_each(&mut store).map(drop);
        for HeldOne { proxy, .. } in self.proxies {
            let Some((any, rep)) = proxy else {
                continue;
            };
            // Takes the handle out of wasmtime's table as well. An error means that the
            // callee has not dropped it.
            let taken = any.try_into_resource_dynamic(&mut store).map(drop);
            let gone = store.data_mut().proxies().forget(rep);
            result = result.and(taken).and(gone);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lend(parent: Option<&ProxyLendGuard>) -> ProxyLendGuard {
        ProxyLendGuard(Arc::new(Lend {
            over: AtomicBool::new(false),
            parent: parent.map(|ProxyLendGuard(lend)| lend.clone()),
        }))
    }

    // rule 5
    #[test]
    fn end_of_a_call_revokes_its_lends_only() {
        let first = lend(None);
        let (second, beside) = (lend(Some(&first)), lend(Some(&first)));
        let third = lend(Some(&second));
        drop(second);
        assert!(third.0.is_over());
        assert!(!first.0.is_over() && !beside.0.is_over());
        drop(first);
        assert!(beside.0.is_over());
    }
}
