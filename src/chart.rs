//! Curves as pictures: panels of lines, as SVG or as PNG.
//!
//! What is drawn is given; nothing is read here. A panel without a line is left out by the caller.

use std::{ops::Range, sync::Once};

use plotters::{
    coord::{
        Shift,
        ranged1d::{DefaultFormatting, KeyPointHint},
    },
    prelude::*,
    style::{FontStyle, register_font},
};
use sr3_engine::image::{self, Channels, Metadata, OutputFormat, Picture, Samples};

/// Pixels of a panel.
const PANEL: (u32, u32) = (720, 420);
const COLUMNS: usize = 2;
/// Marks of an axis.
const MARKS_MAX: usize = 12;
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 87, 39),
    RGBColor(44, 140, 80),
    RGBColor(140, 86, 175),
    RGBColor(120, 120, 120),
    RGBColor(188, 150, 30),
];

/// Lines that share their axes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// What the lines run over.
    pub(crate) across: &'static str,
    /// Whether each step up the axis multiplies. Only values above 0 are drawn then.
    pub(crate) logarithmic: bool,
    pub(crate) lines: Vec<Line>,
}

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// Which colour; lines of one thing share it.
    pub(crate) colour: usize,
    pub(crate) style: Style,
    pub(crate) points: Vec<(f64, f64)>,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    /// What lies behind another line, and has no name of its own.
    Faint,
    /// Few points, which are shown.
    Marked,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
#[error("the curve cannot be drawn: {0}")]
pub(crate) struct ChartError(String);

fn because(error: impl std::fmt::Display) -> ChartError {
    ChartError(error.to_string())
}

/// The panels as SVG.
pub(crate) fn svg(panels: &[Panel]) -> Result<String, ChartError> {
    let mut text = String::new();
    draw(SVGBackend::with_string(&mut text, size(panels)), panels)?;
    Ok(text)
}

/// The panels as PNG.
pub(crate) fn png(panels: &[Panel]) -> Result<Vec<u8>, ChartError> {
    let (width, height) = size(panels);
    let mut pixels = vec![0; (width * height * 3) as usize];
    draw(BitMapBackend::with_buffer(&mut pixels, (width, height)), panels)?;
    let picture = Picture {
        width: width as usize,
        height: height as usize,
        channels: Channels::Rgb,
        samples: Samples::U8(pixels),
        metadata: Metadata::default(),
    };
    image::encode(&picture, OutputFormat::Png, 100).map(|encoded| encoded.bytes).map_err(because)
}

fn size(panels: &[Panel]) -> (u32, u32) {
    let (columns, rows) = layout(panels.len());
    (PANEL.0 * columns as u32, PANEL.1 * rows as u32)
}

fn layout(panels: usize) -> (usize, usize) {
    let columns = panels.clamp(1, COLUMNS);
    (columns, panels.div_ceil(columns).max(1))
}

fn draw<B: DrawingBackend>(backend: B, panels: &[Panel]) -> Result<(), ChartError> {
    static FONT: Once = Once::new();
    FONT.call_once(|| {
        // Its bytes are a constant that has been read before.
        let _ = register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
    let area = backend.into_drawing_area();
    area.fill(&WHITE).map_err(because)?;
    let (columns, rows) = layout(panels.len());
    for (panel, area) in panels.iter().zip(area.split_evenly((rows, columns))) {
        draw_panel(&area, panel)?;
    }
    area.present().map_err(because)
}

fn draw_panel<B: DrawingBackend>(area: &DrawingArea<B, Shift>, panel: &Panel) -> Result<(), ChartError> {
    let height = |y: f64| if panel.logarithmic { y.log10() } else { y };
    let lines: Vec<(&Line, Vec<(f64, f64)>)> = panel
        .lines
        .iter()
        .map(|line| {
            let points = line.points.iter().map(|(x, y)| (*x, height(*y)));
            (line, points.filter(|(x, y)| x.is_finite() && y.is_finite()).collect())
        })
        .collect();
    let points = || lines.iter().flat_map(|(_, points)| points);
    let [x, y] = [range(points().map(|p| p.0), 0.0), range(points().map(|p| p.1), 0.05)];
    let marks = if panel.logarithmic { powers(&y) } else { multiples(&y) };
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(x, Axis { range: y, marks })
        .map_err(because)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .label_style(("sans-serif", 14))
        .x_labels(6)
        .y_labels(MARKS_MAX)
        .x_label_formatter(&|x| count(*x))
        .y_label_formatter(&|y| number(if panel.logarithmic { 10f64.powf(*y) } else { *y }))
        .x_desc(panel.across)
        .draw()
        .map_err(because)?;
    for (line, points) in &lines {
        let colour = COLOURS[line.colour % COLOURS.len()];
        let (strength, width) = if line.style == Style::Faint { (0.25, 1) } else { (1.0, 2) };
        let stroke = colour.mix(strength).stroke_width(width);
        let drawn = chart.draw_series(LineSeries::new(points.iter().copied(), stroke)).map_err(because)?;
        if !line.name.is_empty() {
            let key = move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2));
            drawn.label(&line.name).legend(key);
        }
        if line.style == Style::Marked {
            let dots = points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
            chart.draw_series(dots).map_err(because)?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .label_font(("sans-serif", 14))
        .draw()
        .map_err(because)
}

/// An axis with marks of our own choice.
struct Axis {
    range: Range<f64>,
    marks: Vec<f64>,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// Marks of a logarithmic axis, as few as still are some.
fn powers(range: &Range<f64>) -> Vec<f64> {
    const STEPS: [&[f64]; 4] = [&[1.0], &[1.0, 3.0], &[1.0, 2.0, 5.0], &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0]];
    let all = |steps: &[f64]| -> Vec<f64> {
        let decades = range.start.floor() as i32..=range.end.ceil() as i32;
        let each = decades.flat_map(|decade| steps.iter().map(move |step| f64::from(decade) + step.log10()));
        each.filter(|mark| range.contains(mark)).collect()
    };
    STEPS.iter().map(|steps| all(steps)).find(|marks| marks.len() >= 4).unwrap_or_else(|| multiples(range))
}

/// Marks of an even axis: multiples of a number that is easy to read.
fn multiples(range: &Range<f64>) -> Vec<f64> {
    let rough = (range.end - range.start) / 6.0;
    let decade = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|n| n * decade).into_iter().find(|step| *step >= rough).unwrap_or(rough);
    let (first, last) = ((range.start / step).ceil() as i64, (range.end / step).floor() as i64);
    (first..=last).take(MARKS_MAX).map(|n| n as f64 * step).collect()
}

/// From the least to the most, and some room.
fn range(values: impl Iterator<Item = f64>, room: f64) -> Range<f64> {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return 0.0..1.0;
    }
    let room = if high > low { (high - low) * room } else { high.abs().max(1e-9) * 0.5 };
    low - room..high + room
}

