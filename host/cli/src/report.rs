//! The report of `run --report`: tables of an app's run.

use std::time::Duration;

use bytesize::ByteSize;
use comfy_table::{CellAlignment, ContentArrangement, presets};

use tombolo::RegionUsage;
use tombolo_app::{GuestReport, Report};
use tombolo_region::escape;

/// Renders a report. If `fancy`, tables have rules and fit the terminal.
pub(super) fn render(report: &Report, fancy: bool) -> String {
    let mut sections = Sections {
        fancy,
        text: String::new(),
    };
    sections.guests(&report.guests);
    sections.growths(&report.guests);
    sections.restarts(&report.guests);
    sections.windows(&report.guests);
    sections.regions(&report.guests);
    sections.calls(report);
    sections.channels(report);
    sections.kills(report);
    sections.totals(report);
    sections.text
}

/// The sections of a report as text. A section without rows is left out, except for the first
/// and the last.
struct Sections {
    fancy: bool,
    text: String,
}

impl Sections {
    /// Appends a section: a title and a table.
    fn add(&mut self, title: &str, table: &TextTable) {
        self.text += &format!("\n{title}\n{}\n", table.trim_fmt());
    }

    fn table(&self, header: &[&str], right: impl IntoIterator<Item = usize>) -> TextTable {
        let mut table = table(self.fancy, header);
        table.align_right(right);
        table
    }

    fn guests(&mut self, guests: &[GuestReport]) {
        let header = ["guest", "exit", "regions created", "freed", "windows"];
        let mut table = self.table(&header, 2..5);
        for guest in guests {
            table.add_row([
                guest.name.clone(),
                guest.end.to_string(),
                guest.regions_created.to_string(),
                guest.regions_freed.to_string(),
                guest.windows_total.to_string(),
            ]);
        }
        self.add("Guests", &table);
    }

    fn growths(&mut self, guests: &[GuestReport]) {
        let mut table = self.table(&["guest", "refused growths"], [1]);
        for guest in guests.iter().filter(|guest| guest.growths_refused > 0) {
            table.add_row([guest.name.clone(), guest.growths_refused.to_string()]);
        }
        self.add_unless_empty("Memory growths refused for lack of host memory", &table);
    }

    fn restarts(&mut self, guests: &[GuestReport]) {
        let mut table = self.table(&["guest", "failure", "lived", "delay"], 2..4);
        for guest in guests {
            for restart in &guest.restarts {
                table.add_row([
                    guest.name.clone(),
                    restart.failure.clone(),
                    time(restart.lived),
                    time(restart.delay),
                ]);
            }
            table.add_rest(guest, guest.restarts_total, guest.restarts.len() as u64, "");
        }
        self.add_unless_empty("Restarts", &table);
    }

    fn windows(&mut self, guests: &[GuestReport]) {
        let header = [
            "guest", "address", "region", "offset", "length", "access", "times",
        ];
        let mut table = self.table(&header, [1, 3, 4, 6]);
        for guest in guests {
            for window in &guest.windows {
                table.add_row([
                    guest.name.clone(),
                    format!("{:#010x}", window.address),
                    format!("{} ({})", window.region, window.region_id),
                    format!("{:#x}", window.offset),
                    bytes(window.length),
                    window.access.to_string(),
                    window.count.to_string(),
                ]);
            }
            let listed = guest.windows.iter().map(|window| window.count).sum();
            table.add_rest(guest, guest.windows_total, listed, "");
        }
        self.add_unless_empty("Windows", &table);
    }

