//! What a picture reaches, and what pictures reach on average. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use sr3_engine::metrics::OCTAVES;

use super::Metric;
use crate::models::Known;

/// How near a picture is to what it should be. What was not asked for is not there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// dB, over R, G and B, whole picture; null where both are the same, which no number of dB says.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "there")]
    pub psnr: Option<Option<f64>>,
    /// dB, luma, without a border as wide as the scale; null where both are the same.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "there")]
    pub psnr_y: Option<Option<f64>>,
    /// Over R, G and B, whole picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssim: Option<f64>,
    /// Luma, without that border.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssim_y: Option<f64>,
    /// Mean squared error in [0, 1] between the picture, reduced by the scale, and its input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<f64>,
    /// Mean of red, green and blue above that of what it should be, in steps of 255.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_shift: Option<[f64; 3]>,
    /// dB, power of luma over that of what it should be, of waves of 2 to 4 pixels, of 4 to 8, 8 to 16 and 16 to 32; null where
    /// there should be none, or where the picture is too small for such waves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spectrum: Option<[Option<f64>; OCTAVES]>,
    /// ST-LPIPS, from 0 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub st_lpips: Option<f64>,
    /// 1 where the class of the picture's folder is the one that is told first, 0 elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_1: Option<f64>,
    /// 1 where it is among the first five.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_5: Option<f64>,
}

/// Null is something that was measured.
fn there<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<f64>>, D::Error> {
    Option::<f64>::deserialize(value).map(Some)
}

/// A number of a picture: how it is called, and how it is written for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// In files.
    pub name: &'static str,
    /// Above columns.
    pub title: &'static str,
    /// What it is one of.
    pub metric: Metric,
    form: Form,
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Digits(usize),
    Signed,
    Scientific,
}

/// All numbers, in the order of columns.
pub const NUMBERS: [Number; 15] = [
    number("psnr", "PSNR", Metric::Psnr, Form::Digits(3)),
    number("psnr_y", "PSNR-Y", Metric::Psnr, Form::Digits(3)),
    number("ssim", "SSIM", Metric::Ssim, Form::Digits(4)),
    number("ssim_y", "SSIM-Y", Metric::Ssim, Form::Digits(4)),
    number("consistency", "consistency", Metric::Consistency, Form::Scientific),
    number("mean_shift_r", "shift R", Metric::MeanShift, Form::Signed),
    number("mean_shift_g", "shift G", Metric::MeanShift, Form::Signed),
    number("mean_shift_b", "shift B", Metric::MeanShift, Form::Signed),
    number("spectrum_2_4", "2-4 px", Metric::Spectrum, Form::Signed),
    number("spectrum_4_8", "4-8 px", Metric::Spectrum, Form::Signed),
    number("spectrum_8_16", "8-16 px", Metric::Spectrum, Form::Signed),
    number("spectrum_16_32", "16-32 px", Metric::Spectrum, Form::Signed),
    number("st_lpips", "ST-LPIPS", Metric::StLpips, Form::Digits(4)),
    number("top_1", "top-1", Metric::Accuracy, Form::Digits(3)),
    number("top_5", "top-5", Metric::Accuracy, Form::Digits(3)),
];

const fn number(name: &'static str, title: &'static str, metric: Metric, form: Form) -> Number {
    Number { name, title, metric, form }
}

impl Number {
    /// A value as people read it.
    pub fn write(&self, value: Option<f64>) -> String {
        match (value, self.form) {
            (None, _) => "–".to_string(),
            (Some(value), _) if value.is_infinite() => "∞".to_string(),
            (Some(value), Form::Digits(digits)) => format!("{value:.digits$}"),
            (Some(value), Form::Signed) => format!("{value:+.2}"),
            (Some(value), Form::Scientific) => format!("{value:.2e}"),
        }
    }

    /// Half the width of an interval, which has no sign.
    pub fn write_half(&self, value: Option<f64>) -> String {
        self.write(value).trim_start_matches('+').to_string()
    }
}

/// What one method reaches on a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// Its name: a model's, `bicubic`, or `result` for pictures that were there.
    pub method: String,
    /// What it reaches.
    pub scores: Scores,
}

