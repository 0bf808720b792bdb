//! Resources that guests define, in the hands of other guests.
//!
//! ```text
//!   guest A's store                                owner's store
//!   handle -> ProxyEntry --- Arc<Token> ------------->  ResourceAny -> its rep
//! ```
//!
//! What another guest has is a *proxy*: a resource of the host's, whose entry has
//! a [`Token`]. The token names the owner in the life in which it made the
//! resource, and stands for the one owning handle to it. It moves from entry to
//! entry, and back to its owner, where it becomes the handle again. A lent proxy
//! is an entry of its own for the length of the call, with the same token. When
//! the last entry of a token goes, wherever that is, the owner is told, in order
//! with the calls that it is sent, and destroys the resource.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::component::{
    Component, Instance, Resource, ResourceAny, ResourceDynamic, ResourceTable, ResourceType, Val,
};
use wasmtime::{AsContextMut, Store, StoreContextMut};

use super::guest_id::GuestId;
use super::link;
use super::mailbox::Mailbox;
use super::state::GuestState;
use tombolo::internal::{each_resource, is_region};
use tombolo::{Borrowed, Lending, Limits, PackError, Parcel, Recipient, RegionError};
use tombolo_region::escape;
use tombolo_region::{Charge, ChargeKind};

/// A resource that a guest defines.
#[derive(Debug)]
pub(super) struct ProxyKind {
    /// What tells it from all others, in the stores of other guests.
    number: u32,
    defined: link::ResourceDef,
    /// With its interface, for messages.
    text: String,
}

impl ProxyKind {
    /// Those of an app, by their numbers.
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

    /// The name of its destructor, as the canonical ABI has it.
    pub(super) fn destructor(&self) -> String {
        format!(
            "{}.[dtor]{}",
            escape(&self.defined.export),
            self.defined.name
        )
    }
}

/// A resource that nobody has any more, for its owner.
pub(super) struct Dropped {
    pub(super) resource: ResourceAny,
    pub(super) kind: Arc<ProxyKind>,
}

/// One resource of a guest's, which others have.
struct Token {
    kind: Arc<ProxyKind>,
    /// Who defines it, in one of its lives.
    owner: Arc<Mailbox>,
    /// The owning handle, in the owner's store; until it is given back. Only the
    /// owner's task takes it out.
    resource: Mutex<Option<ResourceAny>>,
}

