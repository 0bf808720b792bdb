//! The report as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use miniserde::json::{self, Number, Object, Value};

use tombolo::RegionUsage;
use tombolo_app::{
    CallReport, ChannelReport, GuestReport, KillReport, Report, RestartReport, WindowReport,
};
use tombolo_region::is_harmless;

/// One line: an object, whose members are named as in the library's `Report`.
/// Sizes are in bytes, times in nanoseconds.
pub(super) fn render(report: &Report) -> String {
    let budget = &report.budget;
    to_text(&object([
        ("guests", array(&report.guests, guest)),
        ("calls", array(&report.calls, call)),
        ("channels", array(&report.channels, channel)),
        ("kills", array(&report.kills, kill)),
        ("kills_total", number(report.kills_total)),
        (
            "budget",
            object([
                ("budget", number(budget.budget)),
                ("committed", number(budget.committed)),
                ("committed_peak", number(budget.committed_peak)),
                ("purgeable", number(budget.purgeable)),
                ("purges", number(budget.purges)),
                ("purged", number(budget.purged)),
            ]),
        ),
        ("regions_created", number(report.regions_created)),
        ("regions_freed", number(report.regions_freed)),
        ("bytes_shared", number(report.bytes_shared)),
        ("bytes_copied_regions", number(report.bytes_copied_regions)),
        ("bytes_copied_calls", number(report.bytes_copied_calls)),
    ]))
}

/// Returns a value as JSON text in one line, in which all that is no text is escaped as
/// JSON has it: it reads back as it was.
pub(super) fn to_text(value: &Value) -> String {
    let json = json::to_string(value);
    let mut text = String::with_capacity(json.len());
    let mut combines = false;
    for char in json.chars() {
        combines = is_harmless(char, combines);
        match combines {
            true => text.push(char),
            // It stands in a string: JSON has nothing like it elsewhere.
            false => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text
}

fn guest(guest: &GuestReport) -> Value {
    object([
        ("name", string(&guest.name)),
        ("end", string(&guest.end)),
        ("regions", array(&guest.regions, region)),
        ("regions_released", array(&guest.regions_released, region)),
        (
            "regions_released_total",
            number(guest.regions_released_total),
        ),
        ("windows", array(&guest.windows, window)),
        ("windows_total", number(guest.windows_total)),
        ("regions_created", number(guest.regions_created)),
        ("regions_freed", number(guest.regions_freed)),
        ("restarts", array(&guest.restarts, restart)),
        ("restarts_total", number(guest.restarts_total)),
        ("growths_refused", number(guest.growths_refused)),
    ])
}

fn region(region: &RegionUsage) -> Value {
    object([
        ("id", number(region.id)),
        ("name", string(&region.name)),
        ("size", number(region.size)),
        ("resident", number(region.resident)),
        ("pinned", number(region.pinned)),
        ("purgeable", number(region.purgeable)),
        ("purged", number(region.purged)),
        ("holders", number(region.holders)),
        ("pss", number(region.pss)),
    ])
}

fn window(window: &WindowReport) -> Value {
    object([
        ("address", number(window.address.into())),
        ("region", string(&window.region)),
        ("region_id", number(window.region_id)),
        ("offset", number(window.offset)),
        ("length", number(window.length)),
        ("access", string(&window.access)),
        ("count", number(window.count)),
    ])
}

fn restart(restart: &RestartReport) -> Value {
    object([
        ("failure", string(&restart.failure)),
        ("lived", nanoseconds(restart.lived)),
        ("delay", nanoseconds(restart.delay)),
    ])
}

fn call(call: &CallReport) -> Value {
    object([
        ("caller", string(&call.caller)),
        ("callee", string(&call.callee)),
        ("function", string(&call.function)),
        ("count", number(call.count)),
        ("total", nanoseconds(call.total)),
        ("median", nanoseconds(call.median)),
    ])
}

fn channel(channel: &ChannelReport) -> Value {
    object([
        ("name", string(&channel.name)),
        ("sent", number(channel.sent)),
        ("received", number(channel.received)),
        ("dropped", number(channel.dropped)),
        ("bytes", number(channel.bytes)),
        ("regions", number(channel.regions)),
    ])
}

fn kill(kill: &KillReport) -> Value {
    object([
        ("guest", string(&kill.guest)),
        ("score", number(kill.score.into())),
        ("reason", string(&kill.reason)),
        ("bytes", number(kill.bytes)),
        ("dry_run", Value::Bool(kill.dry_run)),
    ])
}

pub(super) fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let members = members.into_iter();
    let object: Object = members
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    Value::Object(object)
}

pub(super) fn array<T>(items: &[T], value: fn(&T) -> Value) -> Value {
    Value::Array(items.iter().map(value).collect())
}

pub(super) fn number(number: u64) -> Value {
    Value::Number(Number::U64(number))
}

fn nanoseconds(time: Duration) -> Value {
    number(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

pub(super) fn string(text: &str) -> Value {
    Value::String(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_one_line_that_reads_back() {
        let mut report = {
            let mut it = Report::default();
            it.guests = vec![{
                let mut it = GuestReport::default();
                it.name = "a\n\"b\"".into();
                it.regions = vec![RegionUsage::default()];
                it
            }];
            it
        };
        report.budget.purged = 1 << 40;
        let text = render(&report);
        assert!(!text.contains('\n'), "{text}");
        let Value::Object(read) = json::from_str(&text).unwrap() else {
            panic!("{text}");
        };
        let Value::Object(budget) = &read["budget"] else {
            panic!("{text}");
        };
        assert!(matches!(budget["purged"], Value::Number(Number::U64(n)) if n == 1 << 40));
        assert!(text.contains(r#""name":"a\n\"b\"""#), "{text}");
    }

    #[test]
    fn no_string_steers_a_terminal_and_all_read_back() {
        let name = "\x1b[2J\u{9b}\u{202e}\u{2028}\u{e0041}\n\\\"ü";
        let text = to_text(&string(name));
        assert_eq!(text, r#""\u001b[2J\u009b\u202e\u2028\udb40\udc41\n\\\"ü""#);
        let Value::String(read) = json::from_str(&text).unwrap() else {
            panic!("{text}");
        };
        assert_eq!(read, name);
    }
}
