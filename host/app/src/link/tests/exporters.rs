//! Tests of which guest serves an import.

use super::*;

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
