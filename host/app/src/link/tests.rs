//! Tests of the planner with components that consist of WIT alone.

mod allowed;

use wasmtime::Engine;
use wasmtime::component::{ResourceType, Val};
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve, TypeDefKind};

use super::*;

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
    let engine = Engine::default();
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
fn types_at_any_depth_link() {
    let body = format!(
        "{REGION}
         flags marks {{ a, b }}
         enum color {{ red, green }}
         variant shape {{ dot, line(tuple<u8, s64>), area(list<own-of>) }}
         record own-of {{ held: option<region>, marks: marks }}
         record all {{ shape: shape, color: color, f: f64, c: char, s: string, yes: bool }}
         f: func(a: result<list<all>, tuple<f32, option<shape>>>, b: borrow<region>) -> all;"
    );
    let plan = pair(&body, &body).unwrap();
    assert!(plan.links[0].functions[0].handles);
}

#[test]
fn types_only_interface_needs_no_exporter() {
    let import = imports("type t = u32;");
    assert!(plan_of(&[("front", &import)]).unwrap().links.is_empty());
}

#[test]
fn used_type_interface_needs_no_exporter() {
    let wit = |item| {
        format!(
            "package a:b@1.0.0;
             interface types {{ record r {{ x: u32 }} }}
             interface c {{ use types.{{r}}; f: func(r: r); }}
             world guest {{ {item} c; }}"
        )
    };
    let plan = plan_of(&[("front", &wit("import")), ("back", &wit("export"))]).unwrap();
    assert_eq!(plan.links.len(), 1);
    assert_eq!(plan.links[0].import, "a:b/c@1.0.0");
}

#[test]
fn types_of_the_world_need_no_exporter() {
    let import = "package a:b@1.0.0;
         interface types { record r { x: u32 } }
         world guest {
             use types.{r};
             use tombolo:memory/regions@0.1.0.{region};
             export f: func(r: r, region: borrow<region>);
         }";
    assert!(plan_of(&[("front", import)]).unwrap().links.is_empty());
}

#[test]
fn missing_interface_names_the_nearest() {
    let import =
        "package demo:music@0.1.0; interface servr { f: func(); } world guest { import servr; }";
    let export =
        "package demo:music@0.1.0; interface server { f: func(); } world guest { export server; }";
    assert_eq!(
        only_error(plan_of(&[("player", import), ("audioserver", export)])),
        "`player` imports `demo:music/servr@0.1.0`, which no other guest exports; \
         the nearest is `demo:music/server@0.1.0` of `audioserver`"
    );
}

#[test]
fn missing_interface_without_a_similar_one() {
    assert_eq!(
        only_error(plan_of(&[("front", &imports("f: func();"))])),
        "`front` imports `a:b/c@1.0.0`, which no other guest exports"
    );
}

#[test]
fn incompatible_version_is_named() {
    let import = "package a:b@0.2.0; interface c { f: func(); } world guest { import c; }";
    assert_eq!(
        only_error(plan_of(&[
            ("front", import),
            ("back", &exports("f: func();"))
        ])),
        "`front` imports `a:b/c@0.2.0`, which no other guest exports; \
         `back` exports `a:b/c@1.0.0`, an incompatible version"
    );
}

#[test]
fn compatible_version_links_under_both_names() {
    let import = "package a:b@1.4.0; interface c { f: func(); } world guest { import c; }";
    let plan = plan_of(&[
        ("front", import),
        ("back", &exports("f: func(); g: func();")),
    ])
    .unwrap();
    assert_eq!(plan.links[0].import, "a:b/c@1.4.0");
    assert_eq!(plan.links[0].export, "a:b/c@1.0.0");
    assert_eq!(plan.links[0].functions.len(), 1);
}

#[test]
fn exact_version_wins_over_newer() {
    let newer = "package a:b@1.4.0; interface c { f: func(); } world guest { export c; }";
    let guests = [
        ("front", imports("f: func();")),
        ("newer", newer.to_owned()),
        ("exact", exports("f: func();")),
    ];
    let guests = guests.each_ref().map(|(name, wit)| (*name, wit.as_str()));
    assert_eq!(plan_of(&guests).unwrap().links[0].exporter, id(2));
}

