use super::*;
use crate::builder::Concurrency;
use crate::compile::SharedCode;
use crate::internal::AppBuilderInternals as _;
use crate::spec::{CallSpec, ChannelSpec, GuestSpec, ScopeSpec};
use tombolo::Rights;

/// An app of one guest that does not compile, which says so.
fn app() -> AppBuilder {
    AppBuilder::default().guest(GuestSpec::new("a", *b"\0asm\x0d\0\x01\0\x63"))
}

fn channel(to: &str, capacity: u32) -> ChannelSpec {
    ChannelSpec {
        name: "c".into(),
        from: vec!["a".into()],
        to: to.into(),
        capacity,
        message_bytes: ChannelSpec::MESSAGE_BYTES,
        message_regions: ChannelSpec::MESSAGE_REGIONS,
    }
}

fn texts(errors: &[StartError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn channels_cannot_hold_more_than_there_is() {
    let with = |capacity, message_bytes| {
        let channel = ChannelSpec {
            message_bytes,
            ..channel("a", capacity)
        };
        let mut errors = app().channel(channel).check().errors;
        errors.pop().expect("the guest does not compile");
        texts(&errors)
    };
    assert_eq!(with(16, ChannelSpec::MESSAGE_BYTES), [""; 0]);
    let [error] = &with(u32::MAX, 0)[..] else {
        panic!("the messages themselves are something, too");
    };
    assert!(error.contains("could hold 2199023255040 bytes"), "{error}");
    let [error] = &with(1, ChannelSpec::MOST_BYTES + 1)[..] else {
        panic!("more than in a call");
    };
    assert!(error.contains("67108864 is the most"), "{error}");
    let errors = with(u32::MAX, u64::MAX);
    assert_eq!(errors.len(), 2, "{errors:?}");
}

#[test]
fn all_errors_are_found_at_once() {
    let scope = ScopeSpec {
        name: "s".into(),
        members: vec![("a".into(), Rights::ALL), ("d".into(), Rights::READ)],
    };
    let call = CallSpec {
        from: "a".into(),
        to: "b".into(),
    };
    let app = app()
        .oom_score("x", 3)
        .oom_score("a", 1001)
        .oom_floor(1001)
        .may_call([call])
        .channel(channel("e", 1))
        .channel(channel("a", 0))
        .scope(scope);
    let errors = [
        "there is no guest `x`; the guests are `a`",
        "`oom-score` of guest `a` must be a number from 0 to 1000, not 1001",
        "`oom-floor` must be a number from 0 to 1000, not 1001",
        "the call from `a` to `b`: there is no guest `b`; the guests are `a`",
        "channel `c`: there is no guest `e`; the guests are `a`",
        "scope `s`: there is no guest `d`; the guests are `a`",
        "channel `c` has `capacity = 0`; set it to at least 1",
        "there are two channels `c`",
        "cannot compile guest `a`",
    ];
    let findings = app.check();
    assert_eq!(texts(&findings.errors), errors);
    assert!(findings.guests.is_empty());

    let error = app.prepare().err().expect("nothing is ready").to_string();
    assert!(
        error.starts_with("the app cannot start, for 9 reasons\n- there is no guest `x`"),
        "{error}"
    );
    assert!(error.contains("\n- cannot compile guest `a`: "), "{error}");
}

#[test]
fn one_error_is_itself() {
    let error = app().prepare().err().expect("nothing is ready");
    assert!(matches!(error, StartError::Compile { .. }), "{error}");
    let error = AppBuilder::default()
        .prepare()
        .err()
        .expect("nothing is ready");
    assert!(matches!(error, StartError::NoCommand { .. }), "{error}");
}

/// Returns a guest that is a command, and contains `more`.
fn command(name: &str, more: &str) -> GuestSpec {
    let text = format!(
        r#"(component
            (core module $m
                (func (export "run") (result i32) (i32.const 0))
                (func (export "f") (result i32) unreachable)
                (func (export "g") (param i32 i32 i32) (result i32) unreachable))
            (core instance $m (instantiate $m))
            (func $run (result (result)) (canon lift (core func $m "run")))
            (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run)))
            {more})"#
    );
    GuestSpec::new(name, wat::parse_str(text).unwrap())
}

fn plain() -> GuestSpec {
    command("plain", "")
}

/// Returns a guest that exports an async function.
fn asynchronous() -> GuestSpec {
    command(
        "asynchronous",
        r#"(func (export "f") async
            (canon lift (core func $m "f") async (callback (core func $m "g"))))"#,
    )
}

/// Returns whether the engine that an app gets has concurrency support.
#[track_caller]
fn concurrent(app: AppBuilder) -> bool {
    assert_eq!(texts(&app.check().errors), [""; 0]);
    match app.prepare() {
        Ok(prepared) => prepared.engine.get_concurrency_support(),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn engine_is_concurrent_if_a_guest_needs_it() {
    let app = || AppBuilder::default().guest(plain());
    assert!(!concurrent(app()));
    assert!(concurrent(app().guest(asynchronous())));
    assert!(concurrent(app().concurrency(Concurrency::On)));
}

#[test]
fn apps_of_both_kinds_share_code() {
    let code = SharedCode::default();
    let app = || AppBuilder::default().guest(plain()).share_code(&code);
    for _ in 0..2 {
        assert!(!concurrent(app()));
        assert!(concurrent(app().guest(asynchronous())));
    }
}
