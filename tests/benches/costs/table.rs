//! Rows by sizes, printed so that they can be put into a page as they are.

use std::fmt;

use comfy_table::{CellAlignment, presets};

use crate::measure::Times;

/// Times by row and column.
pub struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<(&'static str, Vec<Times>)>,
}

impl Table {
    /// A table with a column for each size in bytes.
    pub fn by_size(title: impl Into<String>, sizes: &[u64]) -> Table {
        Table {
            title: title.into(),
            columns: sizes.iter().map(|size| bytes(*size)).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds what was measured in one column, row by row, in the order of the rows.
    pub fn column<const N: usize>(&mut self, names: [&'static str; N], times: [Times; N]) {
        for (row, (name, times)) in names.into_iter().zip(times).enumerate() {
            if row == self.rows.len() {
                self.rows.push((name, Vec::new()));
            }
            self.rows[row].1.push(times);
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header([&self.title].into_iter().chain(&self.columns));
        for (name, cells) in &self.rows {
            let cells = cells.iter().map(Times::cell);
            table.add_row(std::iter::once((*name).to_owned()).chain(cells));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{table}")
    }
}

fn bytes(size: u64) -> String {
    match size {
        _ if size.is_multiple_of(1 << 20) => format!("{} MiB", size >> 20),
        _ => format!("{} KiB", size >> 10),
    }
}
