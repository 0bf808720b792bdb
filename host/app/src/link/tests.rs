//! Tests of the planner with components that consist of WIT alone.

mod allowed;
mod exporters;
mod resources;
mod streams;
mod types;

use wasmtime::Engine;
use wasmtime::component::{ResourceType, Val};
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve, TypeDefKind};

use super::*;
use crate::test_engine::engine;

struct LinkState {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for LinkState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// Returns the WIT that every guest can use: Tombolo's, and a little of WASI's.
fn resolve() -> Resolve {
    let mut resolve = Resolve::default();
    // This includes `tombolo:memory`, on which it depends.
    resolve
        .push_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/app"))
        .unwrap();
    resolve
        .push_str(
            "wasi.wit",
            "package wasi:root;
             package wasi:http@0.2.0 { interface types { resource request; } }
             package wasi:cli@0.2.0 {
                 interface run { run: func() -> result; }
                 interface exit { exit: func(status: result); }
             }
             package wasi:clocks@0.3.0 { interface system-clock { now: func() -> u64; } }
             package wasi:random@0.2.0 { interface random { roll: func() -> u64; } }",
        )
        .unwrap();
    resolve
}

/// Returns a linker with all interfaces of the host.
fn host(engine: &Engine) -> Linker<LinkState> {
    struct RegionType;
    struct WindowType;
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    let resolve = resolve();
    let packages = resolve.packages.iter().map(|(_, package)| package);
    let tombolos = packages.filter(|package| package.name.namespace == "tombolo");
    for interface in tombolos.flat_map(|package| package.interfaces.values()) {
        let name = resolve.id_of(*interface).unwrap();
        let mut instance = linker.instance(&name).unwrap();
        let interface = &resolve.interfaces[*interface];
        for (name, ty) in &interface.types {
            if let TypeDefKind::Resource = resolve.types[*ty].kind {
                let ty = match name.as_str() {
                    "region" => ResourceType::host::<RegionType>(),
                    _ => ResourceType::host::<WindowType>(),
                };
                instance.resource(name, ty, |_, _| Ok(())).unwrap();
            }
        }
        for name in interface.functions.keys() {
            instance.func_new(name, |_, _, _, _| Ok(())).unwrap();
        }
    }
    linker
}

/// Compiles the world `guest` to a component whose functions all trap.
fn component(engine: &Engine, wit: &str) -> Component {
    Component::new(engine, encode(wit)).unwrap()
}

fn encode(wit: &str) -> Vec<u8> {
    let mut resolve = resolve();
    let package = resolve.push_str("guest.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .encode()
        .unwrap()
}

fn id(guest: usize) -> GuestId {
    GuestId::new(guest)
}

/// Returns guests with these names and components, in this order.
fn parts<'a>(guests: impl IntoIterator<Item = (&'a str, &'a Component)>) -> Vec<Part<'a>> {
    let guests = guests.into_iter().enumerate();
    let parts = guests.map(|(guest, (name, component))| Part {
        id: id(guest),
        name,
        component,
    });
    parts.collect()
}

/// Returns a permission for each of these pairs of caller and callee.
fn allowed_calls(calls: &[(usize, usize)]) -> Allowed {
    let calls = calls.iter().map(|(from, to)| (id(*from), id(*to)));
    Allowed(Some(calls.collect()))
}

/// Plans the links of guests, each a name and its WIT.
fn plan_of(guests: &[(&str, &str)]) -> Result<LinkPlan, LinkErrors> {
    let engine = engine();
    let components: Vec<Component> = guests
        .iter()
        .map(|(_, wit)| component(&engine, wit))
        .collect();
    let names = guests.iter().map(|(name, _)| *name);
    let parts = parts(names.zip(&components));
    plan(&host(&engine), &parts, &Allowed::default())
}

fn plan(
    linker: &Linker<LinkState>,
    parts: &[Part<'_>],
    allowed: &Allowed,
) -> Result<LinkPlan, LinkErrors> {
    let examined = examine(linker, parts, allowed);
    match LinkErrors::new(examined.errors) {
        Some(errors) => Err(errors),
        None => Ok(examined.plan),
    }
}

/// Returns a guest that imports the interface `a:b/c` with this body.
fn imports(body: &str) -> String {
    format!("package a:b@1.0.0; interface c {{ {body} }} world guest {{ import c; }}")
}

/// Returns a guest that exports the interface `a:b/c` with this body.
fn exports(body: &str) -> String {
    format!("package a:b@1.0.0; interface c {{ {body} }} world guest {{ export c; }}")
}

/// Plans one guest that imports `a:b/c`, and one that exports it.
fn pair(import: &str, export: &str) -> Result<LinkPlan, LinkErrors> {
    plan_of(&[("front", &imports(import)), ("back", &exports(export))])
}

#[track_caller]
fn only_error(result: Result<LinkPlan, LinkErrors>) -> String {
    let errors = result.expect_err("should not link");
    assert_eq!(errors.errors().len(), 1, "{errors}");
    assert!(!errors.hints()[0].is_empty());
    errors.to_string()
}

const REGION: &str = "use tombolo:memory/regions@0.1.0.{region};";

#[test]
fn host_offers_pressure() {
    let wit = "package a:b; world guest { import tombolo:memory/pressure@0.1.0; }";
    let plan = plan_of(&[("guest", wit)]).unwrap();
    assert!(plan.links.is_empty(), "{:?}", plan.links);
}

// rule 13
#[test]
fn region_interface_of_two_guests_links() {
    let wit = include_str!("tests/music.wit");
    let player = format!("{wit} world guest {{ import server; }}");
    let audioserver = format!("{wit} world guest {{ export server; }}");
    let plan = plan_of(&[("player", &player), ("audioserver", &audioserver)]).unwrap();
    let [link] = &plan.links[..] else {
        panic!("{:?}", plan.links)
    };
    assert_eq!((link.importer, link.exporter), (id(0), id(1)));
    assert_eq!(link.import, "demo:music/server@0.1.0");
    assert_eq!(link.export, link.import);
    let functions: Vec<_> = link
        .functions
        .iter()
        .map(|function| {
            (
                function.name.as_str(),
                function.handles,
                function.error_slot,
            )
        })
        .collect();
    assert_eq!(
        functions,
        [
            ("play", true, Some(ErrorSlot::PeerFailed)),
            ("touch", true, Some(ErrorSlot::String)),
            ("volume", false, None),
        ]
    );
    let [warning] = &plan.warnings[..] else {
        panic!("{:?}", plan.warnings)
    };
    let warning = warning.to_string();
    assert!(warning.contains("`audioserver`'s `demo:music/server.volume`"));
    assert!(warning.contains("`player` traps"));
}

#[test]
fn bare_function_is_refused() {
    let import = "package a:b; world guest { import f: func(); }";
    assert_eq!(
        only_error(plan_of(&[("front", import)])),
        "`front` imports `f`, a function outside any interface, and only interfaces can be linked \
         between guests"
    );
}

#[test]
fn missing_wasi_interface_names_the_host() {
    let import = "package a:b; world guest { import wasi:http/types@0.2.0; }";
    assert_eq!(
        only_error(plan_of(&[("front", import)])),
        "`front` imports `wasi:http/types@0.2.0`, which neither this host nor another guest offers"
    );
}

#[test]
fn missing_function_of_the_host_is_named() {
    let import = "package a:b; world guest { import wasi:random/random@0.2.0; }";
    let error = only_error(plan_of(&[("front", import)]));
    assert!(
        error.starts_with(
            "the imports of `front` do not match what this host offers: component imports \
             instance `wasi:random/random@0.2.0`"
        ),
        "{error}"
    );
}

#[test]
fn all_errors_are_reported_at_once() {
    let import = "package a:b@1.0.0;
         interface c { f: func(); g: func(); }
         interface d { f: func(); }
         world guest { import c; import d; import wasi:clocks/system-clock@0.3.0; }";
    let errors = plan_of(&[("front", import), ("back", &exports("f: func() -> u8;"))]).unwrap_err();
    let text = errors.to_string();
    assert_eq!(errors.errors().len(), 4, "{text}");
    assert!(
        text.starts_with("the guests cannot be linked, for 4 reasons\n- `front`"),
        "{text}"
    );
    assert_eq!(errors.hints().len(), 3, "{:?}", errors.hints());
}

#[test]
fn commands_are_found() {
    let engine = engine();
    let run = component(
        &engine,
        "package a:b; world guest { export wasi:cli/run@0.2.0; }",
    );
    let other = component(&engine, &exports("f: func();"));
    let parts = parts([("other", &other), ("run", &run)]);
    let entries = entries(&engine, &parts).into_iter();
    let entries: Vec<_> = entries.map(|(part, export)| (part.id, export)).collect();
    assert_eq!(entries, [(id(1), "wasi:cli/run@0.2.0".to_owned())]);
}

#[test]
fn offers_know_the_versions_of_the_host() {
    let engine = engine();
    let mut offers = Offers::new(&host(&engine));
    for name in ["wasi:cli/environment", "tombolo:memory/regions"] {
        let offered = offers.nearest(name).expect(name);
        assert!(offered.starts_with(name));
    }
    assert!(offers.offered("wasi:cli/environment@0.2.0"));
    assert!(offers.offered("tombolo:memory/windows@0.1.7"));
    assert!(offers.offered("tombolo:app/channels@0.1.0"));
    assert!(!offers.offered("tombolo:memory/channels@0.1.0"));
    assert!(!offers.offered("wasi:cli/environment@0.3.0"));
    assert!(!offers.offered("wasi:cli/environment"));
    assert!(!offers.offered("a:b/c"));
}

// rule 13
#[test]
fn error_has_the_shape_of_the_result() {
    let text = || Box::new(Val::String("gone".to_owned()));
    assert_eq!(
        ErrorSlot::String.error("gone".to_owned()),
        Val::Result(Err(Some(text())))
    );
    assert_eq!(
        ErrorSlot::PeerFailed.error("gone".to_owned()),
        Val::Result(Err(Some(Box::new(Val::Variant(
            "peer-failed".to_owned(),
            Some(text())
        )))))
    );
}
