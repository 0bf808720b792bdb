//! JSON output: the report of `run --json`, and the escapes for `inspect --json`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use tombolo_app::Report;
use tombolo_region::is_harmless;

/// Returns the report as one line of JSON. The members are named as in [`Report`]. Sizes are
/// in bytes, times in nanoseconds.
pub(super) fn render(report: &Report) -> String {
    to_text(&json!(report))
}

/// Returns a value as one line of JSON. Characters that could steer a terminal are escaped in
/// JSON's own way, so that a parser reads the original text.
pub(super) fn to_text(value: &Value) -> String {
    let json = value.to_string();
    let mut text = String::with_capacity(json.len());
    let mut combines = false;
    for char in json.chars() {
        combines = is_harmless(char, combines);
        match combines {
            true => text.push(char),
            // Outside of strings, JSON has only harmless characters.
            false => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use tombolo::RegionUsage;
    use tombolo_app::{CallReport, GuestEnd, GuestReport, WindowAccess, WindowReport};

    #[test]
    fn report_is_one_line_of_json() {
        let mut report = Report::default();
        let mut window = WindowReport::default();
        window.access = WindowAccess::LiveWrite;
        let mut guest = GuestReport::default();
        guest.name = "a\n\"b\"".into();
        guest.end = GuestEnd::Exit(3);
        guest.regions = vec![RegionUsage::default()];
        guest.windows = vec![window];
        let mut call = CallReport::default();
        call.total = Duration::from_micros(2);
        report.guests = vec![guest];
        report.calls = vec![call];
        report.budget.purged = 1 << 40;
        let text = render(&report);
        assert!(!text.contains('\n'), "{text}");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["budget"]["purged"], 1u64 << 40);
        let guest = &read["guests"][0];
        assert_eq!(guest["name"], "a\n\"b\"");
        assert_eq!(guest["end"], "exit 3");
        assert_eq!(guest["regions"][0]["pss"], 0);
        assert_eq!(guest["windows"][0]["access"], "live-write");
        assert_eq!(read["calls"][0]["total"], 2_000);
    }

    #[test]
    fn control_characters_are_escaped_and_read_back() {
        let name = "\x1b[2J\u{9b}\u{202e}\u{2028}\u{e0041}\n\\\"ü";
        let text = to_text(&json!(name));
        assert_eq!(text, r#""\u001b[2J\u009b\u202e\u2028\udb40\udc41\n\\\"ü""#);
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read, name);
    }
}
