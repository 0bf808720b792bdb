//! Asynchronous calls between two stores by wasmtime alone: the least that a call between
//! guests can cost. Handles are passed without lends, and a trap ends both stores.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use wasmtime::component::{
    Component, Func, Instance, Linker, Resource, ResourceAny, ResourceType, TypedFunc, Val,
};
use wasmtime::{Config, Engine, Store, StoreContextMut};

/// The resource of the passed handles.
struct It;

/// A callee. A caller takes it out for the length of a call.
struct Callee {
    store: Store<()>,
    nothing: Func,
    lend: Func,
    typed_nothing: TypedFunc<(), ()>,
    typed_lend: TypedFunc<(Resource<It>,), ()>,
}

type Shared = Arc<Mutex<Option<Callee>>>;

fn take(callee: &Shared) -> Callee {
    let taken = callee.lock().expect("nobody panics").take();
    taken.expect("nobody else calls")
}

fn give_back(shared: &Shared, callee: Callee) {
    *shared.lock().expect("nobody panics") = Some(callee);
}

/// A caller, linked to its callee.
pub struct Bare {
    store: Store<()>,
    nothings: TypedFunc<(u32,), ()>,
    lends: TypedFunc<(Resource<It>, u32), ()>,
}

impl Bare {
    /// Links the two by typed functions, or by dynamic values, on an engine with concurrency
    /// support or without.
    pub fn new(typed: bool, concurrency: bool) -> Bare {
        // This must come before the first engine.
        tombolo::prepare(&mut Config::new()).expect("this machine can do it");
        let mut config = Config::new();
        config.concurrency_support(concurrency);
        let engine = Engine::new(&config).expect("it is a valid configuration");
        let callee = callee(&engine);
        let callee: Shared = Arc::new(Mutex::new(Some(now(callee))));
        let mut linker = linker(&engine);
        let linked = match typed {
            true => link_typed(&mut linker, &callee),
            false => link(&mut linker, &callee),
        };
        linked.expect("nothing else is in there");
        let mut store = Store::new(&engine, ());
        let text = include_str!("bare_caller.wat");
        let caller = now(instantiate(&linker, &mut store, text));
        Bare {
            nothings: caller
                .get_typed_func(&mut store, "nothings")
                .expect("it exports that"),
            lends: caller
                .get_typed_func(&mut store, "lends")
                .expect("it exports that"),
            store,
        }
    }

    /// Makes the caller call this many times.
    pub fn nothing(&mut self, times: u32) {
        now(self.nothings.call_async(&mut self.store, (times,))).expect("it does not trap");
    }

    /// Calls with one lent handle, `times` times.
    pub fn lend(&mut self, times: u32) {
        let it = Resource::new_own(1);
        now(self.lends.call_async(&mut self.store, (it, times))).expect("it does not trap");
    }
}

/// Returns the result of a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("nothing waits"),
    }
}

fn linker(engine: &Engine) -> Linker<()> {
    let mut linker = Linker::new(engine);
    let it = ResourceType::host::<It>();
    let defined = linker.root().resource("it", it, |_, _| Ok(()));
    defined.expect("nothing else is in there");
    linker
}

async fn instantiate(linker: &Linker<()>, store: &mut Store<()>, text: &str) -> Instance {
    let wasm = wat::parse_str(text).expect("it is well-formed");
    let component = Component::new(linker.engine(), wasm).expect("it is valid");
    let instance = linker.instantiate_async(store, &component).await;
    instance.expect("all that it imports is there")
}

async fn callee(engine: &Engine) -> Callee {
    let mut store = Store::new(engine, ());
    let text = include_str!("bare_callee.wat");
    let instance = instantiate(&linker(engine), &mut store, text).await;
    let mut function = |name| {
        instance
            .get_func(&mut store, name)
            .expect("it exports that")
    };
    let (nothing, lend) = (function("nothing"), function("lend"));
    Callee {
        typed_nothing: nothing.typed(&store).expect("of this type"),
        typed_lend: lend.typed(&store).expect("of this type"),
        nothing,
        lend,
        store,
    }
}

fn link(linker: &mut Linker<()>, callee: &Shared) -> wasmtime::Result<()> {
    let mut root = linker.root();
    let shared = callee.clone();
    root.func_new_async("nothing", move |_, _, _, _| {
        let shared = shared.clone();
        Box::new(async move {
            let mut callee = take(&shared);
            let called = callee.nothing.call_async(&mut callee.store, &[], &mut []);
            called.await?;
            give_back(&shared, callee);
            Ok(())
        })
    })?;
    let shared = callee.clone();
    root.func_new_async(
        "lend",
        move |mut store: StoreContextMut<'_, ()>, _, params, _| {
            let shared = shared.clone();
            Box::new(async move {
                let [Val::Resource(it)] = params else {
                    wasmtime::bail!("it is one handle");
                };
                let it: Resource<It> = it.try_into_resource(&mut store)?;
                let mut callee = take(&shared);
                let lent = Resource::<It>::new_own(it.rep());
                let lent = ResourceAny::try_from_resource(lent, &mut callee.store)?;
                let params = [Val::Resource(lent)];
                let called = callee.lend.call_async(&mut callee.store, &params, &mut []);
                called.await?;
                let _: Resource<It> = lent.try_into_resource(&mut callee.store)?;
                give_back(&shared, callee);
                Ok(())
            })
        },
    )
}

fn link_typed(linker: &mut Linker<()>, callee: &Shared) -> wasmtime::Result<()> {
    let mut root = linker.root();
    let shared = callee.clone();
    root.func_wrap_async("nothing", move |_, (): ()| {
        let shared = shared.clone();
        Box::new(async move {
            let mut callee = take(&shared);
            let called = callee.typed_nothing.call_async(&mut callee.store, ());
            called.await?;
            give_back(&shared, callee);
            Ok(())
        })
    })?;
    let shared = callee.clone();
    root.func_wrap_async("lend", move |_, (it,): (Resource<It>,)| {
        let shared = shared.clone();
        Box::new(async move {
            let mut callee = take(&shared);
            let lent = Resource::<It>::new_borrow(it.rep());
            let called = callee.typed_lend.call_async(&mut callee.store, (lent,));
            called.await?;
            give_back(&shared, callee);
            Ok(())
        })
    })
}
