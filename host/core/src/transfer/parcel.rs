//! Values without a store, with the regions that they carry.

use tombolo_region::{Charge, ChargeKind, LendId, Rights, WindowEnd};
use wasmtime::component::{Resource, ResourceAny, ResourceType, Val};
use wasmtime::{AsContextMut, StoreContextMut};

use super::Recipient;
use super::borrowed::{Borrowed, BorrowedOne};
use super::error::{PackError, Transfer};
use super::lending::{LendRevoker, Lending, Lent};
use crate::ctx::{RegionView, bound};
use crate::error::RegionError;
use crate::host::Region;
use crate::sys::StoreId;
use crate::walk::each_resource;
use crate::window::{mask_all, unmap_all};

/// Values without a store. Dropping it drops the moved regions and ends the lends.
#[derive(Debug)]
pub struct Parcel {
    vals: Vec<Val>,
    /// The regions, in the order of their handles in `vals`. The handles there are stale ones of
    /// the sender, and mark the places.
    carried: Vec<PackedRegion>,
}

#[derive(Debug)]
enum PackedRegion {
    Moved(Region),
    Lent(Region, LendRevoker),
}

/// Returns whether this is a handle to a region.
pub fn is_region(any: &ResourceAny) -> bool {
    any.ty() == ResourceType::host::<Region>()
}

impl Parcel {
    /// Takes values out of the store in hand: the arguments that a host function got from its
    /// caller, or the results of a call.
    ///
    /// Handles of type `region` are moved: the sender's windows of those claims are unmapped.
    /// Handles of type `borrow<region>` are lent. Costs a walk over all values, and a system call
    /// for each window that is unmapped or masked.
    ///
    /// # Errors
    ///
    /// [`PackError`]; also if there are handles to other resources.
    pub fn pack<T: RegionView>(
        store: impl AsContextMut<Data = T>,
        mut vals: Vec<Val>,
        to: &Recipient,
    ) -> Result<(Parcel, Lending), PackError> {
        for val in &mut vals {
            each_resource(val, &mut |any| match is_region(any) {
                true => Ok(()),
                false => wasmtime::bail!("only handles to regions can cross from guest to guest"),
            })?;
        }
        Parcel::pack_regions(store, vals, to)
    }

    /// Packs as [`pack`](Parcel::pack) does, but leaves handles to other resources in their
    /// places.
    pub(crate) fn pack_regions<T: RegionView>(
        mut store: impl AsContextMut<Data = T>,
        mut vals: Vec<Val>,
        to: &Recipient,
    ) -> Result<(Parcel, Lending), PackError> {
        let mut store = store.as_context_mut();
        let violation = bound(&mut store).1.check();
        let mut given: Vec<Given> = Vec::new();
        let mut refused = None;
        // All handles are taken first, even if one of them is refused. Otherwise the rest would
        // stay in the sender's store for good.
        for val in &mut vals {
            each_resource(val, &mut |any| {
                if !is_region(any) {
                    return Ok(());
                }
                match take_out(&mut store, *any, to)? {
                    Ok(one) => given.push(one),
                    Err(error) => {
                        refused.get_or_insert(error);
                    }
                }
                Ok(())
            })?;
        }
        violation.map_err(wasmtime::Error::from)?;
        if let Some(error) = refused {
            return Err(error);
        }
        send(&mut store, given, vals, to)
    }

    /// Packs values of types without handles. Looks at none of them.
    pub(crate) fn plain(vals: Vec<Val>) -> (Parcel, Lending) {
        let lending = Lending {
            lent: Vec::new(),
            masked: Vec::new(),
        };
        (
            Parcel {
                vals,
                carried: Vec::new(),
            },
            lending,
        )
    }

    /// Takes values out of the store in hand and drops them, for a call that is refused before
    /// it begins. The sender's windows stay.
    ///
    /// # Errors
    ///
    /// If there are handles to other resources, or of another store.
    pub fn discard<T: RegionView>(
        store: impl AsContextMut<Data = T>,
        mut vals: Vec<Val>,
    ) -> wasmtime::Result<()> {
        Parcel::discard_regions(store, &mut vals, |_, _| {
            wasmtime::bail!("only handles to regions can cross from guest to guest")
        })
    }