    fn regions(&mut self, guests: &[GuestReport]) {
        let header = [
            "guest",
            "region",
            "size",
            "resident",
            "pinned",
            "purgeable",
            "purged",
            "holders",
            "PSS",
            "claim",
        ];
        let mut table = self.table(&header, 2..9);
        for guest in guests {
            let mut add = |region: &RegionUsage, claim: &str| {
                table.add_row([
                    guest.name.clone(),
                    format!("{} ({})", region.name, region.id),
                    bytes(region.size),
                    bytes(region.resident),
                    bytes(region.pinned),
                    bytes(region.purgeable),
                    bytes(region.purged),
                    region.holders.to_string(),
                    bytes(region.pss),
                    claim.to_owned(),
                ]);
            };
            guest.regions.iter().for_each(|region| add(region, "held"));
            let released = &guest.regions_released;
            released.iter().for_each(|region| add(region, "released"));
            let total = guest.regions_released_total;
            table.add_rest(guest, total, released.len() as u64, ", released");
        }
        self.add_unless_empty(
            "Regions when the guest exited or released them; moved ones as they are now",
            &table,
        );
    }

    fn calls(&mut self, report: &Report) {
        let header = ["caller", "callee", "function", "calls", "total", "median"];
        let mut table = self.table(&header, 3..6);
        for call in &report.calls {
            table.add_row([
                call.caller.clone(),
                call.callee.clone(),
                call.function.clone(),
                call.count.to_string(),
                time(call.total),
                time(call.median),
            ]);
        }
        self.add_unless_empty("Calls between guests", &table);
    }

    fn channels(&mut self, report: &Report) {
        let header = ["channel", "sent", "received", "dropped", "bytes", "regions"];
        let mut table = self.table(&header, 1..6);
        for channel in &report.channels {
            table.add_row([
                channel.name.clone(),
                channel.sent.to_string(),
                channel.received.to_string(),
                channel.dropped.to_string(),
                bytes(channel.bytes),
                channel.regions.to_string(),
            ]);
        }
        self.add_unless_empty("Channels", &table);
    }

    fn kills(&mut self, report: &Report) {
        let mut table = self.table(&["guest", "score", "freed", "reason"], 1..3);
        for kill in &report.kills {
            table.add_row([
                kill.guest.clone(),
                kill.score.to_string(),
                bytes(kill.bytes),
                match kill.dry_run {
                    true => format!("{} (dry run)", kill.reason),
                    false => kill.reason.clone(),
                },
            ]);
        }
        self.add_unless_empty("Terminated for memory", &table);
    }

    fn totals(&mut self, report: &Report) {
        let budget = &report.budget;
        let mut table = self.table(&["regions and bytes", ""], [1]);
        for (name, value) in [
            ("regions created", report.regions_created.to_string()),
            ("regions freed", report.regions_freed.to_string()),
            ("budget", bytes(budget.budget)),
            ("peak commit", bytes(budget.committed_peak)),
            ("purges", budget.purges.to_string()),
            ("purged", bytes(budget.purged)),
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
            table.add_row([name.to_owned(), value]);
        }
        self.add("Totals", &table);
    }

    fn add_unless_empty(&mut self, title: &str, table: &TextTable) {
        if !table.is_empty() {
            self.add(title, table);
        }
    }
}

/// A table whose cells may contain foreign text.
pub(super) struct TextTable(comfy_table::Table);

