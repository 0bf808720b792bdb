//! Random manifests.

use proptest::prelude::*;
use regex_lite::Regex;

use super::*;

/// Returns texts that resemble manifests.
fn manifest_like() -> impl Strategy<Value = String> {
    let words = proptest::sample::select(vec![
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\"",
        "'",
        "\n",
        "#",
        " ",
        "guests",
        "app",
        "channels",
        "scopes",
        "component",
        "limits",
        "memory",
        "dirs",
        "restart",
        "members",
        "decode",
        "\"64MiB\"",
        "3",
        "-1",
        "1e400",
        "true",
        "\"\"",
        "'''",
        "\\u0000",
        "\u{1f3dd}",
        "\r\n",
        "2020-01-01",
        "nan",
        "x",
    ]);
    proptest::collection::vec(words, 0..40).prop_map(|words| words.concat())
}

/// Values to replace others with.
const VALUES: &[&str] = &[
    "0",
    "1",
    "-1",
    "1000",
    "1001",
    "4294967295",
    "4294967296",
    "1.5",
    "true",
    "\"\"",
    "\"x\"",
    "\"a b\"",
    "\"a=b\"",
    "\"a\\u0000\"",
    "\"64MiB\"",
    "\"64 m\"",
    "\"1.5\"",
    "\"1s\"",
    "\"1s 1s\"",
    "\"1s  1s\"",
    "\"none\"",
    "\"never\"",
    "\"on-failure\"",
    "\"kill\"",
    "\"read\"",
    "[]",
    "[1]",
    "[\"x\"]",
    "[\"\"]",
    "[\"x\", \"x\"]",
    "[\"read\"]",
    "[\"read\", \"share\"]",
    "[{}]",
    "{}",
    "{ x = 1 }",
    "{ x = \"x\" }",
    "{ policy = \"never\" }",
    "{ policy = \"never\", delay = 1 }",
    "[{ host = \"x\" }]",
    "{ decode = [\"read\"] }",
    "{ windows = 1 }",
];

proptest! {
    #[test]
    fn parser_accepts_any_text_without_panic(text in any::<String>()) {
        problems(&text);
    }

    #[test]
    fn parser_survives_manifest_like_text(text in manifest_like()) {
        problems(&text);
    }

    #[test]
    fn parser_survives_changed_manifests(
        at in 0..ALL_KEYS.len(),
        end in 0..ALL_KEYS.len(),
        text in manifest_like(),
    ) {
        let (at, end) = (at.min(end), at.max(end));
        problems(&format!("{}{text}{}", &ALL_KEYS[..at], &ALL_KEYS[end..]));
    }

    /// Replaces one value by any other.
    #[test]
    fn schema_and_parser_agree_on_values(
        place in any::<prop::sample::Index>(),
        value in proptest::sample::select(VALUES.to_vec()),
    ) {
        let values = Regex::new(r#"= (\[("[^"]*"(, )?)+\]|"[^"]*"|[0-9]+)"#).unwrap();
        let places: Vec<_> = values.captures_iter(ALL_KEYS).map(|found| found.get(1).unwrap()).collect();
        let place = place.get(&places).range();
        let text = format!("{}{value}{}", &ALL_KEYS[..place.start], &ALL_KEYS[place.end..]);
        let found = validate::manifest(&toml_span::parse(&text).unwrap());
        let refusal = validator::refusal(&text);
        prop_assert_eq!(refusal.is_some(), !found.is_empty(), "{}\n{:?}\n{:?}", text, found, refusal);
    }

    #[test]
    fn sizes_and_times_of_valid_shape_are_read(
        number in 0u64..1_000_000_000_000,
        unit in "( ?[kKmMgGtT][iI]?[bB]?| ?[bB])?",
        seconds in 0u64..1_000_000_000,
        of in "(ns|us|ms|s|m|h|d)",
    ) {
        let text = format!("app.budget = '{number}{unit}'\nguests.a = {{ component = 'a', restart = {{ policy = 'never', max-delay = '{seconds}{of} 900000000d' }} }}");
        prop_assert_eq!(problems(&text), "");
        let (manifest, _) = parse(&text);
        prop_assert!(manifest.budget.is_some());
    }
}
