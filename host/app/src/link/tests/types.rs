//! Tests of the types that pass, and of how differences are shown.

use super::*;

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

#[test]
fn asynchronous_functions_are_linked() {
    let body = "f: async func(s: string) -> result<u8, string>;";
    let plan = pair(body, body).unwrap();
    assert!(plan.links[0].functions[0].ty.async_());
}

#[test]
fn kinds_of_functions_are_compared() {
    let error = only_error(pair("f: async func();", "f: func();"));
    assert!(error.contains("async func"), "{error}");
}

#[test]
fn error_contexts_do_not_compile() {
    let wasm = encode(&exports("f: func(e: error-context);"));
    let error = Component::new(&engine(), wasm).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("the component model"), "{error}");
}
