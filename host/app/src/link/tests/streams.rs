//! Tests of streams and futures, and of the items that they may carry.

use super::*;

#[test]
fn streams_and_futures_of_listed_items_link() {
    let body = format!(
        "{REGION}
         record parts {{ bytes: option<stream<u8>>, rest: list<future<result<list<u8>, string>>> }}
         f: func(a: stream<region>, b: future<result<region, string>>, c: stream) -> parts;
         g: func(a: stream<string>, b: stream<f64>, c: future<result>) -> stream<list<u8>>;"
    );
    let plan = pair(&body, &body).unwrap();
    assert!(
        plan.links[0]
            .functions
            .iter()
            .all(|function| function.handles)
    );
}

#[test]
fn other_items_are_refused_by_name() {
    for (types, ty, at) in [
        ("record point { x: s32 }", "stream<point>", "param a"),
        ("", "stream<tuple<u8, u8>>", "param a"),
        ("", "option<future<option<string>>>", "param a.some"),
        ("", "stream<stream<u8>>", "param a"),
        ("", "stream<list<u16>>", "param a"),
        ("", "future<result<u8, string>>", "param a"),
        ("resource thing;", "stream<thing>", "param a"),
    ] {
        let body = format!("{types} f: func(a: {ty});");
        let error = only_error(pair(&body, &body));
        let items = ty.trim_start_matches("option<");
        let shown = match items.contains("point") {
            true => "stream<record { x: s32 }>",
            false => items
                .strip_suffix(">")
                .filter(|_| items != ty)
                .unwrap_or(items),
        };
        let expected =
            format!("which passes `{shown}` (at {at}), which cannot pass between guests");
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn different_items_are_a_mismatch() {
    let body = |items: &str| format!("f: func() -> {items};");
    for (import, export, difference) in [
        ("stream<u8>", "stream<u16>", "result.item: u8 vs u16"),
        ("stream<u8>", "stream", "result.item: u8 vs nothing"),
        ("future<u8>", "future<string>", "result.value: u8 vs string"),
        (
            "stream<u8>",
            "future<u8>",
            "result: stream<u8> vs future<u8>",
        ),
    ] {
        let error = only_error(pair(&body(import), &body(export)));
        let found = error.rsplit_once("differ at ").unwrap().1;
        assert_eq!(found, difference);
    }
}