    /// Discards as [`discard`](Parcel::discard) does, and passes handles to other resources to
    /// `other`.
    pub(crate) fn discard_regions<T: RegionView>(
        mut store: impl AsContextMut<Data = T>,
        vals: &mut [Val],
        mut other: impl FnMut(&mut StoreContextMut<'_, T>, ResourceAny) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()> {
        let mut store = store.as_context_mut();
        vals.iter_mut().try_for_each(|val| {
            each_resource(val, &mut |any| {
                if !is_region(any) {
                    return other(&mut store, *any);
                }
                let resource: Resource<Region> = any.try_into_resource(&mut store)?;
                if resource.owned() {
                    store.data_mut().region_ctx().table.delete(resource)?;
                }
                Ok(())
            })
        })
    }

    /// Puts the values into the store in hand: the arguments for a call, or the results for a
    /// caller.
    ///
    /// # Errors
    ///
    /// If the store's tables are full, or its context belongs to another
    /// [`RegionHost`](crate::RegionHost) than the recipient for which the values were packed.
    pub fn unpack<T: RegionView>(
        mut self,
        mut store: impl AsContextMut<Data = T>,
    ) -> wasmtime::Result<(Vec<Val>, Borrowed)> {
        let mut store = store.as_context_mut();
        let mut vals = std::mem::take(&mut self.vals);
        let mut carried = std::mem::take(&mut self.carried).into_iter();
        let id = StoreId::of(&store);
        let mut borrowed = Borrowed { lent: Vec::new() };
        if carried.len() == 0 {
            return Ok((vals, borrowed));
        }
        let to = store.data_mut().region_ctx().owner.host;
        for one in carried.as_slice() {
            let (PackedRegion::Moved(region) | PackedRegion::Lent(region, _)) = one;
            region.check_host(to)?;
        }
        for val in &mut vals {
            each_resource(val, &mut |any| {
                if !is_region(any) {
                    return Ok(());
                }
                let (region, guard) = match carried.next() {
                    Some(PackedRegion::Moved(region)) => (region, None),
                    Some(PackedRegion::Lent(region, guard)) => (region, Some(guard)),
                    None => wasmtime::bail!("more handles in a parcel than were packed"),
                };
                let resource = store.data_mut().region_ctx().table.push(region)?;
                let rep = resource.rep();
                let lent = ResourceAny::try_from_resource(resource, &mut store)?;
                if let Some(guard) = guard {
                    borrowed.lent.push(BorrowedOne {
                        any: Some(lent),
                        rep,
                        store: id,
                        guard,
                    });
                }
                *any = lent;
                Ok(())
            })?;
        }
        Ok((vals, borrowed))
    }
}

/// A handle that was taken out of the sender's store.
enum Given {
    /// With the charges to the receiver for the handle and the claim, once it is charged.
    Moved(Region, Option<(Charge, Vec<Charge>)>),
    Lent {
        region: Region,
        guard: LendRevoker,
        via: Option<LendId>,
        writes: bool,
    },
}

/// Takes one handle out of the sender's store. If it is a borrowed one, begins the lend.
fn take_out<T: RegionView>(
    store: &mut StoreContextMut<'_, T>,
    any: ResourceAny,
    to: &Recipient,
) -> wasmtime::Result<Result<Given, PackError>> {
    let resource: Resource<Region> = any.try_into_resource(&mut *store)?;
    let table = &mut store.data_mut().region_ctx().table;
    if resource.owned() {
        return Ok(Ok(Given::Moved(table.delete(resource)?, None)));
    }
    let lender = table.get(&resource)?;
    // A borrower can neither move nor duplicate.
    let rights = lender.rights().without(Rights::SHARE);
    Ok(match lender.lend_to(rights, &to.0) {
        Ok(region) => {
            let guard = LendRevoker::new(&region);
            let via = lender.handle().lend();
            Ok(Given::Lent {
                region,
                guard,
                via,
                writes: rights.contains(Rights::WRITE),
            })
        }
        Err(reason) => Err(PackError::Refused {
            region: lender.name().to_owned(),
            transfer: Transfer::Lend,
            reason,
        }),
    })
}

fn send<T: RegionView>(
    store: &mut StoreContextMut<'_, T>,
    mut given: Vec<Given>,
    vals: Vec<Val>,
    to: &Recipient,
) -> Result<(Parcel, Lending), PackError> {
    let mut parcel = Parcel {
        vals,
        carried: Vec::new(),
    };
    let mut lending = Lending {
        lent: Vec::new(),
        masked: Vec::new(),
    };
    let id = StoreId::of(&*store);
    let keep_mapped = store.data_mut().region_ctx().keep_mapped;
    // First check whether all of them may move, while their windows still exist.
    for one in &given {
        if let Given::Moved(region, _) = one {
            region.may_move().map_err(|reason| PackError::Refused {
                region: region.name().to_owned(),
                transfer: Transfer::Move,
                reason: reason.into(),
            })?;
        }
    }
    // Then charge the receiver.
    for one in &mut given {
        if let Given::Moved(region, charges) = one {
            let handle = to.0.account.charge(ChargeKind::Handles, 1);
            let charged = handle
                .map_err(RegionError::from)
                .and_then(|handle| Ok((handle, region.charge_claim(&to.0)?)));
            *charges = Some(charged.map_err(|reason| PackError::Refused {
                region: region.name().to_owned(),
                transfer: Transfer::Move,
                reason,
            })?);
        }
    }
    // Only then unmap and mask windows.
    for one in given {
        match one {
            Given::Moved(region, charges) => {
                let (handle, claim) = charges.expect("charged above");
                unmap_all(
                    id,
                    region.inner(),
                    region.handle().claim(),
                    None,
                    WindowEnd::Orderly,
                )?;
                tracing::debug!(
                    region = %region.inner().name,
                    id = %region.id(),
                    from = region.owner().name,
                    to = to.0.name,
                    "region moved"
                );
                parcel.carried.push(PackedRegion::Moved(
                    region.transferred(&to.0, handle, claim),
                ));
            }
            Given::Lent {
                region,
                guard,
                via,
                writes,
            } => {
                if !keep_mapped {
                    let masked = mask_all(id, &guard.region, guard.claim, via, writes)?;
                    if !masked.is_empty() {
                        lending.masked.push(masked);
                    }
                }
                tracing::debug!(
                    region = %region.inner().name,
                    id = %region.id(),
                    to = to.0.name,
                    "region lent"
                );
                lending.lent.push(Lent {
                    region: guard.region.clone(),
                    claim: guard.claim,
                    via,
                    lend: guard.lend,
                });
                parcel.carried.push(PackedRegion::Lent(region, guard));
            }
        }
    }
    Ok((parcel, lending))
}