/// A count, short.
fn count(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{}M", number(value / 1e6)),
        v if v >= 1e3 => format!("{}k", number(value / 1e3)),
        _ => number(value),
    }
}

/// A number with three digits, and none that say nothing.
fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e5).contains(&size) {
        return format!("{value:.1e}");
    }
    let digits = (2.0 - size.max(1e-3).log10().floor()).clamp(0.0, 5.0) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(logarithmic: bool) -> Panel {
        let points: Vec<_> = (0..50).map(|i| (f64::from(i) * 1000.0, 1.0 / f64::from(i + 1))).collect();
        let line = |style, name: &str, points| Line { name: name.into(), colour: 0, style, points };
        let lines = vec![
            line(Style::Faint, "", points.clone()),
            line(Style::Plain, "loss of learning", points),
            line(Style::Marked, "held out", vec![(1000.0, 0.5), (49_000.0, f64::NAN)]),
        ];
        Panel { title: "loss".into(), across: "samples", logarithmic, lines }
    }

    #[test]
    fn a_picture_has_a_panel_a_curve_and_names_what_it_shows() {
        let text = svg(&[panel(true), panel(false), panel(false)]).unwrap();
        assert!(text.starts_with("<svg") && text.contains("width=\"1440\" height=\"840\""));
        assert_eq!(text.matches("loss of learning").count(), 3);
        assert!(text.contains("held out") && !text.contains("NaN"));
        let bytes = png(&[panel(true)]).unwrap();
        assert_eq!(bytes[..8], *b"\x89PNG\r\n\x1a\n");
    }

    #[test]
    fn what_has_no_extent_is_drawn_all_the_same() {
        let mut flat = panel(false);
        flat.lines.iter_mut().for_each(|line| line.points = vec![(5.0, 0.0)]);
        svg(&[flat, Panel::default()]).unwrap();
    }

    #[test]
    fn marks_are_easy_to_read() {
        let shown = |marks: Vec<f64>| marks.into_iter().map(number).collect::<Vec<_>>();
        assert_eq!(shown(multiples(&(0.0..1e-3))), ["0", "2.0e-4", "4.0e-4", "6.0e-4", "8.0e-4", "0.001"]);
        let powers = |low: f64, high: f64| {
            shown(powers(&(low.log10()..high.log10())).into_iter().map(|y| 10f64.powf(y)).collect())
        };
        assert_eq!(powers(0.05, 0.9), ["0.05", "0.1", "0.2", "0.5"]);
        assert_eq!(powers(0.13, 0.9), ["0.15", "0.2", "0.3", "0.4", "0.5", "0.7"]);
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in
            [(0.0, "0"), (0.25, "0.25"), (1.5, "1.5"), (30.0, "30"), (1e-4, "1.0e-4"), (123.4, "123")]
        {
            assert_eq!(number(value), text);
        }
        assert_eq!((count(40_000.0), count(2.5e6)), ("40k".to_string(), "2.5M".to_string()));
    }
}
