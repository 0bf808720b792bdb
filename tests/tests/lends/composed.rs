//! Lends between the parts of a composed component, by the SDK: in an embedder's store, and in an
//! app, where a part lends on to another guest.

use std::sync::OnceLock;

use tombolo::RegionHost;
use tombolo_app::{App, AppBuilder, CommandSpec, GuestSpec};
use tombolo_test_util::run::{succeeds, succeeds_despite};
use tombolo_test_util::store::{self, State, engine};
use wasmtime::component::{Component, Instance, Linker, Val};
use wasmtime::{Store, StoreContextMut};

use crate::compose::chain;
use crate::guests;

const PARTS: &str = "test:lends/parts";
/// The interface that the composed component exports.
const FRONT: &str = "test:lends/front";

fn composed() -> &'static [u8] {
    static COMPOSED: OnceLock<Vec<u8>> = OnceLock::new();
    COMPOSED.get_or_init(|| {
        let part = std::fs::read(guests::LENDS_PART).expect("the build script built it");
        chain(&part, PARTS, FRONT)
    })
}

/// A composed component in an embedder's store.
struct Embedded {
    host: RegionHost,
    store: Store<State>,
    instance: Instance,
}

impl Embedded {
    fn new() -> Embedded {
        static COMPONENT: OnceLock<Component> = OnceLock::new();
        let component = COMPONENT
            .get_or_init(|| Component::new(engine(), composed()).expect("it is a component"));
        let mut linker: Linker<State> = store::linker();
        tombolo::add_waits_to_linker(&mut linker).expect("once");
        let refuse = |_: StoreContextMut<'_, State>, _, _: &[Val], _: &mut [Val]| {
            wasmtime::bail!("nobody is linked")
        };
        let mut parts = linker.instance(PARTS).expect("once");
        parts.func_new("play", refuse).expect("once");
        let host = RegionHost::new();
        let regions = host.context("composed").build();
        let mut store = Store::new(engine(), State::new(regions));
        let instance = linker.instantiate(&mut store, component);
        Embedded {
            host,
            store,
            instance: instance.expect("it can be instantiated"),
        }
    }

    fn try_start(&mut self, script: &str) -> wasmtime::Result<Result<String, String>> {
        let Embedded {
            store, instance, ..
        } = self;
        let parts = instance.get_export_index(&mut *store, None, FRONT);
        let start = instance.get_export_index(&mut *store, parts.as_ref(), "start");
        let start = instance.get_func(&mut *store, start.expect("it is exported"));
        let start = start.expect("a function").typed::<(&str,), _>(&*store)?;
        let (answer,) = start.call(&mut *store, (script,))?;
        Ok(answer)
    }

    fn start(&mut self, script: &str) -> Result<String, String> {
        self.try_start(script).expect("it does not trap")
    }
}

// rule 5
#[test]
fn part_uses_what_another_part_has_mapped() {
    let mut parts = Embedded::new();
    // Without a lend within the component, the windows of the first part conflict.
    let refused = parts.start("plain double").unwrap_err();
    assert!(refused.contains("would block"), "{refused}");
    assert_eq!(parts.start("within double"), Ok("done; 2 2".into()));
    assert_eq!(parts.start("within sum"), Ok("131072; 1 1".into()));
    assert_eq!(parts.start("reading sum"), Ok("131072; 1".into()));
    assert_eq!(parts.host.counts().regions_freed, 4);
}

// rule 5
#[test]
fn one_lend_serves_several_calls() {
    assert_eq!(Embedded::new().start("often double"), Ok("8 77".into()));
}

// rule 5
#[test]
fn borrowing_part_lends_on() {
    let mut parts = Embedded::new();
    assert_eq!(
        parts.start("within nest double"),
        Ok("done 22; 22 2".into())
    );
    assert_eq!(
        parts.start("within nest nest double"),
        Ok("done 42 42; 42 2".into())
    );
}

// rule 5
#[test]
fn window_kept_by_a_part_ends_with_the_lend() {
    let mut parts = Embedded::new();
    assert_eq!(parts.start("within keep"), Ok("done; 3 3".into()));
    // It does not stay in the way, and its memory is not used again.
    assert_eq!(parts.start("within double"), Ok("done; 2 2".into()));
}

// rule 5
#[test]
fn borrowing_part_has_a_lent_handle() {
    assert_eq!(
        Embedded::new().start("within abuse"),
        Ok("done; 1 1".into())
    );
}

// rule 5
#[test]
fn windows_that_are_not_lent_are_in_the_way() {
    let mut parts = Embedded::new();
    assert_eq!(parts.start("in-use"), Ok("done".into()));
    assert_eq!(parts.start("later"), Ok("1 5".into()));
    assert_eq!(parts.start("forgotten"), Ok("9 0".into()));
}

// rule 6
#[test]
fn death_of_a_part_ends_the_whole_guest() {
    let mut parts = Embedded::new();
    let host = parts.host.clone();
    parts.try_start("within die").unwrap_err();
    drop(parts);
    let counts = host.counts();
    assert_eq!(counts.regions_created, counts.regions_freed);
}

/// Returns an app of a composed component, which plays a script, and of a guest that it calls. The
/// answer must contain a text.
fn app(script: &str, answer: &str) -> AppBuilder {
    let command = CommandSpec {
        args: vec![script.to_owned(), answer.to_owned()],
        ..CommandSpec::default()
    };
    let guest = |name, wasm: &[u8]| GuestSpec {
        inherit_stdio: true,
        ..GuestSpec::new(name, wasm)
    };
    let read = |path| std::fs::read(path).expect("the build script built it");
    let far = tombolo_tests::server(&read(guests::LENDS_FAR));
    App::builder()
        .command(command)
        .guest(guest("starter", &read(guests::LENDS_STARTER)))
        .guest(guest("composed", composed()))
        .guest(guest("far", &far))
}

// rule 5
#[test]
fn parts_lend_in_an_app() {
    succeeds(app("within double", "done; 2 2"));
    succeeds(app("within nest double", "done 22; 22 2"));
    succeeds(app("plain double", "would block"));
}

// rule 5
#[test]
fn part_lends_on_to_another_guest() {
    // The windows of both parts are set aside for the other guest.
    succeeds(app("within on double", "done; 2 2"));
    succeeds(app("within nest on double", "done 22; 22 2"));
    succeeds(app("within on keep", "done; 3 3"));
    succeeds(app("within on abuse", "done; 1 1"));
}

// rules 6, 13
#[test]
fn death_of_another_guest_reaches_the_part() {
    succeeds_despite(app("within on die", "far"), &["far"]);
    // The lender of that region goes on, and finds it poisoned.
    succeeds_despite(app("within nest on die", "far"), &["far"]);
}
