//! Tests of resources that guests define.

use super::*;

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
    let engine = engine();
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
    let engine = engine();
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
