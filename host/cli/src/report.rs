//! Prints what happened while an app ran, as tables.

use std::time::Duration;

use bytesize::ByteSize;
use comfy_table::{CellAlignment, ContentArrangement, presets};

use tombolo_app::{GuestReport, Report};
use tombolo_region::escape;

/// Renders a report: with lines and as wide as the terminal if `fancy`, and
/// else plainly.
pub(super) fn render(report: &Report, fancy: bool) -> String {
    let mut text = String::new();
    let mut section = |title: &str, table: Table| {
        text += &format!("\n{title}\n{}\n", table.trim_fmt());
    };

    let mut guests = table(
        fancy,
        &["guest", "end", "regions created", "freed", "windows"],
    );
    right(&mut guests, 2..5);
    for guest in &report.guests {
        guests.add_row([
            guest.name.clone(),
            guest.end.clone(),
            guest.regions_created.to_string(),
            guest.regions_freed.to_string(),
            guest.windows_total.to_string(),
        ]);
    }
    section("Guests", guests);

    if report.guests.iter().any(|guest| guest.growths_refused > 0) {
        let mut refused = table(fancy, &["guest", "growths refused"]);
        right(&mut refused, [1]);
        for guest in report.guests.iter().filter(|it| it.growths_refused > 0) {
            refused.add_row([guest.name.clone(), guest.growths_refused.to_string()]);
        }
        section(
            "Guests whose memory did not grow, as the host was short of it",
            refused,
        );
    }

    if report.guests.iter().any(|guest| !guest.restarts.is_empty()) {
        let mut restarts = table(fancy, &["guest", "failure", "lived", "started after"]);
        right(&mut restarts, 2..4);
        for guest in &report.guests {
            for restart in &guest.restarts {
                restarts.add_row([
                    guest.name.clone(),
                    restart.failure.clone(),
                    time(restart.lived),
                    time(restart.delay),
                ]);
            }
        }
        for guest in &report.guests {
            let listed = guest.restarts.len() as u64;
            if let Some(more @ 1..) = guest.restarts_total.checked_sub(listed) {
                restarts.add_row([guest.name.clone(), format!("{more} more")]);
            }
        }
        section("Guests that failed and were started again", restarts);
    }

    if report.guests.iter().any(|guest| !guest.windows.is_empty()) {
        let mut windows = table(
            fancy,
            &[
                "guest", "address", "region", "offset", "length", "access", "times",
            ],
        );
        right(&mut windows, [1, 3, 4, 6]);
        for guest in &report.guests {
            for window in &guest.windows {
                windows.add_row([
                    guest.name.clone(),
                    format!("{:#010x}", window.address),
                    format!("{} ({})", window.region, window.region_id),
                    format!("{:#x}", window.offset),
                    bytes(window.length),
                    window.access.clone(),
                    window.count.to_string(),
                ]);
            }
            let listed = guest.windows.iter().map(|window| window.count).sum();
            if let Some(more @ 1..) = guest.windows_total.checked_sub(listed) {
                windows.add_row([guest.name.clone(), format!("{more} more")]);
            }
        }
        section("Windows", windows);
    }

    let had = |guest: &GuestReport| !guest.regions.is_empty() || guest.regions_released_total > 0;
    if report.guests.iter().any(had) {
        let mut regions = table(
            fancy,
            &[
                "guest",
                "region",
                "size",
                "resident",
                "pinned",
                "purgeable",
                "purged",
                "holders",
                "pss",
                "claims",
            ],
        );
        right(&mut regions, 2..9);
        for guest in &report.guests {
            let held = guest.regions.iter().map(|region| (region, "held"));
            let released = guest
                .regions_released
                .iter()
                .map(|region| (region, "released"));
            for (region, claims) in held.chain(released) {
                regions.add_row([
                    guest.name.clone(),
                    format!("{} ({})", region.name, region.id),
                    bytes(region.size),
                    bytes(region.resident),
                    bytes(region.pinned),
                    bytes(region.purgeable),
                    bytes(region.purged),
                    region.holders.to_string(),
                    bytes(region.pss),
                    claims.to_owned(),
                ]);
            }
            let listed = guest.regions_released.len() as u64;
            if let Some(more @ 1..) = guest.regions_released_total.checked_sub(listed) {
                regions.add_row([guest.name.clone(), format!("{more} more, released")]);
            }
        }
        section(
            "Regions, as guests had them when they ended or dropped them, or as they are if moved",
            regions,
        );
    }

    if !report.calls.is_empty() {
        let mut calls = table(
            fancy,
            &["caller", "callee", "function", "calls", "total", "median"],
        );
        right(&mut calls, 3..6);
        for call in &report.calls {
            calls.add_row([
                call.caller.clone(),
                call.callee.clone(),
                call.function.clone(),
                call.count.to_string(),
                time(call.total),
                time(call.median),
            ]);
        }
        section("Calls between guests", calls);
    }

    if !report.channels.is_empty() {
        let mut channels = table(
            fancy,
            &["channel", "sent", "received", "dropped", "bytes", "regions"],
        );
        right(&mut channels, 1..6);
        for channel in &report.channels {
            channels.add_row([
                channel.name.clone(),
                channel.sent.to_string(),
                channel.received.to_string(),
                channel.dropped.to_string(),
                bytes(channel.bytes),
                channel.regions.to_string(),
            ]);
        }
        section("Channels", channels);
    }

    if !report.kills.is_empty() {
        let mut kills = table(fancy, &["guest", "score", "freed", "reason"]);
        right(&mut kills, 1..3);
        for kill in &report.kills {
            kills.add_row([
                kill.guest.clone(),
                kill.score.to_string(),
                bytes(kill.bytes),
                match kill.dry_run {
                    true => format!("{} (only counted)", kill.reason),
                    false => kill.reason.clone(),
                },
            ]);
        }
        section("Ended for want of memory", kills);
    }

    let mut bytes_table = table(fancy, &["regions and bytes", ""]);
    right(&mut bytes_table, [1]);
    for (what, value) in [
        ("regions created", report.regions_created.to_string()),
        ("regions freed", report.regions_freed.to_string()),
        ("budget", bytes(report.budget.budget)),
        ("committed at most", bytes(report.budget.committed_peak)),
        ("purges", report.budget.purges.to_string()),
        ("purged", bytes(report.budget.purged)),
        ("shared by windows", bytes(report.bytes_shared)),
        (
            "copied by the host for regions",
            bytes(report.bytes_copied_regions),
        ),
        (
            "copied by the host as call values",
            bytes(report.bytes_copied_calls),
        ),
    ] {
        bytes_table.add_row([what.to_owned(), value]);
    }
    section("Totals", bytes_table);
    text
}

