//! Two guests in synchronous stores. One calls the other.

use std::fmt::Display;
use std::sync::{Arc, Mutex};

use tombolo::{PackError, Parcel, Region, RegionHost, Rights};
use tombolo_test_util::store::{State, add_to_linker, component, engine};
use wasmtime::Store;
use wasmtime::component::{Component, Instance, Linker, Resource, Val};

use super::{CLIENT, NEAR, answer, function, mapped, refuse_the_rest, state};
use crate::guests;

type Callee = Arc<Mutex<Option<(Store<State>, Instance)>>>;

/// `client`, and `near`, which it calls.
pub(crate) struct Pair {
    store: Store<State>,
    instance: Instance,
    during_calls: Arc<Mutex<Vec<usize>>>,
}

fn instantiate(
    host: &RegionHost,
    name: &str,
    component: &Component,
    mut linker: Linker<State>,
) -> (Store<State>, Instance) {
    add_to_linker(&mut linker);
    refuse_the_rest(&mut linker, component);
    let mut store = Store::new(engine(), state(host.context(name).build()));
    let instance = linker.instantiate(&mut store, component);
    (store, instance.expect("it can be instantiated"))
}

impl Pair {
    pub(crate) fn new(host: &RegionHost) -> Pair {
        let near = component(guests::CALLS_NEAR);
        let near = instantiate(host, "near", &near, Linker::new(engine()));
        let to = near.0.data().regions.recipient();
        let near: Callee = Arc::new(Mutex::new(Some(near)));
        let during_calls = Arc::new(Mutex::new(Vec::new()));

        let mut linker: Linker<State> = Linker::new(engine());
        let noted = during_calls.clone();
        let mut interface = linker.instance(NEAR).expect("once");
        let lend = interface.func_new("lend", move |mut store, _, params, results| {
            let caller = store.data().regions.recipient();
            let (parcel, lending) = match Parcel::pack(&mut store, params.to_vec(), &to) {
                Ok(packed) => packed,
                Err(PackError::Fatal(error)) => return Err(error),
                Err(refused) => {
                    results[0] = answer(Err(refused.to_string()));
                    return Ok(());
                }
            };
            // The number of the lender's mapped windows during the call.
            noted.lock().unwrap().push(mapped("sync"));
            let mut near = near.lock().unwrap();
            let (callee, instance) = near.as_mut().expect("it lives");
            let (params, borrowed) = parcel.unpack(&mut *callee)?;
            let mut result = [Val::Bool(false)];
            let called = function(&mut *callee, *instance, NEAR, "lend");
            let back = match called.call(&mut *callee, &params, &mut result) {
                Ok(()) => {
                    let packed = Parcel::pack(&mut *callee, result.to_vec(), &caller);
                    borrowed.end(&mut *callee, Ok(()))?;
                    Some(packed?.0)
                }
                Err(_) => {
                    *near = None;
                    drop(borrowed);
                    None
                }
            };
            assert!(lending.is_over());
            lending.end(&mut store)?;
            match back {
                Some(parcel) => results.clone_from_slice(&parcel.unpack(&mut store)?.0),
                None => results[0] = answer(Err("near is gone".into())),
            }
            Ok(())
        });
        lend.expect("once");
        let client = component(guests::CALLS_CLIENT);
        let (store, instance) = instantiate(host, "client", &client, linker);
        Pair {
            store,
            instance,
            during_calls,
        }
    }

    pub(crate) fn give(&mut self, region: &Region) {
        let region = region.duplicate(Rights::ALL).expect("there is room");
        let given = region.give(&mut self.store);
        let given = given.expect("there is room");
        let give = function(&mut self.store, self.instance, CLIENT, "give");
        let give = give
            .typed::<(Resource<Region>,), (Result<(), String>,)>(&self.store)
            .expect("its type");
        let (result,) = give.call(&mut self.store, (given,)).expect("it lives");
        result.expect("it takes it");
    }

    pub(crate) fn say(&mut self, scenario: impl Display) -> Result<String, String> {
        let say = function(&mut self.store, self.instance, CLIENT, "say");
        let say = say
            .typed::<(&str,), (Result<String, String>,)>(&self.store)
            .expect("its type");
        let (result,) = say
            .call(&mut self.store, (&scenario.to_string(),))
            .expect("it lives");
        result
    }

    /// Returns the number of mapped windows during each call.
    pub(crate) fn mapped_during_calls(&self) -> Vec<usize> {
        self.during_calls.lock().unwrap().clone()
    }

    pub(crate) fn finish(&mut self) {
        self.store.data_mut().regions.finish();
    }
}