impl TextTable {
    /// Adds a row. Each cell is escaped, line breaks included.
    pub(super) fn add_row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells = cells.into_iter();
        self.0
            .add_row(cells.map(|cell| escape(cell.as_ref()).to_string()));
    }

    /// Adds a row with the number of entries of a guest that are not listed, if there are any.
    fn add_rest(&mut self, guest: &GuestReport, total: u64, listed: u64, suffix: &str) {
        if let Some(rest @ 1..) = total.checked_sub(listed) {
            self.add_row([guest.name.clone(), format!("{rest} more{suffix}")]);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.row_count() == 0
    }

    fn align_right(&mut self, columns: impl IntoIterator<Item = usize>) {
        for column in columns {
            if let Some(column) = self.0.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }

    /// Returns the table as text.
    pub(super) fn trim_fmt(&self) -> String {
        self.0.trim_fmt()
    }
}

/// Returns an empty table. If `fancy`, it has rules and fits the terminal.
pub(super) fn table(fancy: bool, header: &[&str]) -> TextTable {
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
    TextTable(table)
}

/// Formats a size with a binary unit, as in `10.1 MiB`.
fn bytes(size: u64) -> String {
    ByteSize::b(size).display().iec().to_string()
}

/// Formats a time with one decimal, as in `120.3ms`.
fn time(time: Duration) -> String {
    format!("{time:.1?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombolo_app::{CallReport, GuestEnd, KillReport, WindowAccess, WindowReport};

    fn kill(guest: &str, score: u16, dry_run: bool) -> KillReport {
        let mut kill = KillReport::default();
        kill.guest = guest.to_owned();
        kill.score = score;
        kill.reason = "memory is short".to_owned();
        kill.bytes = 2 << 20;
        kill.dry_run = dry_run;
        kill
    }

    fn player() -> GuestReport {
        let mut window = WindowReport::default();
        window.address = 0x12_0000;
        window.region = "music".to_owned();
        window.region_id = 7;
        window.length = 10_584_064;
        window.access = WindowAccess::Write;
        window.count = 1;
        let mut held = RegionUsage::default();
        held.id = 7.into();
        held.name = "music".to_owned();
        held.size = 10_584_000;
        held.resident = 10_584_064;
        held.pinned = 65_536;
        held.purgeable = 131_072;
        held.purged = 196_608;
        held.holders = 2;
        held.pss = 5_292_032;
        let mut released = RegionUsage::default();
        released.id = 8.into();
        released.name = "scratch".to_owned();
        released.size = 65_536;
        released.holders = 1;
        let mut guest = GuestReport::default();
        guest.name = "player".to_owned();
        guest.end = GuestEnd::Exit(0);
        guest.windows = vec![window];
        guest.windows_total = 3;
        guest.regions = vec![held];
        guest.regions_released = vec![released];
        guest.regions_released_total = 3;
        guest.regions_created = 1;
        guest.regions_freed = 1;
        guest
    }

    fn report() -> Report {
        let mut server = GuestReport::default();
        server.name = "audioserver".to_owned();
        server.end = GuestEnd::Served;
        let mut call = CallReport::default();
        call.caller = "player".to_owned();
        call.callee = "audioserver".to_owned();
        call.function = "demo:music/server.play".to_owned();
        call.count = 12;
        call.total = Duration::from_micros(120_345);
        call.median = Duration::from_nanos(1_660);
        let mut report = Report::default();
        report.guests = vec![player(), server];
        report.regions_created = 2;
        report.regions_freed = 2;
        report.bytes_shared = 10_584_064;
        report.bytes_copied_calls = 48;
        report.calls = vec![call];
        report.kills = vec![kill("player", 900, false), kill("audioserver", 500, true)];
        report
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
                "guest exit regions created freed windows",
                "player exit 0 1 1 3",
                "audioserver served 0 0 0",
                "",
                "Windows",
                "guest address region offset length access times",
                "player 0x00120000 music (7) 0x0 10.1 MiB write 1",
                "player 2 more",
                "",
                "Regions when the guest exited or released them; moved ones as they are now",
                "guest region size resident pinned purgeable purged holders PSS claim",
                "player music (7) 10.1 MiB 10.1 MiB 64.0 KiB 128.0 KiB 192.0 KiB 2 5.0 MiB held",
                "player scratch (8) 64.0 KiB 0 B 0 B 0 B 0 B 1 0 B released",
                "player 2 more, released",
                "",
                "Calls between guests",
                "caller callee function calls total median",
                "player audioserver demo:music/server.play 12 120.3ms 1.7µs",
                "",
                "Terminated for memory",
                "guest score freed reason",
                "player 900 2.0 MiB memory is short",
                "audioserver 500 2.0 MiB memory is short (dry run)",
                "",
                "Totals",
                "regions and bytes",
                "regions created 2",
                "regions freed 2",
                "budget 0 B",
                "peak commit 0 B",
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
    fn foreign_text_is_escaped() {
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
    fn fancy_report_has_rules() {
        assert!(render(&report(), true).contains('─'));
    }

    #[test]
    fn empty_sections_are_left_out() {
        let text = render(&Report::default(), false);
        assert!(!text.contains("Windows"));
        assert!(!text.contains("Calls"));
        assert!(!text.contains("Terminated"));
    }
}