#[test]
fn two_exporters_are_ambiguous() {
    let body = "f: func();";
    assert_eq!(
        only_error(plan_of(&[
            ("front", &imports(body)),
            ("one", &exports(body)),
            ("two", &exports(body)),
        ])),
        "`front` imports `a:b/c@1.0.0`, which several guests export: `one`, `two`"
    );
}

#[test]
fn guest_does_not_serve_itself() {
    let both = "package a:b@1.0.0; interface c { f: func(); } world guest { import c; export c; }";
    assert_eq!(
        only_error(plan_of(&[("both", both)])),
        "`both` imports `a:b/c@1.0.0`, which no other guest exports; \
         it exports this interface itself, but a guest cannot serve its own imports"
    );
    // Two such guests serve each other.
    let plan = plan_of(&[("both", both), ("too", both)]).unwrap();
    assert_eq!(plan.links.len(), 2);
}

#[test]
fn missing_function_names_the_nearest() {
    assert_eq!(
        only_error(pair("play-it: func();", "play: func(); stop: func();")),
        "`front` imports function `play-it` of `a:b/c@1.0.0`, but `back` exports `a:b/c@1.0.0` \
         without it; the nearest is `play`"
    );
}

#[test]
fn mismatch_shows_both_types_and_the_difference() {
    let body = |rate| {
        format!(
            "{REGION} record format {{ channels: u16, rate: {rate} }}
             play: func(buffer: borrow<region>, format: format) -> result<list<u8>, string>;"
        )
    };
    assert_eq!(
        only_error(pair(&body("u32"), &body("u64"))),
        "`front` and `back` have different types for function `play` of `a:b/c@1.0.0`\n  \
         `front` imports func(buffer: borrow<region>, format: record { channels: u16, rate: u32 }) \
         -> result<list<u8>, string>\n  \
         `back` exports func(buffer: borrow<region>, format: record { channels: u16, rate: u64 }) \
         -> result<list<u8>, string>\n  \
         they first differ at param format.rate: u32 vs u64"
    );
}

#[test]
fn first_difference_is_found_at_any_depth() {
    let with_region = |ty: &str| format!("{REGION} f: func(a: {ty});");
    let typed = |types: &str, ty: &str| format!("{types} f: func() -> {ty};");
    for (import, export, difference) in [
        (
            with_region("region"),
            with_region("borrow<region>"),
            "param a: region vs borrow<region>",
        ),
        (
            "f: func(a: u8, b: u8);".to_owned(),
            "f: func(b: u8, a: u8);".to_owned(),
            "the parameters: parameter `a` vs parameter `b`",
        ),
        (
            "f: func(a: u8);".to_owned(),
            "f: func();".to_owned(),
            "the parameters: parameter `a` vs no further parameter",
        ),
        (
            "f: func();".to_owned(),
            "f: func() -> u8;".to_owned(),
            "result: nothing vs u8",
        ),
        (
            typed("", "result<_, list<option<s8>>>"),
            typed("", "result<_, list<option<u8>>>"),
            "result.err[].some: s8 vs u8",
        ),
        (
            typed("", "result<u8>"),
            typed("", "result<u8, string>"),
            "result.err: nothing vs string",
        ),
        (
            typed("", "tuple<u8, u8>"),
            typed("", "tuple<u8, u8, u8>"),
            "result: tuple<u8, u8> vs tuple<u8, u8, u8>",
        ),
        (
            typed("enum e { a, b }", "e"),
            typed("enum e { a, c }", "e"),
            "result: case `b` vs case `c`",
        ),
        (
            typed("flags e { a }", "e"),
            typed("flags e { a, b }", "e"),
            "result: no further flag vs flag `b`",
        ),
        (
            typed("record e { a: u8 }", "e"),
            typed("record e { b: u8 }", "e"),
            "result: field `a` vs field `b`",
        ),
        (
            typed("variant e { a, b(u8) }", "e"),
            typed("variant e { a, b }", "e"),
            "result.b: u8 vs nothing",
        ),
        (
            typed("variant e { a, b }", "e"),
            typed("enum e { a, b }", "e"),
            "result: variant { a, b } vs enum { a, b }",
        ),
    ] {
        let error = only_error(pair(&import, &export));
        let found = error.rsplit_once("differ at ").unwrap().1;
        assert_eq!(found, difference);
    }
}