/// A picture, measured or set aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its path.
    pub picture: String,
    /// Width and height of what is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[u32; 2]>,
    /// One entry a method; empty for one that was set aside.
    pub methods: Vec<Method>,
    /// Why it was set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Row {
    /// A picture that was set aside.
    pub fn set_aside(picture: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { picture: picture.into(), size: None, methods: Vec::new(), reason: Some(reason.into()) }
    }
}

/// A mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistic {
    /// Over so many pictures.
    pub count: u64,
    /// The mean; none of no pictures.
    pub mean: Option<f64>,
    /// Half the width of its 95 % confidence interval, by Student's t; none of fewer than two pictures.
    pub ci95: Option<f64>,
}

/// A network that looked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looker {
    /// Its name.
    pub network: String,
    /// sha256 of its weights.
    pub weights: String,
}

/// Means of all pictures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Pictures that were measured.
    pub pictures: u64,
    /// Those that were set aside.
    pub set_aside: u64,
    /// By method, and by name of the number. Names sort as the methods came.
    pub methods: Vec<(String, BTreeMap<String, Statistic>)>,
    /// The networks that some of the numbers come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Looker>,
}

impl Scores {
    /// In the order of [`NUMBERS`]; infinite for dB of what is the same, none for what there is nothing to say of.
    pub fn numbers(&self) -> [Option<f64>; NUMBERS.len()] {
        let decibel = |psnr: Option<Option<f64>>| psnr.map(|psnr| psnr.unwrap_or(f64::INFINITY));
        let [r, g, b] = self.mean_shift.map_or([None; 3], |shift| shift.map(Some));
        let [first, second, third, fourth] = self.spectrum.unwrap_or_default();
        let (psnr, psnr_y) = (decibel(self.psnr), decibel(self.psnr_y));
        let Self { ssim, ssim_y, consistency, st_lpips, top_1, top_5, .. } = *self;
        [
            psnr,
            psnr_y,
            ssim,
            ssim_y,
            consistency,
            r,
            g,
            b,
            first,
            second,
            third,
            fourth,
            st_lpips,
            top_1,
            top_5,
        ]
    }

    /// With what a class tells before which so many others come.
    pub(super) fn with_rank(self, rank: usize) -> Self {
        let within = |first: usize| Some(f64::from(u8::from(rank < first)));
        Self { top_1: within(1), top_5: within(5), ..self }
    }
}

/// Sums up rows, which come in a fixed order, so that the means do not depend on who measured what.
#[derive(Debug)]
pub(super) struct Means {
    summary: Summary,
    metrics: Vec<Metric>,
    /// By method, in the order in which they came: each number's values, count, mean and sum of squared distances from it.
    methods: Vec<(String, [Running; NUMBERS.len()])>,
}

/// Welford's running mean.
#[derive(Clone, Copy, Debug, Default)]
struct Running {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Running {
    fn add(&mut self, value: f64) {
        self.count += 1;
        let distance = value - self.mean;
        self.mean += distance / self.count as f64;
        self.squares += distance * (value - self.mean);
    }

    fn statistic(self) -> Statistic {
        let Self { count, mean, squares } = self;
        let half = |count: u64| {
            let freedom = count - 1;
            student_95(freedom) * (squares / freedom as f64 / count as f64).sqrt()
        };
        Statistic { count, mean: (count > 0).then_some(mean), ci95: (count > 1).then(|| half(count)) }
    }
}

impl Means {
    /// Of these numbers, which these networks were needed for.
    pub(super) fn new(metrics: &[Metric], networks: &[Known]) -> Self {
        let looker = |known: &Known| Looker { network: known.name.clone(), weights: known.network.clone() };
        let networks = networks.iter().map(looker).collect();
        let summary = Summary { networks, ..Summary::default() };
        Self { summary, metrics: metrics.to_vec(), methods: Vec::new() }
    }

