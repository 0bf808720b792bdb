use super::*;
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
