//! What a picture reaches, and what pictures reach on average. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How near a picture is to what it should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// dB, over R, G and B, whole picture; none where both are the same, which no number of dB says.
    pub psnr: Option<f64>,
    /// dB, luma, without a border as wide as the scale; none where both are the same.
    pub psnr_y: Option<f64>,
    /// Over R, G and B, whole picture.
    pub ssim: f64,
    /// Luma, without that border.
    pub ssim_y: f64,
    /// Mean squared error in [0, 1] between the picture, reduced by the scale, and its input.
    pub consistency: f64,
    /// Mean of red, green and blue above that of what it should be, in steps of 255.
    pub mean_shift: [f64; 3],
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

/// Means of all pictures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Pictures that were measured.
    pub pictures: u64,
    /// Those that were set aside.
    pub set_aside: u64,
    /// By method, and by name of the number. Names sort as the methods came.
    pub methods: Vec<(String, BTreeMap<String, Statistic>)>,
}

/// The numbers of a row, by name.
pub const NUMBERS: [&str; 8] =
    ["psnr", "psnr_y", "ssim", "ssim_y", "consistency", "mean_shift_r", "mean_shift_g", "mean_shift_b"];

impl Scores {
    /// In the order of [`NUMBERS`].
    pub fn numbers(&self) -> [Option<f64>; 8] {
        let [r, g, b] = self.mean_shift.map(Some);
        [self.psnr, self.psnr_y, Some(self.ssim), Some(self.ssim_y), Some(self.consistency), r, g, b]
    }
}

/// Sums up rows, which come in a fixed order, so that the means do not depend on who measured what.
#[derive(Debug, Default)]
pub(super) struct Means {
    summary: Summary,
    /// By method, in the order in which they came: each number's values, count, mean and sum of squared distances from it.
    methods: Vec<(String, [Running; 8])>,
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
                if let Some(value) = value {
                    running.add(value);
                }
            }
        }
    }

    /// The means so far.
    pub(super) fn summary(self) -> Summary {
        let named = |numbers: [Running; 8]| {
            let named = NUMBERS.iter().zip(numbers);
            named.map(|(name, running)| ((*name).to_string(), running.statistic())).collect()
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
        let scores =
            Scores { psnr, psnr_y: psnr, ssim: 0.5, ssim_y: 0.5, consistency: 0.0, mean_shift: [0.0; 3] };
        let methods = vec![Method { method: "m".into(), scores }];
        Row { picture: "p".into(), size: Some([1, 1]), methods, reason: None }
    }

    #[test]
    fn means_come_with_the_interval_that_a_t_test_gives() {
        let mut means = Means::default();
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
        let mut means = Means::default();
        means.add(&row(Some(20.0)));
        assert_eq!(means.summary().methods[0].1["psnr"].ci95, None);
        assert_eq!(Means::default().summary(), Summary::default());
    }
}
