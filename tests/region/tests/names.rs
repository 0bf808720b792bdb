//! Names of regions, and rights as text.

use proptest::prelude::*;
use tombolo_region_tests::region::{NameError, RegionName, Rights};

fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if cfg!(miri) {
        config.cases = 4;
        config.failure_persistence = None;
    }
    config
}

/// Returns texts of about the maximum length, with and without NUL. They are not made from a
/// regular expression, because Miri takes seconds to parse one.
fn text() -> impl Strategy<Value = String> {
    let most = if cfg!(miri) { 3 } else { 210 };
    let char = prop_oneof![20 => Just('a'), 8 => Just('ß'), 4 => Just('\n'), 1 => Just('\0')];
    prop::collection::vec(char, 0..most).prop_map(|chars| chars.into_iter().collect())
}

#[test]
fn name_has_1_to_200_bytes() {
    assert_eq!(RegionName::new(""), Err(NameError::Empty));
    RegionName::new(&"n".repeat(RegionName::MAX)).unwrap();
    let long = RegionName::new(&"ä".repeat(RegionName::MAX / 2 + 1));
    assert_eq!(long, Err(NameError::TooLong { bytes: 202 }));
}

#[test]
fn rights_are_shown_by_name() {
    assert_eq!(Rights::ALL.to_string(), "read+write+share");
    assert_eq!((Rights::READ | Rights::SHARE).to_string(), "read+share");
    assert_eq!(Rights::NONE.to_string(), "none");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn valid_names_are_kept_and_others_refused(text in text()) {
        let good = (1..=RegionName::MAX).contains(&text.len()) && !text.contains('\0');
        match RegionName::new(&text) {
            Ok(name) => {
                prop_assert!(good);
                prop_assert_eq!(name.as_str(), &text);
                prop_assert!(!name.to_string().contains(char::is_control));
            }
            Err(NameError::Nul { at }) => prop_assert_eq!(text.find('\0'), Some(at)),
            Err(_) => prop_assert!(!good),
        }
    }
}
