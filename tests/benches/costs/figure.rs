//! The figure in the README: the time to hand over a buffer, by size.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::measure::show;
use crate::table::{Table, bytes};

/// The figure without its lines.
const TEMPLATE: &str = include_str!("handover-time.svg");

/// The lines: the class of each in the template, its row, and its label.
const LINES: [(&str, &str, &[&str]); 5] = [
    ("file", "a file on tmpfs", &["file on tmpfs"]),
    (
        "list",
        "`list<u8>` in a call",
        &["list&lt;u8&gt; in a call"],
    ),
    (
        "comp",
        "`list<u8>` in one composed component",
        &["list&lt;u8&gt; inside one", "composed component"],
    ),
    (
        "anew",
        "lend and remap, every page touched",
        &["region, remapped,", "every page touched"],
    ),
    (
        "kept",
        "lend, windows kept",
        &["region, windows", "stay mapped"],
    ),
];

/// The distance of two lines of text.
const LEADING: f64 = 17.0;

/// Draws the figure, if the table has all sizes.
pub fn draw(table: &Table, sizes: &[u64], folder: &Path) -> std::io::Result<()> {
    if sizes.last() != Some(&(1 << 30)) {
        return Ok(());
    }
    let (mut lines, mut said) = (String::new(), String::from("Both axes are logarithmic."));
    let mut labels = Vec::new();
    for (class, row, label) in LINES {
        let times = sizes.iter().enumerate();
        let times = times.filter_map(|(at, size)| Some((*size, table.median(row, at)?)));
        let times: Vec<(u64, f64)> = times.collect();
        let points: Vec<(f64, f64)> = times
            .iter()
            .map(|(size, time)| place(*size, *time))
            .collect();
        let [.., (x, y)] = points[..] else { continue };
        let [first, .., last] = times[..] else {
            continue;
        };
        let _ = write!(
            said,
            " {}: {} at {} and {} at {}.",
            row.replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('`', ""),
            show(first.1),
            bytes(first.0),
            show(last.1),
            bytes(last.0)
        );
        let corners: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let corners = corners.join(" ");
        let _ = writeln!(
            lines,
            r#"  <polyline class="line {class}" points="{corners}"/>"#
        );
        for (x, y) in &points {
            let _ = writeln!(
                lines,
                r#"  <circle class="dot {class}" cx="{x:.1}" cy="{y:.1}" r="3"/>"#
            );
        }
        if last.0 == 1 << 30 {
            labels.push((y + 4.5, class, label));
        } else {
            let (x, y) = (x - 2.0, y - 14.0);
            let _ = writeln!(
                lines,
                r#"  <text class="label {class}t end" x="{x:.1}" y="{y:.1}">{}</text>"#,
                label[0]
            );
        }
    }
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = 0.0_f64;
    for (y, class, label) in labels {
        // Above the sizes.
        let lowest = 390.0 - LEADING * (label.len() - 1) as f64;
        let mut y = y.max(free).min(lowest);
        for text in label {
            let _ = writeln!(
                lines,
                r#"  <text class="label {class}t" x="570" y="{y:.1}">{text}</text>"#
            );
            y += LEADING;
        }
        free = y + 4.0;
    }
    let figure = TEMPLATE
        .replace("@DESCRIPTION@", &said)
        .replace("@LINES@", &lines);
    fs::write(folder.join("handover-time.svg"), figure)
}

/// Returns the place of a point: from 4 KiB and 1 us at the lower left to 1 GiB and 1 s.
fn place(size: u64, time: f64) -> (f64, f64) {
    let x = 86.0 + 474.0 * (size as f64 / 4096.0).log2() / 18.0;
    (x, 392.0 - 55.233 * (time / 1000.0).log10())
}