impl Token {
    fn resource(&self) -> MutexGuard<'_, Option<ResourceAny>> {
        self.resource.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn belongs_to(&self, recipient: &Recipient) -> bool {
        Arc::ptr_eq(self.owner.recipient.owner(), recipient.owner())
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

/// That a proxy is lent, for one call.
struct Lend {
    over: AtomicBool,
    /// How the lender itself has it.
    parent: Option<Arc<Lend>>,
}

impl Lend {
    /// Whether this call has ended, or one that it is made in.
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
struct LendGuard(Arc<Lend>);

impl Drop for LendGuard {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

/// What a guest's handle to a proxy stands for.
struct ProxyEntry {
    token: Arc<Token>,
    /// If it is lent to the guest.
    lend: Option<Arc<Lend>>,
    _charge: Option<Charge>,
}

/// What one guest has of other guests' resources, and its own that it can give
/// them.
pub(super) struct Proxies {
    table: ResourceTable,
    own: Vec<(ResourceType, Arc<ProxyKind>)>,
    /// The guest's, once it has been instantiated.
    mailbox: Option<Arc<Mailbox>>,
}

impl Proxies {
    pub(super) fn new(limits: &Limits) -> Proxies {
        let mut table = ResourceTable::new();
        // Beyond what the account allows; so that nothing else can fill it up.
        table.set_max_capacity((limits.handles as usize).saturating_add(16));
        Proxies {
            table,
            own: Vec::new(),
            mailbox: None,
        }
    }

    /// Notes the types of the resources that the guest itself defines.
    pub(super) fn instantiated(
        store: &mut Store<GuestState>,
        component: &Component,
        instance: Instance,
        kinds: &[Arc<ProxyKind>],
        mailbox: Arc<Mailbox>,
    ) {
        let own = kinds
            .iter()
            .filter(|kind| GuestId::new(kind.defined.owner) == mailbox.guest())
            .filter_map(|kind| {
                let interface = component.get_export_index(None, &kind.defined.export)?;
                let export = component.get_export_index(Some(&interface), &kind.defined.name)?;
                let ty = instance.get_resource(&mut *store, export)?;
                Some((ty, kind.clone()))
            });
        let own = own.collect();
        let proxies = &mut store.data_mut().proxies;
        proxies.own = own;
        proxies.mailbox = Some(mailbox);
    }

    /// The guest has dropped an owning handle.
    pub(super) fn forget(&mut self, rep: u32) -> wasmtime::Result<()> {
        self.table.delete(entry(rep))?;
        Ok(())
    }

    fn own(&self, ty: ResourceType) -> Option<(Arc<ProxyKind>, Arc<Mailbox>)> {
        let (_, kind) = self.own.iter().find(|(own, _)| *own == ty)?;
        Some((kind.clone(), self.mailbox.clone()?))
    }
}

/// The place of an entry in the table.
fn entry(rep: u32) -> Resource<ProxyEntry> {
    Resource::new_own(rep)
}

/// Why values do not get to their receiver.
pub(super) enum PassError {
    /// This is to be told to the caller.
    Refused(String),
    /// The guest whose store is in hand cannot go on.
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
    fn refused(self, error: PackError) -> PassError {
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
struct Carried {
    token: Arc<Token>,
    /// If it is lent.
    lend: Option<LendGuard>,
    /// On the receiver's account, but for the owner itself.
    charge: Option<Charge>,
}

impl Carried {
    /// Whether it may go to a guest; and puts it on that one's account.
    fn address(&mut self, guest: GuestId, to: &Recipient, caller: Caller) -> Result<(), String> {
        self.check()?;
        if self.token.belongs_to(to) {
            return Ok(());
        }
        if self.token.owner.guest() == guest {
            // It lives again, and knows nothing of this.
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

    /// Whether it still stands for something that its holder may use.
    fn check(&self) -> Result<(), String> {
        let text = &self.token.kind.text;
        if self
            .lend
            .as_ref()
            .is_some_and(|LendGuard(lend)| lend.is_over())
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

/// Values without a store, as a [`Parcel`] is, with proxies among them. Dropping
/// it drops what was moved, and ends what was lent.
pub(super) struct Bundle {
    parcel: Parcel,
    /// In the order in which they are met in the values, where a stale handle of
    /// the sender's marks the place.
    carried: Vec<Carried>,
}

impl Bundle {
    /// Values of types in which there are no handles.
    pub(super) fn plain(vals: Vec<Val>) -> (Bundle, Lending) {
        let (parcel, lending) = Parcel::plain(vals);
        let carried = Vec::new();
        (Bundle { parcel, carried }, lending)
    }

    /// Takes values out of the store in hand, for the guest of this index. What is
    /// refused is put into words for the caller.
    pub(super) fn pack(
        mut store: impl AsContextMut<Data = GuestState>,
        mut vals: Vec<Val>,
        (guest, to): (GuestId, &Recipient),
        caller: Caller,
    ) -> Result<(Bundle, Lending), PassError> {
        let mut store = store.as_context_mut();
        let mut carried = Vec::new();
        let mut refused = None;
        // All of them are taken, also when one is refused.
        each_other(&mut vals, |any| {
            let mut one = take_out(&mut store, *any)?;
            if let Err(why) = one.address(guest, to, caller) {
                refused.get_or_insert(why);
            }
            carried.push(one);
            Ok(())
        })?;
        if let Some(why) = refused {
            Parcel::discard_regions(&mut store, &mut vals, |_, _| Ok(()))?;
            return Err(PassError::Refused(why));
        }
        let packed = Parcel::pack_regions(&mut store, vals, to);
        let (parcel, lending) = packed.map_err(|error| caller.refused(error))?;
        Ok((Bundle { parcel, carried }, lending))
    }

    /// Takes values out of the store in hand and drops them, for a call that is
    /// refused before it begins.
    pub(super) fn discard(
        mut store: impl AsContextMut<Data = GuestState>,
        mut vals: Vec<Val>,
    ) -> wasmtime::Result<()> {
        Parcel::discard_regions(&mut store, &mut vals, |store, any| {
            take_out(store, any).map(drop)
        })
    }

    /// Puts the values into the store in hand.
    pub(super) fn unpack(
        self,
        mut store: impl AsContextMut<Data = GuestState>,
    ) -> Result<(Vec<Val>, Held), PassError> {
        let mut store = store.as_context_mut();
        let Bundle { parcel, carried } = self;
        // Nothing is put anywhere if one of them is refused.
        for one in &carried {
            one.check().map_err(PassError::Refused)?;
        }
        let (mut vals, regions) = parcel.unpack(&mut store)?;
        let mut held = Held {
            regions,
            proxies: Vec::new(),
        };
        let mut carried = carried.into_iter();
        each_other(&mut vals, |any| {
            let Some(one) = carried.next() else {
                wasmtime::bail!("more handles in a bundle than were packed");
            };
            *any = put_in(&mut store, one, &mut held.proxies)?;
            Ok(())
        })?;
        Ok((vals, held))
    }
}

/// Calls `visit` for every handle in the values that is to no region.
fn each_other(
    vals: &mut [Val],
    mut visit: impl FnMut(&mut ResourceAny) -> wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    vals.iter_mut().try_for_each(|val| {
        each_resource(val, &mut |val| match val {
            Val::Resource(any) if !is_region(any) => visit(any),
            _ => Ok(()),
        })
    })
}

/// Takes one handle out of the sender's store; begins the lend of a borrowed one.
fn take_out(
    store: &mut StoreContextMut<'_, GuestState>,
    any: ResourceAny,
) -> wasmtime::Result<Carried> {
    if let Some((kind, owner)) = store.data().proxies.own(any.ty()) {
        if !any.owned() {
            wasmtime::bail!("a guest cannot lend a resource of its own");
        }
        let resource = Mutex::new(Some(any));
        return Ok(Carried {
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
    let table = &mut store.data_mut().proxies.table;
    if proxy.owned() {
        let ProxyEntry { token, .. } = table.delete(entry(proxy.rep()))?;
        return Ok(Carried {
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
    Ok(Carried {
        token: token.clone(),
        lend: Some(LendGuard(Arc::new(lend))),
        charge: None,
    })
}

/// Puts one handle into the receiver's store; notes a lent one.
fn put_in(
    store: &mut StoreContextMut<'_, GuestState>,
    one: Carried,
    held: &mut Vec<HeldOne>,
) -> wasmtime::Result<ResourceAny> {
    let Carried {
        token,
        lend,
        charge,
    } = one;
    if Arc::ptr_eq(token.owner.recipient.owner(), store.data().regions.owner()) {
        // It was checked that it is there; and nobody else takes it out.
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
    let made = store.data_mut().proxies.table.push(ProxyEntry {
        token: token.clone(),
        lend: lend.as_ref().map(|LendGuard(lend)| lend.clone()),
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

/// What a callee has of the lends of one [`Bundle`]. Dropping it ends them; what
/// is in the callee's store is left to the drop of that.
#[must_use]
pub(super) struct Held {
    regions: Borrowed,
    proxies: Vec<HeldOne>,
}

struct HeldOne {
    /// Nothing, where it is the owner's own.
    proxy: Option<(ResourceAny, u32)>,
    /// First: who has the token last may not have it lent.
    _guard: LendGuard,
    _token: Arc<Token>,
}

impl Held {
    /// Ends the lends, after the call has returned.
    ///
    /// # Errors
    ///
    /// If the callee's state does not allow it. It cannot go on then.
    pub(super) fn end(
        self,
        mut store: impl AsContextMut<Data = GuestState>,
    ) -> wasmtime::Result<()> {
        let mut store = store.as_context_mut();
        let mut result = self.regions.end(&mut store, Ok(()));
        for HeldOne { proxy, .. } in self.proxies {
            let Some((any, rep)) = proxy else {
                continue;
            };
            // Takes the handle out of wasmtime's table as well; an error says that
            // the callee has not given it back.
            let taken = any.try_into_resource_dynamic(&mut store).map(drop);
            let gone = store.data_mut().proxies.forget(rep);
            result = result.and(taken).and(gone);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lend(parent: Option<&LendGuard>) -> LendGuard {
        LendGuard(Arc::new(Lend {
            over: AtomicBool::new(false),
            parent: parent.map(|LendGuard(lend)| lend.clone()),
        }))
    }

    #[test]
    fn end_of_a_call_revokes_what_was_lent_on_in_it_and_nothing_else() {
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
