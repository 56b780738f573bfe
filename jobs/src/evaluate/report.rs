//! The files of an evaluation: a line a picture as JSON, a line a picture and method as CSV, and the means.

use sr3_proto::Key;

use super::{
    Metric, Row, Summary,
    scores::{Means, NUMBERS},
};
use crate::models::Known;

/// A line of JSON a picture.
pub fn rows_key() -> Key {
    Key::literal("evaluation.jsonl")
}

/// A line a picture and method, under a line of names.
pub fn csv_key() -> Key {
    Key::literal("evaluation.csv")
}

/// The means, as JSON.
pub fn summary_key() -> Key {
    Key::literal("evaluation.json")
}

/// The three files, made of rows in order.
#[derive(Debug)]
pub struct Report {
    /// Of [`rows_key`].
    pub rows: Vec<u8>,
    /// Of [`csv_key`].
    pub csv: Vec<u8>,
    metrics: Vec<Metric>,
    means: Means,
}

impl Report {
    /// Of these numbers, which these networks were needed for.
    pub fn new(metrics: &[Metric], networks: &[Known]) -> Self {
        let asked = NUMBERS.iter().filter(|number| metrics.contains(&number.metric));
        let names: Vec<&str> = asked.map(|number| number.name).collect();
        let csv = format!("picture,method,width,height,{},reason\n", names.join(",")).into_bytes();
        let means = Means::new(metrics, networks);
        Self { rows: Vec::new(), csv, metrics: metrics.to_vec(), means }
    }

    /// Adds a row.
    pub fn add(&mut self, row: &Row) {
        // Its floats are finite or null: it always has a JSON form.
        if serde_json::to_writer(&mut self.rows, row).is_ok() {
            self.rows.push(b'\n');
        }
        let picture = quoted(&row.picture);
        let [width, height] =
            row.size.map_or([String::new(), String::new()], |size| size.map(|s| s.to_string()));
        for method in &row.methods {
            let numbers: Vec<String> = self.asked(&method.scores.numbers()).map(written).collect();
            let name = quoted(&method.method);
            let line = format!("{picture},{name},{width},{height},{},\n", numbers.join(","));
            self.csv.extend_from_slice(line.as_bytes());
        }
        if let Some(reason) = &row.reason {
            let empty = ",".repeat(self.asked(&NUMBERS).count() + 3);
            self.csv.extend_from_slice(format!("{picture}{empty},{}\n", quoted(reason)).as_bytes());
        }
        self.means.add(row);
    }

    /// Of something of each number, what was asked for.
    fn asked<'a, T: Copy>(&'a self, all: &'a [T; NUMBERS.len()]) -> impl Iterator<Item = T> + 'a {
        let asked = |metric| self.metrics.contains(&metric);
        NUMBERS.iter().zip(all).filter(move |(number, _)| asked(number.metric)).map(|(_, value)| *value)
    }

    /// The means.
    pub fn summary(self) -> Summary {
        self.means.summary()
    }
}

/// A number as CSV has it; nothing where there is nothing to say.
fn written(number: Option<f64>) -> String {
    number.map_or_else(String::new, |number| number.to_string())
}

/// A field as RFC 4180 has it.
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_string(),
    }
}

/// The rows in a file of [`rows_key`].
///
/// # Errors
/// A line is none.
pub fn read_rows(bytes: &[u8]) -> Result<Vec<Row>, serde_json::Error> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::Scores, *};
    use crate::evaluate::Method;

    #[test]
    fn rows_read_back_and_csv_has_as_many_fields_as_names() {
        let scores = Scores {
            psnr: Some(None),
            psnr_y: Some(Some(31.25)),
            mean_shift: Some([0.5, -0.5, 0.0]),
            spectrum: Some([Some(-6.5), Some(0.0), None, None]),
            ..Scores::default()
        };
        let good = Row {
            picture: "a,\"b\".png".into(),
            size: Some([4, 5]),
            methods: vec![Method { method: "result".into(), scores }],
            reason: None,
        };
        let bad = Row::set_aside("c.png", "cut short, sadly");
        let mut report = Report::new(&[Metric::Psnr, Metric::MeanShift, Metric::Spectrum], &[]);
        report.add(&good);
        report.add(&bad);
        assert_eq!(read_rows(&report.rows).unwrap(), [good, bad]);
        let csv = String::from_utf8(report.csv.clone()).unwrap();
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(lines[1], "\"a,\"\"b\"\".png\",result,4,5,inf,31.25,0.5,-0.5,0,-6.5,0,,,");
        assert_eq!(lines[2], "c.png,,,,,,,,,,,,,\"cut short, sadly\"");
        assert_eq!(lines[0].matches(',').count(), 13);
        assert_eq!(report.summary().set_aside, 1);
    }
}
