//! Plots of time, or of another figure, by size.

use std::path::Path;

use plotters::prelude::*;

use crate::measure::Times;
use crate::table::Table;

type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Draws a table with a column for each size: the figure by bytes, on logarithmic axes.
pub fn draw(table: &Table, sizes: &[u64], path: &Path) -> Drawn {
    let lines: Vec<(&str, Vec<(f64, f64)>)> = table
        .rows()
        .map(|(name, cells)| (name, line(sizes, cells)))
        .collect();
    let units = table.rows().flat_map(|(_, cells)| cells);
    let unit = units.map(Times::unit).next().unwrap_or_default();
    let points = lines.iter().flat_map(|(_, line)| line);
    let times = points.map(|(_, time)| *time);
    let (least, most) = times.fold((f64::MAX, 1.0), |(least, most): (f64, f64), time| {
        (least.min(time), most.max(time))
    });
    let root = SVGBackend::new(path, (1200, 700)).into_drawing_area();
    root.fill(&WHITE)?;
    let (first, last) = (sizes[0] as f64, sizes[sizes.len() - 1] as f64);
    let mut chart = ChartBuilder::on(&root)
        .caption(table.title(), ("sans-serif", 22))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d(
            (first..last).log_scale(),
            (least.min(most) / 2.0..most * 2.0).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("bytes")
        .y_desc(unit.words())
        .x_label_formatter(&|bytes| crate::table::bytes(*bytes as u64))
        .y_label_formatter(&|value| unit.show(*value))
        .draw()?;
    for (index, (name, line)) in lines.into_iter().enumerate() {
        let colour = Palette99::pick(index).stroke_width(2);
        chart
            .draw_series(LineSeries::new(line, colour))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}

fn line(sizes: &[u64], cells: &[Times]) -> Vec<(f64, f64)> {
    let cells = sizes.iter().zip(cells);
    cells
        .filter_map(|(size, times)| Some((*size as f64, times.median()?)))
        .collect()
}