/// A table whose cells may have text that somebody else chose.
pub(super) struct Table(comfy_table::Table);

impl Table {
    /// Adds a row, whose cells are escaped: each is one line.
    pub(super) fn add_row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells = cells.into_iter();
        self.0
            .add_row(cells.map(|cell| escape(cell.as_ref()).to_string()));
    }

    /// Returns the table as text.
    pub(super) fn trim_fmt(&self) -> String {
        self.0.trim_fmt()
    }
}

pub(super) fn table(fancy: bool, header: &[&str]) -> Table {
    let mut table = comfy_table::Table::new();
    table.use_stderr();
    if fancy {
        table
            .load_style(presets::UTF8_HORIZONTAL_ONLY)
            .set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.load_style(presets::NOTHING);
    }
    table.set_header(header);
    Table(table)
}

/// Aligns columns to the right.
fn right(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for column in columns {
        if let Some(column) = table.0.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// A size for people; exact where it is small.
fn bytes(size: u64) -> String {
    ByteSize::b(size).display().iec().to_string()
}

/// A time for people, of four digits or so.
fn time(time: Duration) -> String {
    format!("{time:.1?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombolo_app::{CallReport, KillReport, WindowReport};

    fn kill(guest: &str, score: u16, dry_run: bool) -> KillReport {
        {
            let mut it = KillReport::default();
            it.guest = guest.to_owned();
            it.score = score;
            it.reason = "memory is short".to_owned();
            it.bytes = 2 << 20;
            it.dry_run = dry_run;
            it
        }
    }

    fn report() -> Report {
        {
            let mut it = Report::default();
            it.kills_total = 0;
            it.channels = Vec::new();
            it.guests = vec![
                {
                    let mut it = GuestReport::default();
                    it.name = "player".to_owned();
                    it.end = "exit code 0".to_owned();
                    it.windows = vec![{
                        let mut it = WindowReport::default();
                        it.address = 0x12_0000;
                        it.region = "music".to_owned();
                        it.region_id = 7;
                        it.offset = 0;
                        it.length = 10_584_064;
                        it.access = "write".to_owned();
                        it.count = 1;
                        it
                    }];
                    it.windows_total = 3;
                    it.regions = vec![{
                        let mut it = tombolo::RegionUsage::default();
                        it.id = 7;
                        it.name = "music".to_owned();
                        it.size = 10_584_000;
                        it.resident = 10_584_064;
                        it.pinned = 65_536;
                        it.purgeable = 131_072;
                        it.purged = 196_608;
                        it.holders = 2;
                        it.pss = 5_292_032;
                        it
                    }];
                    it.regions_released = vec![{
                        let mut it = tombolo::RegionUsage::default();
                        it.id = 8;
                        it.name = "gone".to_owned();
                        it.size = 65_536;
                        it.holders = 1;
                        it
                    }];
                    it.regions_released_total = 3;
                    it.regions_created = 1;
                    it.regions_freed = 1;
                    it.restarts = Vec::new();
                    it.restarts_total = 0;
                    it.growths_refused = 0;
                    it
                },
                {
                    let mut it = GuestReport::default();
                    it.name = "audioserver".to_owned();
                    it.end = "served".to_owned();
                    it
                },
            ];
            it.regions_created = 2;
            it.regions_freed = 2;
            it.bytes_shared = 10_584_064;
            it.bytes_copied_regions = 0;
            it.bytes_copied_calls = 48;
            it.calls = vec![{
                let mut it = CallReport::default();
                it.caller = "player".to_owned();
                it.callee = "audioserver".to_owned();
                it.function = "demo:music/server.play".to_owned();
                it.count = 12;
                it.total = Duration::from_micros(120_345);
                it.median = Duration::from_nanos(1_660);
                it
            }];
            it.kills = vec![kill("player", 900, false), kill("audioserver", 500, true)];
            it.budget = tombolo::BudgetUsage::default();
            it
        }
    }

    #[test]
    fn plain_report_is_plain_text() {
        let text = render(&report(), false);
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "",
                "Guests",
                "guest end regions created freed windows",
                "player exit code 0 1 1 3",
                "audioserver served 0 0 0",
                "",
                "Windows",
                "guest address region offset length access times",
                "player 0x00120000 music (7) 0x0 10.1 MiB write 1",
                "player 2 more",
                "",
                "Regions, as guests had them when they ended or dropped them, or as they are if moved",
                "guest region size resident pinned purgeable purged holders pss claims",
                "player music (7) 10.1 MiB 10.1 MiB 64.0 KiB 128.0 KiB 192.0 KiB 2 5.0 MiB held",
                "player gone (8) 64.0 KiB 0 B 0 B 0 B 0 B 1 0 B released",
                "player 2 more, released",
                "",
                "Calls between guests",
                "caller callee function calls total median",
                "player audioserver demo:music/server.play 12 120.3ms 1.7µs",
                "",
                "Ended for want of memory",
                "guest score freed reason",
                "player 900 2.0 MiB memory is short",
                "audioserver 500 2.0 MiB memory is short (only counted)",
                "",
                "Totals",
                "regions and bytes",
                "regions created 2",
                "regions freed 2",
                "budget 0 B",
                "committed at most 0 B",
                "purges 0",
                "purged 0 B",
                "shared by windows 10.1 MiB",
                "copied by the host for regions 0 B",
                "copied by the host as call values 48 B",
            ]
        );
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn names_from_guests_cannot_steer_the_terminal() {
        let mut report = report();
        report.guests[0].windows[0].region = "a\x1b[2Jb\n\u{9b}ü".to_owned();
        report.guests[1].name = "b\n\u{202e}".to_owned();
        report.calls[0].function = "url=<\x1b[31m>.play".to_owned();
        let text = render(&report, false);
        for shown in [
            r"a\u{1b}[2Jb\n\u{9b}ü (7)",
            r"b\n\u{202e}",
            r"url=<\u{1b}[31m>.play",
        ] {
            assert!(text.contains(shown), "{text}");
        }
    }

    #[test]
    fn fancy_report_has_lines() {
        assert!(render(&report(), true).contains('─'));
    }

    #[test]
    fn report_of_nothing_has_no_empty_tables() {
        let text = render(&Report::default(), false);
        assert!(!text.contains("Windows"));
        assert!(!text.contains("Calls"));
        assert!(!text.contains("Ended"));
    }
}
