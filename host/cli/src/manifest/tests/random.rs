//! Manifests made at random.

use proptest::prelude::*;
use regex_lite::Regex;

use super::*;

/// Texts that are nearly manifests.
fn nearly() -> impl Strategy<Value = String> {
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

/// Values that may stand in the place of any other.
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
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        said(&text);
    }

    #[test]
    fn no_text_like_a_manifest_makes_the_parser_panic(text in nearly()) {
        said(&text);
    }

    #[test]
    fn no_change_to_a_manifest_makes_the_parser_panic(
        at in 0..WHOLE.len(),
        end in 0..WHOLE.len(),
        text in nearly(),
    ) {
        let (at, end) = (at.min(end), at.max(end));
        said(&format!("{}{text}{}", &WHOLE[..at], &WHOLE[end..]));
    }

    /// Schema and parser are of one mind, whatever stands in a value's place.
    #[test]
    fn schema_refuses_just_what_the_parser_refuses(
        place in any::<prop::sample::Index>(),
        value in proptest::sample::select(VALUES.to_vec()),
    ) {
        let values = Regex::new(r#"= (\[("[^"]*"(, )?)+\]|"[^"]*"|[0-9]+)"#).unwrap();
        let places: Vec<_> = values.captures_iter(WHOLE).map(|found| found.get(1).unwrap()).collect();
        let place = place.get(&places).range();
        let text = format!("{}{value}{}", &WHOLE[..place.start], &WHOLE[place.end..]);
        let said = conform::manifest(&toml_span::parse(&text).unwrap());
        let refusal = validator::refusal(&text);
        prop_assert_eq!(refusal.is_some(), !said.is_empty(), "{}\n{:?}\n{:?}", text, said, refusal);
    }

    #[test]
    fn sizes_and_times_of_the_right_shape_are_read(
        number in 0u64..1_000_000_000_000,
        unit in "( ?[kKmMgGtT][iI]?[bB]?| ?[bB])?",
        seconds in 0u64..1_000_000_000,
        of in "(ns|us|ms|s|m|h|d)",
    ) {
        let text = format!("app.budget = '{number}{unit}'\nguests.a = {{ component = 'a', restart = {{ policy = 'never', max-delay = '{seconds}{of} 900000000d' }} }}");
        prop_assert_eq!(said(&text), "");
        let (manifest, _) = parse(&text);
        prop_assert!(manifest.budget.is_some());
    }
}