#[test]
fn other_handles_are_refused_at_any_depth() {
    let body = "use wasi:io/poll@0.2.0.{pollable};
         record r { p: list<option<pollable>> }
         f: func(a: u8, r: r);";
    assert_eq!(
        only_error(pair(body, body)),
        "`front` imports function `f` of `a:b/c@1.0.0`, which passes a handle to `pollable` of \
         `wasi:io/poll` (at param r.p[].some), and between guests only handles to regions and to resources of guests \
         can pass"
    );
    let body = "use tombolo:memory/windows@0.1.0.{window}; f: func() -> window;";
    let error = only_error(pair(body, body));
    assert!(
        error.contains("`window` of `tombolo:memory/windows` (at result)"),
        "{error}"
    );
}

/// A resource of a guest, in an interface that others use.
const THINGS: &str = "package a:b@1.0.0;
    interface things {
        resource thing {
            constructor(n: u32);
            get: func() -> u32;
            open: static func(n: u32) -> result<thing, string>;
        }
        f: func(a: list<thing>) -> result<option<thing>, string>;
    }
    interface sink { use things.{thing}; take: func(t: thing) -> result<_, string>; }";

fn things(world: &str) -> String {
    format!("{THINGS} world guest {{ {world} }}")
}

/// A guest that receives the resource from another importer. As in real components, functions
/// that it does not call are removed.
const THIRD: &str = "package a:b@1.0.0;
    interface things { resource thing; }
    interface sink { use things.{thing}; take: func(t: thing) -> result<_, string>; }
    world guest { export sink; }";

// rule 13
#[test]
fn resource_of_a_guest_is_linked_by_number() {
    let (import, export) = (things("import things;"), things("export things;"));
    let plan = plan_of(&[("front", &import), ("back", &export)]).unwrap();
    assert_eq!(plan.resources.len(), 1);
    let kind = &plan.resources[0];
    assert_eq!(
        (kind.owner, &*kind.export, &*kind.name),
        (id(1), "a:b/things@1.0.0", "thing")
    );
    assert_eq!(plan.links[0].resources, [("thing".to_owned(), 0)]);
    assert!(plan.links[0].functions.iter().all(|it| it.handles));
    let warned: Vec<String> = plan.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warned.len(), 2, "{warned:?}");
    assert!(warned[0].contains("`a:b/things.[constructor]thing`"));
    assert!(warned[0].contains("a static function"), "{}", warned[0]);
    assert!(warned[1].contains("`a:b/things.[method]thing.get`"));
    assert!(warned[1].contains("`peer-failed(string)`"), "{}", warned[1]);
}

#[test]
fn two_exporters_have_two_resources() {
    let two = "package a:b@1.0.0; interface d { resource thing; f: func(t: thing); }";
    let two = |world: &str| format!("{two} world guest {{ {world} }}");
    let front = "package a:b@1.0.0;
        interface things {
            resource thing { constructor(n: u32); }
        }
        interface d { resource thing; f: func(t: thing); }
        world guest { import things; import d; }";
    let plan = plan_of(&[
        ("front", front),
        ("back", &things("export things;")),
        ("other", &two("export d;")),
    ])
    .unwrap();
    let numbers: Vec<u32> = plan
        .links
        .iter()
        .flat_map(|link| link.resources.iter().map(|(_, kind)| *kind))
        .collect();
    assert_eq!(numbers, [0, 1]);
}

