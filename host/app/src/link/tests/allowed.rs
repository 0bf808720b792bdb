//! Tests of allowed calls, and of the reported providers.

use super::*;

fn examine_guests(guests: &[(&str, &str)], allowed: &Allowed) -> Examined {
    let engine = engine();
    let components: Vec<Component> = guests
        .iter()
        .map(|(_, wit)| component(&engine, wit))
        .collect();
    let names = guests.iter().map(|(name, _)| *name);
    let parts = parts(names.zip(&components));
    examine(&host(&engine), &parts, allowed)
}

const F: &str = "f: func() -> result<_, string>;";

fn provider(examined: &Examined) -> &Provider {
    &examined.interfaces[0].imports[0].provider
}

#[test]
fn forbidden_call_is_an_error_with_a_hint() {
    let guests = [("front", &*imports(F)), ("back", &*exports(F))];
    let examined = examine_guests(&guests, &allowed_calls(&[]));
    let [error] = &examined.errors[..] else {
        panic!("{:?}", examined.errors);
    };
    assert_eq!(
        error.to_string(),
        "`front` imports `a:b/c@1.0.0`, but is not allowed to call `back`, which exports it"
    );
    assert_eq!(
        error.hint(),
        "to allow it, write `calls = [\"back\"]` for `front` in the manifest"
    );
    assert_eq!(error.guest(), "front");
    assert!(examined.plan.links.is_empty());
    let forbidden = Provider::Forbidden(vec!["back".into()]);
    assert_eq!(provider(&examined), &forbidden);

    // The opposite direction needs its own permission.
    assert_eq!(
        examine_guests(&guests, &allowed_calls(&[(1, 0)]))
            .errors
            .len(),
        1
    );
    assert!(
        examine_guests(&guests, &allowed_calls(&[(0, 1)]))
            .errors
            .is_empty()
    );
    assert!(
        examine_guests(&guests, &Allowed::default())
            .errors
            .is_empty()
    );
}

#[test]
fn permission_selects_among_exporters() {
    let guests = [
        ("front", &*imports(F)),
        ("left", &*exports(F)),
        ("right", &*exports(F)),
    ];
    let both = ["left", "right"].map(str::to_owned).to_vec();
    assert_eq!(
        provider(&examine_guests(&guests, &Allowed::default())),
        &Provider::Ambiguous(both)
    );
    let examined = examine_guests(&guests, &allowed_calls(&[(0, 2)]));
    assert!(examined.errors.is_empty(), "{:?}", examined.errors);
    assert_eq!(provider(&examined), &Provider::Guest("right".into()));
    assert_eq!(examined.plan.links[0].exporter, id(2));
}

#[test]
fn interfaces_list_providers_and_users() {
    let front = "package a:b@1.0.0;
         interface c { f: func() -> result<_, string>; g: func() -> result<_, string>; }
         interface t { record r { x: u8 } }
         interface d { use t.{r}; f: func(r: r); }
         world guest { import c; import d; import wasi:random/random@0.2.0;
                       export wasi:cli/run@0.2.0; }";
    let back = exports("f: func() -> result<_, string>; g: func() -> result<_, string>;");
    let examined = examine_guests(&[("front", front), ("back", &back)], &Allowed::default());
    let [front, back] = &examined.interfaces[..] else {
        panic!("{:?}", examined.interfaces);
    };
    assert!(front.command && !back.command);
    let of = |name: &str| {
        let import = front.imports.iter().find(|import| import.name == name);
        import.unwrap_or_else(|| panic!("no `{name}` in {front:?}"))
    };
    assert_eq!(of("a:b/c@1.0.0").provider, Provider::Guest("back".into()));
    assert_eq!(of("a:b/c@1.0.0").functions, ["f", "g"]);
    assert_eq!(of("a:b/d@1.0.0").provider, Provider::Nobody);
    assert_eq!(of("a:b/t@1.0.0").provider, Provider::Types);
    assert_eq!(of("wasi:random/random@0.2.0").provider, Provider::Host);
    assert_eq!(back.exports[0].users, ["front"]);
    assert_eq!(back.exports[0].functions, ["f", "g"]);
    assert!(front.exports[0].users.is_empty());
}

#[test]
fn guest_with_other_types_is_unfit() {
    let examined = examine_guests(
        &[("front", &imports(F)), ("back", &exports("f: func();"))],
        &Allowed::default(),
    );
    assert_eq!(provider(&examined), &Provider::Unfit("back".into()));
    assert!(examined.interfaces[1].exports[0].users.is_empty());
}
