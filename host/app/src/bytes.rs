//! Calls that pass one `list<u8>`, in types of their own.
//!
//! By default, arguments pass as wasmtime's dynamic values. Those take dozens of bytes, and as
//! many nanoseconds, for each byte of a list. Functions that take one list of bytes and return
//! something small are common, and few enough to spell out in types. The list is copied once
//! out of the caller and once into the callee.

use std::marker::PhantomData;
use std::mem::take;
use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::types::{ComponentFunc, Type};
use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Lift, LinkerInstance, Lower};

use super::call::{NoErrorSlot, Target};
use super::exit::charge_results;
use super::guest::{Fault, ServingGuest};
use super::guests::{AppGuests, CallFailure};
use super::state::GuestState;
use super::work::Charged;
use tombolo::Recipient;
use tombolo_exchange::{GuestId, Request};
use tombolo_region::Charge;

/// A result that a function of this kind can have.
trait ByteResult: Lift + Lower + Send + Sync + 'static {
    /// Returns the bytes of its strings and lists.
    fn size(&self) -> usize {
        0
    }

    /// Returns the result that carries the text of a failed call, if there is one.
    fn refusal(_why: String) -> Option<Self> {
        None
    }
}

/// The results of a function.
trait ByteResults {
    /// Returns the bytes of its strings and lists.
    fn bytes(&self) -> u64;
}

impl ByteResults for () {
    fn bytes(&self) -> u64 {
        0
    }
}

impl<R: ByteResult> ByteResults for (R,) {
    fn bytes(&self) -> u64 {
        self.0.size() as u64
    }
}

impl ByteResult for () {}
impl ByteResult for u32 {}
impl ByteResult for u64 {}

impl ByteResult for String {
    fn size(&self) -> usize {
        self.len()
    }
}

impl ByteResult for Vec<u8> {
    fn size(&self) -> usize {
        self.len()
    }
}

impl<T: ByteResult> ByteResult for Result<T, String> {
    fn size(&self) -> usize {
        match self {
            Ok(answer) => answer.size(),
            Err(why) => why.size(),
        }
    }

    fn refusal(why: String) -> Option<Self> {
        Some(Err(why))
    }
}

/// A call with a list of bytes and these results.
struct BytesCall<R> {
    export: ComponentExportIndex,
    /// With its interface, for messages.
    function: Arc<str>,
    bytes: Vec<u8>,
    /// The charge for the bytes, on the caller's account. `None` once the call was made.
    charge: Option<Charge>,
    /// The guest that is charged for the result, because it decides how long it is kept.
    caller: Recipient,
    results: PhantomData<fn() -> R>,
}

impl<R> Request<AppGuests> for BytesCall<R>
where
    R: ByteResults + ComponentNamedList + Lift + Send + Sync + 'static,
{
    type Answer = Charged<R>;

    async fn call(
        &mut self,
        callee: &mut ServingGuest,
        _: GuestId,
    ) -> Result<Result<Charged<R>, String>, CallFailure> {
        let (export, function, caller) = (self.export, &self.function, &self.caller);
        let (bytes, charge) = (take(&mut self.bytes), self.charge.take());
        let called = callee.enter(async |store, instance| {
            let callee = instance.get_typed_func::<(&[u8],), R>(&mut *store, export)?;
            let answer = callee.call_async(&mut *store, (&bytes,)).await?;
            drop((bytes, charge));
            Ok(answer)
        });
        match called.await {
            Ok(answer) => {
                let charge = charge_results(caller, callee.name(), answer.bytes());
                Ok(charge.map(|charge| (answer, charge)))
            }
            Err(error) => Err(CallFailure {
                error: Fault::during(function, error),
                borrowed: None,
            }),
        }
    }
}

/// Defines the function if it is of this kind, and returns whether it is.
pub(super) fn define(
    instance: &mut LinkerInstance<'_, GuestState>,
    name: &str,
    ty: &ComponentFunc,
    target: &Arc<Target>,
) -> wasmtime::Result<bool> {
    let is_bytes = |ty: &Type| matches!(ty, Type::List(list) if list.ty() == Type::U8);
    let mut params = ty.params();
    if !params.next().is_some_and(|(_, ty)| is_bytes(&ty)) || params.next().is_some() {
        return Ok(false);
    }
    let mut results = ty.results();
    let (result, None) = (results.next(), results.next()) else {
        return Ok(false);
    };
    match result {
        Some(Type::U32) => answering::<u32>(instance, name, target),
        Some(Type::U64) => answering::<u64>(instance, name, target),
        Some(Type::String) => answering::<String>(instance, name, target),
        Some(ty) if is_bytes(&ty) => answering::<Vec<u8>>(instance, name, target),
        Some(Type::Result(result)) if result.err() == Some(Type::String) => match result.ok() {
            None => answering::<Result<(), String>>(instance, name, target),
            Some(Type::U32) => answering::<Result<u32, String>>(instance, name, target),
            Some(Type::U64) => answering::<Result<u64, String>>(instance, name, target),
            Some(Type::String) => answering::<Result<String, String>>(instance, name, target),
            Some(ty) if is_bytes(&ty) => {
                answering::<Result<Vec<u8>, String>>(instance, name, target)
            }
            Some(_) => return Ok(false),
        },
        Some(_) => return Ok(false),
        None => {
            let target = target.clone();
            instance.func_wrap_async(name, move |mut store, (bytes,): (Vec<u8>,)| {
                let target = target.clone();
                Box::new(async move { Ok(call::<()>(&target, &mut store, bytes).await?) })
            })
        }
    }?;
    Ok(true)
}

fn answering<R: ByteResult>(
    instance: &mut LinkerInstance<'_, GuestState>,
    name: &str,
    target: &Arc<Target>,
) -> wasmtime::Result<()> {
    let target = target.clone();
    instance.func_wrap_async(name, move |mut store, (bytes,): (Vec<u8>,)| {
        let target = target.clone();
        Box::new(async move {
            match call::<(R,)>(&target, &mut store, bytes).await {
                Ok(answer) => {
                    target.count_copied(answer.0.size() as u64);
                    Ok(answer)
                }
                Err(no) => match R::refusal(no.why.clone()) {
                    Some(refusal) => Ok((refusal,)),
                    None => Err(no.into()),
                },
            }
        })
    })
}

/// Makes the call for the guest whose store this is.
async fn call<R>(
    target: &Target,
    store: &mut StoreContextMut<'_, GuestState>,
    bytes: Vec<u8>,
) -> Result<R, NoErrorSlot>
where
    R: ByteResults + ComponentNamedList + Lift + Send + Sync + 'static,
{
    let length = bytes.len() as u64;
    let charge = store.data().charge(length);
    let charge = charge.map_err(|exhausted| target.refused(exhausted.to_string()))?;
    let caller = store.data().recipient();
    let request = |export, function| BytesCall::<R> {
        export,
        function,
        bytes,
        charge: Some(charge),
        caller,
        results: PhantomData,
    };
    let clock = store.data().clock.clone();
    let (answer, charge) = target.call_typed(&clock, length, request).await?;
    store.data_mut().keep_in_call(charge);
    Ok(answer)
}