#[test]
fn third_guest_can_receive_a_resource() {
    let plan = plan_of(&[
        ("front", &things("import things; import sink;")),
        ("back", &things("export things;")),
        ("third", THIRD),
    ])
    .unwrap();
    // The third guest imports only the resource of `things`.
    let links: Vec<_> = plan
        .links
        .iter()
        .map(|link| (link.importer, &*link.import, link.exporter))
        .collect();
    assert_eq!(
        links,
        [
            (id(0), "a:b/things@1.0.0", id(1)),
            (id(0), "a:b/sink@1.0.0", id(2)),
            (id(2), "a:b/things@1.0.0", id(1)),
        ]
    );
    assert!(
        plan.links
            .iter()
            .all(|it| it.resources.iter().all(|(_, kind)| *kind == 0))
    );
    assert!(plan.links[2].functions.is_empty());
}

#[test]
fn receiving_a_resource_needs_no_permission() {
    let wit = [
        things("import things; import sink;"),
        things("export things;"),
        THIRD.to_owned(),
    ];
    let engine = Engine::default();
    let components = wit.each_ref().map(|wit| component(&engine, wit));
    let parts = parts(["front", "back", "third"].into_iter().zip(&components));
    let allowed = allowed_calls(&[(0, 1), (0, 2)]);
    plan(&host(&engine), &parts, &allowed).unwrap();
    let allowed = allowed_calls(&[(0, 2)]);
    let errors = plan(&host(&engine), &parts, &allowed).unwrap_err();
    assert!(
        errors.to_string().contains("is not allowed to call"),
        "{errors}"
    );
}

#[test]
fn resources_of_two_guests_do_not_match() {
    let wit = [
        things("import things; import sink;"),
        things("export things;"),
        things("export things;"),
        THIRD.to_owned(),
    ];
    let engine = Engine::default();
    let components = wit.each_ref().map(|wit| component(&engine, wit));
    let names = ["front", "back", "other", "third"];
    let parts = parts(names.into_iter().zip(&components));
    let allowed = allowed_calls(&[(0, 1), (0, 3), (3, 2)]);
    let errors = plan(&host(&engine), &parts, &allowed).unwrap_err();
    let text = errors.to_string();
    assert!(
        text.ends_with(
            "they first differ at param t: a handle to `thing` of `a:b/things`, of guest `back` \
             vs a handle to `thing` of `a:b/things`, of guest `other`"
        ),
        "{text}"
    );
}

#[test]
fn missing_resource_is_named() {
    let import = "resource thing; f: func();";
    assert_eq!(
        only_error(pair(import, "f: func();")),
        "`front` imports resource `thing` of `a:b/c@1.0.0`, but `back` exports `a:b/c@1.0.0` \
         without it"
    );
}

#[test]
fn circular_resource_is_an_error() {
    let one = "package a:b@1.0.0;
        interface c { resource r; f: func(r: r); }
        interface d { use c.{r}; g: func(r: r); }
        world guest { import c; export d; }";
    let other = "package a:b@1.0.0;
        interface d { resource r; g: func(r: r); }
        interface c { use d.{r}; f: func(r: r); }
        world guest { import d; export c; }";
    assert!(plan_of(&[("one", one), ("other", other)]).is_err());
}

#[test]
fn own_resource_named_region_is_no_region() {
    let body = "resource region; f: func(t: borrow<region>);";
    let plan = pair(body, body).unwrap();
    assert_eq!(plan.resources.len(), 1);
    let error = only_error(pair(body, &format!("{REGION} f: func(t: borrow<region>);")));
    assert!(error.contains("`region`"), "{error}");
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
    let engine = Engine::default();
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
    let engine = Engine::default();
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

#[test]
fn asynchronous_types_do_not_compile() {
    // The engine is built without them. If that changes, this test fails, and the planner's
    // refusals need tests.
    let engine = Engine::default();
    for body in [
        "f: async func();",
        "f: func(s: stream<u8>);",
        "f: func() -> future<u8>;",
        "f: func(e: error-context);",
    ] {
        let error = Component::new(&engine, encode(&exports(body))).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("the component model"), "{error}");
    }
}
