//! JSON output: the report of `run --json`, and the escapes for `inspect --json`.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use tombolo::RegionUsage;
use tombolo_app::{GuestReport, Report};
use tombolo_region::is_harmless;

/// Returns the report as one line of JSON. The members are named as in [`Report`]. Sizes are
/// in bytes, times in nanoseconds.
pub(super) fn render(report: &Report) -> String {
    let budget = &report.budget;
    to_text(&json!({
        "guests": report.guests.iter().map(guest).collect::<Vec<_>>(),
        "calls": report.calls.iter().map(|call| json!({
            "caller": call.caller,
            "callee": call.callee,
            "function": call.function,
            "count": call.count,
            "total": nanoseconds(call.total),
            "median": nanoseconds(call.median),
        })).collect::<Vec<_>>(),
        "channels": report.channels.iter().map(|channel| json!({
            "name": channel.name,
            "sent": channel.sent,
            "received": channel.received,
            "dropped": channel.dropped,
            "bytes": channel.bytes,
            "regions": channel.regions,
        })).collect::<Vec<_>>(),
        "kills": report.kills.iter().map(|kill| json!({
            "guest": kill.guest,
            "score": kill.score,
            "reason": kill.reason,
            "bytes": kill.bytes,
            "dry_run": kill.dry_run,
        })).collect::<Vec<_>>(),
        "kills_total": report.kills_total,
        "budget": {
            "budget": budget.budget,
            "committed": budget.committed,
            "committed_peak": budget.committed_peak,
            "purgeable": budget.purgeable,
            "purges": budget.purges,
            "purged": budget.purged,
        },
        "regions_created": report.regions_created,
        "regions_freed": report.regions_freed,
        "bytes_shared": report.bytes_shared,
        "bytes_copied_regions": report.bytes_copied_regions,
        "bytes_copied_calls": report.bytes_copied_calls,
    }))
}

fn guest(guest: &GuestReport) -> Value {
    json!({
        "name": guest.name,
        "end": guest.end.to_string(),
        "regions": guest.regions.iter().map(region).collect::<Vec<_>>(),
        "regions_released": guest.regions_released.iter().map(region).collect::<Vec<_>>(),
        "regions_released_total": guest.regions_released_total,
        "windows": guest.windows.iter().map(|window| json!({
            "address": window.address,
            "region": window.region,
            "region_id": window.region_id,
            "offset": window.offset,
            "length": window.length,
            "access": window.access.to_string(),
            "count": window.count,
        })).collect::<Vec<_>>(),
        "windows_total": guest.windows_total,
        "regions_created": guest.regions_created,
        "regions_freed": guest.regions_freed,
        "restarts": guest.restarts.iter().map(|restart| json!({
            "failure": restart.failure,
            "lived": nanoseconds(restart.lived),
            "delay": nanoseconds(restart.delay),
        })).collect::<Vec<_>>(),
        "restarts_total": guest.restarts_total,
        "growths_refused": guest.growths_refused,
    })
}

fn region(region: &RegionUsage) -> Value {
    json!({
        "id": region.id,
        "name": region.name,
        "size": region.size,
        "resident": region.resident,
        "pinned": region.pinned,
        "purgeable": region.purgeable,
        "purged": region.purged,
        "holders": region.holders,
        "pss": region.pss,
    })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
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
    use super::*;

    #[test]
    fn report_is_one_line_of_json() {
        let mut report = Report::default();
        let mut guest = GuestReport::default();
        guest.name = "a\n\"b\"".into();
        guest.regions = vec![RegionUsage::default()];
        report.guests = vec![guest];
        report.budget.purged = 1 << 40;
        let text = render(&report);
        assert!(!text.contains('\n'), "{text}");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["budget"]["purged"], 1u64 << 40);
        assert_eq!(read["guests"][0]["name"], "a\n\"b\"");
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
