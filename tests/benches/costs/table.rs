//! Tables of times, printed as Markdown.

use std::fmt;

use comfy_table::{CellAlignment, presets};
use serde_json::{Value, json};

use crate::measure::Times;

/// Times by row and column.
pub struct Table {
    title: String,
    columns: Vec<String>,
    /// The bytes of each column, if columns are sizes.
    sizes: Option<Vec<u64>>,
    rows: Vec<(String, Vec<Times>)>,
}

impl Table {
    pub fn new(title: impl Into<String>, columns: impl IntoIterator<Item = String>) -> Table {
        Table {
            title: title.into(),
            columns: columns.into_iter().collect(),
            sizes: None,
            rows: Vec::new(),
        }
    }

    /// Creates a table with a column for each size in bytes.
    pub fn by_size(title: impl Into<String>, sizes: &[u64]) -> Table {
        Table {
            sizes: Some(sizes.to_vec()),
            ..Table::new(title, sizes.iter().map(|size| bytes(*size)))
        }
    }

    /// Adds a column of times, in the order of the rows.
    pub fn column<const N: usize>(&mut self, names: [&'static str; N], times: [Times; N]) {
        for (row, (name, times)) in names.into_iter().zip(times).enumerate() {
            if row == self.rows.len() {
                self.rows.push((name.to_owned(), Vec::new()));
            }
            self.rows[row].1.push(times);
        }
    }

    /// Returns the times in a cell. A row of a new name is added at the end.
    pub fn cell(&mut self, row: &str, column: usize) -> &mut Times {
        let at = match self.rows.iter().position(|(name, _)| name == row) {
            Some(at) => at,
            None => {
                let cells = vec![Times::default(); self.columns.len()];
                self.rows.push((row.to_owned(), cells));
                self.rows.len() - 1
            }
        };
        &mut self.rows[at].1[column]
    }

    /// Returns a cell that exists.
    pub fn times(&self, row: &str, column: usize) -> Option<&Times> {
        let (_, cells) = self.rows.iter().find(|(name, _)| name == row)?;
        cells.get(column)
    }

    /// Returns the median of a cell in nanoseconds.
    pub fn median(&self, row: &str, column: usize) -> Option<f64> {
        self.times(row, column)?.median()
    }

    /// Returns the time that nine of ten repeats of a row stayed within, if it was measured.
    pub fn ninth_decile(&self, row: &str, column: usize) -> Option<f64> {
        let (_, cells) = self.rows().find(|(name, _)| *name == row)?;
        cells.get(column)?.at(90)
    }

    pub fn title(&self) -> &str {
        &self.title
    }

    /// Returns the bytes of each column, if they are sizes and there are several.
    pub fn sizes(&self) -> Option<Vec<u64>> {
        self.sizes.clone().filter(|sizes| sizes.len() > 1)
    }

    pub fn rows(&self) -> impl Iterator<Item = (&str, &[Times])> {
        self.rows.iter().map(|(name, cells)| (&**name, &**cells))
    }

    /// Returns medians and spreads as JSON.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().flat_map(|(name, cells)| {
            let cells = self.columns.iter().zip(cells);
            cells.filter_map(move |(column, times)| {
                let median = times.median()?;
                let mut row = json!({
                    "row": name,
                    "column": column,
                    "repeats": times.count(),
                });
                for (name, value) in [
                    ("median", median),
                    ("p10", times.at(10).unwrap_or(0.0)),
                    ("p90", times.at(90).unwrap_or(0.0)),
                ] {
                    row[format!("{name}{}", times.unit().suffix())] = value.into();
                }
                Some(row)
            })
        });
        json!({ "title": self.title, "rows": rows.collect::<Vec<_>>() })
    }
}

/// Returns a Markdown table.
pub fn markdown<R: Into<comfy_table::Row>>(
    header: impl IntoIterator<Item = String>,
    rows: impl IntoIterator<Item = R>,
) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(header.into_iter().collect::<Vec<_>>());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = [&self.title].into_iter().chain(&self.columns).cloned();
        let rows = self.rows.iter().map(|(name, cells)| {
            let cells = cells.iter().map(Times::cell);
            std::iter::once(name.clone())
                .chain(cells)
                .collect::<Vec<_>>()
        });
        write!(f, "{}", markdown(header, rows))
    }
}

pub fn bytes(size: u64) -> String {
    match size {
        _ if size.is_multiple_of(1 << 30) => format!("{} GiB", size >> 30),
        _ if size.is_multiple_of(1 << 20) => format!("{} MiB", size >> 20),
        _ => format!("{} KiB", size >> 10),
    }
}
