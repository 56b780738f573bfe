//! `sr3 plot RUN…`: the curve of a training run as a picture, or several runs in one.

use std::path::{Path, PathBuf};

use clap::Args;
use sr3_jobs::train::{Row, decode_curve, read_curve};
use sr3_proto::{Store, words::printable};

use super::{
    remote_args::{RemoteArgs, block_on},
    run_place::run_place,
};
use crate::{
    chart::{self, Line, Panel, Style},
    exit::{self, CommandError, Ending},
};

/// A curve is smoothed over such a share of its rows: half of what it shows comes from so many.
const SMOOTHED_OVER: f64 = 1.0 / 50.0;

/// Arguments of `sr3 plot`.
#[derive(Clone, Debug, Args)]
#[command(after_help = exit::REMOTE_HELP)]
pub struct PlotArgs {
    /// Training jobs of a cluster, by their numbers, or the destinations of runs: folders or URLs; or files of
    /// rows (.jsonl), as a run has them in `curve/`.
    #[arg(value_name = "JOB|PLACE", required = true)]
    pub of: Vec<String>,
    /// Where the picture goes; its ending says which kind it is: .png or .svg.
    #[arg(long, short, default_value = "curve.png")]
    pub out: PathBuf,
    /// Shared options.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Runs it.
pub fn run(arguments: &PlotArgs) -> Result<Ending, CommandError> {
    let out = &arguments.out;
    let is_png = match out.extension().and_then(|ending| ending.to_str()) {
        Some("png") => true,
        Some("svg") => false,
        _ => {
            let text =
                format!("`{}` ends neither in .png nor in .svg", printable(&out.display().to_string()));
            return Err(CommandError::usage(text));
        }
    };
    let runs = block_on(async {
        let mut runs = Vec::new();
        for of in &arguments.of {
            runs.push(read(of, &arguments.remote).await?);
        }
        Ok(runs)
    })?;
    let panels = panels(&runs);
    let bytes = match is_png {
        true => chart::png(&panels),
        false => chart::svg(&panels).map(String::into_bytes),
    };
    let bytes = bytes.map_err(|e| CommandError::failed(e.to_string()))?;
    let cannot = |e| {
        CommandError::failed(format!("`{}` cannot be written: {e}", printable(&out.display().to_string())))
    };
    std::fs::write(out, bytes).map_err(cannot)?;
    tell!("sr3: {} rows in `{}`", runs.iter().map(|(_, rows)| rows.len()).sum::<usize>(), out.display());
    Ok(Ending::Done)
}

/// The name and the rows of a run, or of a file of rows.
async fn read(of: &str, remote: &RemoteArgs) -> Result<(String, Vec<Row>), CommandError> {
    if let Some(name) = name(of).strip_suffix(".jsonl") {
        let cannot = |e| CommandError::failed(format!("`{}` cannot be read: {e}", printable(of)));
        let rows = decode_curve(&std::fs::read(of).map_err(cannot)?);
        let none = || CommandError::failed(format!("`{}` has no row of a curve", printable(of)));
        return if rows.is_empty() { Err(none()) } else { Ok((name.to_string(), rows)) };
    }
    let place = run_place(of, remote).await?;
    let rows = read_curve(&Store::at(&place.parse()?)?).await?;
    let none = || {
        let text = format!("`{}` has no curve yet: it comes with the first checkpoint", printable(&place));
        CommandError::failed(text)
    };
    if rows.is_empty() { Err(none()) } else { Ok((name(&place), rows)) }
}

/// What a run is called in the picture: the last part of its place.
fn name(place: &str) -> String {
    let last = Path::new(place.trim_end_matches('/')).file_name().and_then(|name| name.to_str());
    last.unwrap_or(place).to_string()
}

/// What is drawn of runs, each with its name.
pub(crate) fn panels(runs: &[(String, Vec<Row>)]) -> Vec<Panel> {
    let is_one = runs.len() == 1;
    let named = |run: &str, what: &str| match (is_one, what) {
        (true, _) => what.to_string(),
        (false, "") => run.to_string(),
        (false, _) => format!("{run}: {what}"),
    };
    // Of every run: what is told at each row, smoothed, and what validations say.
    let of_rows = |what: &str, of: &dyn Fn(&Row) -> Option<f64>| -> Vec<Line> {
        let each = runs.iter().enumerate().flat_map(|(colour, (run, rows))| {
            let points = points(rows, of);
            let faint = Line { name: String::new(), colour, style: Style::Faint, points: points.clone() };
            let plain =
                Line { name: named(run, what), colour, style: Style::Plain, points: smoothed(&points) };
            [faint, plain]
        });
        each.filter(|line| !line.points.is_empty()).collect()
    };
    let of_validations = |what: &str, first: usize, of: &dyn Fn(&Row) -> Option<f64>| -> Vec<Line> {
        let each = runs.iter().enumerate().map(|(number, (run, rows))| {
            let colour = if is_one { first } else { number };
            Line { name: named(run, what), colour, style: Style::Marked, points: points(rows, of) }
        });
        each.filter(|line| !line.points.is_empty()).collect()
    };
    let sampled = |row: &Row| row.validation.as_ref()?.samples.clone();
    let mut loss = of_rows("learning", &|row| Some(row.loss));
    loss.extend(of_validations("held out, averaged weights", 1, &|row| {
        Some(row.validation.as_ref()?.loss_averaged)
    }));
    let mut by_level = Vec::new();
    if let [(_, rows)] = runs {
        for (quarter, name) in ["noisiest quarter", "second", "third", "cleanest"].into_iter().enumerate() {
            let points = smoothed(&points(rows, &|row| row.loss_by_level[quarter]));
            by_level.push(Line { name: name.to_string(), colour: quarter, style: Style::Plain, points });
        }
    }
    let mut psnr = of_validations("made", 0, &|row| Some(sampled(row)?.psnr));
    if is_one {
        psnr.extend(of_validations("bicubic", 4, &|row| Some(sampled(row)?.psnr_bicubic)));
    }
    let all = [
        ("Loss", true, loss),
        ("Loss by noise level", true, by_level),
        ("PSNR of held-out pictures, dB", false, psnr),
        ("Length of the gradient", true, of_rows("before it is shortened", &|row| Some(row.gradient_norm))),
        (
            "Learning rate",
            false,
            of_rows("", &|row| Some(row.learning_rate))
                .into_iter()
                .filter(|l| l.style == Style::Plain)
                .collect(),
        ),
        ("Samples a second", false, of_rows("all members", &|row| Some(row.time.samples_per_second))),
    ];
    all.into_iter()
        .filter(|(_, _, lines)| lines.iter().any(|line| !line.points.is_empty()))
        .map(|(title, logarithmic, lines)| Panel {
            title: title.to_string(),
            across: "samples",
            logarithmic,
            lines,
        })
        .collect()
}

fn points(rows: &[Row], of: &dyn Fn(&Row) -> Option<f64>) -> Vec<(f64, f64)> {
    rows.iter().filter_map(|row| Some((row.samples as f64, of(row)?))).collect()
}

/// A moving average that is the mean of what there is while there is little.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let keep = 0.5f64.powf(1.0 / (points.len() as f64 * SMOOTHED_OVER).max(1.0));
    let (mut sum, mut weight) = (0.0, 0.0);
    let mut next = |(x, y): &(f64, f64)| {
        (sum, weight) = (sum * keep + y, weight * keep + 1.0);
        (*x, sum / weight)
    };
    points.iter().filter(|(_, y)| y.is_finite()).map(&mut next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_smoothed_begins_with_its_first_value_and_follows_slowly() {
        let points: Vec<_> = (0..500).map(|i| (f64::from(i), if i < 50 { 1.0 } else { 0.0 })).collect();
        let smooth = smoothed(&points);
        assert_eq!(smooth[0], (0.0, 1.0));
        assert!((smooth[49].1 - 1.0).abs() < 1e-12);
        // Ten rows after a fall, half of it.
        assert!((smooth[59].1 - 0.5).abs() < 0.02, "{}", smooth[59].1);
    }

    #[test]
    fn a_run_is_called_by_the_last_part_of_its_place() {
        assert_eq!((name("s3://bucket/runs/faces/"), name("runs/a")), ("faces".to_string(), "a".to_string()));
    }
}