    /// Adds a row.
    pub(super) fn add(&mut self, row: &Row) {
        if row.reason.is_some() {
            self.summary.set_aside += 1;
            return;
        }
        self.summary.pictures += 1;
        for Method { method, scores } in &row.methods {
            let at = match self.methods.iter().position(|(name, _)| name == method) {
                Some(at) => at,
                None => {
                    self.methods.push((method.clone(), Default::default()));
                    self.methods.len() - 1
                }
            };
            for (running, value) in self.methods[at].1.iter_mut().zip(scores.numbers()) {
                if let Some(value) = value.filter(|value| value.is_finite()) {
                    running.add(value);
                }
            }
        }
    }

    /// The means so far.
    pub(super) fn summary(self) -> Summary {
        let named = |numbers: [Running; NUMBERS.len()]| {
            let asked =
                NUMBERS.iter().zip(numbers).filter(|(number, _)| self.metrics.contains(&number.metric));
            asked.map(|(number, running)| (number.name.to_string(), running.statistic())).collect()
        };
        let methods = self.methods.into_iter().map(|(name, numbers)| (name, named(numbers))).collect();
        Summary { methods, ..self.summary }
    }
}

/// Student's t of 0.975 with so many degrees of freedom (Abramowitz and Stegun, table 26.10); between its lines, the line
/// before, which makes intervals a little too wide rather than too narrow.
fn student_95(freedom: u64) -> f64 {
    const FIRST: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
        2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048,
        2.045, 2.042,
    ];
    match freedom {
        0 => f64::INFINITY,
        1..=30 => FIRST[freedom as usize - 1],
        31..=39 => 2.042,
        40..=59 => 2.021,
        60..=119 => 2.000,
        120..=999 => 1.980,
        _ => 1.962,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(psnr: Option<f64>) -> Row {
        let psnr = Some(psnr);
        let scores = Scores { psnr, psnr_y: psnr, ssim: Some(0.5), ..Scores::default() };
        let methods = vec![Method { method: "m".into(), scores }];
        Row { picture: "p".into(), size: Some([1, 1]), methods, reason: None }
    }

    fn none() -> Means {
        Means::new(&[Metric::Psnr, Metric::Ssim], &[])
    }

    #[test]
    fn means_come_with_the_interval_that_a_t_test_gives() {
        let mut means = none();
        for psnr in [20.0, 22.0, 27.0] {
            means.add(&row(Some(psnr)));
        }
        means.add(&row(None));
        means.add(&Row::set_aside("q", "broken"));
        let summary = means.summary();
        assert_eq!((summary.pictures, summary.set_aside), (4, 1));
        let (name, numbers) = &summary.methods[0];
        let Statistic { count, mean, ci95 } = numbers["psnr"];
        assert_eq!((name.as_str(), count, mean), ("m", 3, Some(23.0)));
        // Standard deviation sqrt(13), over sqrt(3), times t of two degrees of freedom.
        assert!((ci95.unwrap() - 4.303 * (13.0f64 / 3.0).sqrt()).abs() < 1e-9);
        assert_eq!(numbers["ssim"], Statistic { count: 4, mean: Some(0.5), ci95: Some(0.0) });
    }

    #[test]
    fn of_one_picture_nothing_is_said_about_others() {
        let mut means = none();
        means.add(&row(Some(20.0)));
        assert_eq!(means.summary().methods[0].1["psnr"].ci95, None);
        assert_eq!(none().summary(), Summary::default());
    }

    #[test]
    fn what_was_not_asked_for_is_not_there_and_null_is() {
        let scores = Scores { psnr: Some(None), top_1: Some(1.0), ..Scores::default() };
        let text = serde_json::to_string(&scores).unwrap();
        assert_eq!(text, "{\"psnr\":null,\"top_1\":1.0}");
        assert_eq!(serde_json::from_str::<Scores>(&text).unwrap(), scores);
        let (psnr, ssim) = (&NUMBERS[0], &NUMBERS[2]);
        let written = |scores: &Scores| [psnr.write(scores.numbers()[0]), ssim.write(scores.numbers()[2])];
        assert_eq!(written(&scores), ["∞", "–"]);
        let ranked = |rank| Scores::default().with_rank(rank).numbers()[13..].to_vec();
        assert_eq!([0, 4, 5].map(ranked), [[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]].map(|n| n.map(Some).to_vec()));
    }
}
