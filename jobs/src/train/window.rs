//! What the steps since the last row of the curve come to, and how a row is said to people.

use std::time::Duration;

use sr3_engine::train::{Draws, Noise};
use sr3_worker::UnitProgress;
use tokio::time::Instant;

use super::{
    curve::{QUARTILES, Row, Sums, Time},
    order::TrainOrder,
};

/// What the next row is made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    pub(super) sums: Sums,
    /// Steps whose time is known here.
    timed: u64,
    time: Time,
    since: Option<Instant>,
}

impl Window {
    /// Goes on with these sums; the time of their steps is not known here.
    pub(super) fn with(sums: Sums) -> Self {
        Self { sums, ..Self::default() }
    }

    /// Of steps from now on.
    pub(super) fn begun(now: Instant) -> Self {
        Self { since: Some(now), ..Self::default() }
    }

    /// Adds a step: its losses, each with the quarter of noise levels that it is of, and where its time went.
    pub(super) fn add(
        &mut self,
        losses: impl ExactSizeIterator<Item = (f64, usize)>,
        time: &Time,
        begun: Instant,
    ) {
        self.since.get_or_insert(begun);
        self.timed += 1;
        self.sums.add(losses);
        self.time.members = time.members;
        self.time.data += time.data;
        self.time.gradient += time.gradient;
        self.time.exchange += time.exchange;
        self.time.optimizer += time.optimizer;
    }

    /// The row of a step, from the steps since the last one.
    pub(super) fn row(
        &self,
        step: u64,
        (samples, skipped): (u64, u64),
        (norm, rate): (f64, f64),
        batch: u64,
    ) -> Row {
        let all = self.since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        let samples_per_second = (self.timed * batch) as f64 / all.max(1e-9);
        Row {
            step,
            samples,
            loss: self.sums.loss(),
            loss_by_level: self.sums.loss_by_level(),
            gradient_norm: norm,
            learning_rate: rate,
            skipped,
            validation: None,
            time: Time { samples_per_second, all, ..self.time },
        }
    }
}

/// Noise levels that cut the samples of training into quarters.
pub(super) fn quartiles(noise: &Noise) -> [f64; QUARTILES - 1] {
    const DRAWS: usize = 4096;
    let draws = Draws::new(0);
    let mut all: Vec<f64> = (0..DRAWS).map(|place| noise.draw(&draws, 0, place as u32).0).collect();
    all.sort_by(f64::total_cmp);
    [1, 2, 3].map(|i| all[i * DRAWS / QUARTILES])
}

/// Says a row to people: in the progress and in the log.
pub(super) fn tell(row: &Row, order: &TrainOrder, progress: &UnitProgress) {
    let Row { step, loss, gradient_norm, learning_rate, time, .. } = row;
    let share = *step as f32 / order.steps.max(1) as f32;
    let left = order.steps.saturating_sub(*step) as f64 * order.recipe.batch as f64;
    let left = Duration::try_from_secs_f64(left / time.samples_per_second.max(1e-9)).unwrap_or(Duration::MAX);
    let text = format!(
        "step {step} of {}, loss {loss:.4}, {:.1} samples/s, {} left",
        order.steps,
        time.samples_per_second,
        words(left)
    );
    progress.at(&text, share);
    let percent = |part: f64| 100.0 * part / time.all.max(1e-9);
    tracing::info!(
        target: "sr3::train",
        "step {step} loss {loss:.5} norm {gradient_norm:.3} rate {learning_rate:.3e}: {:.2} samples/s by {} \
         (data {:.1} %, gradient {:.1} %, exchange {:.1} %, optimizer {:.1} %)",
        time.samples_per_second,
        time.members,
        percent(time.data),
        percent(time.gradient),
        percent(time.exchange),
        percent(time.optimizer),
    );
    if let Some(v) = &row.validation {
        let samples = v.samples.as_ref().map_or_else(String::new, |s| {
            format!(
                ", PSNR {:.2} (bicubic {:.2}), SSIM {:.3} ({:.3}), consistency {:.1e}, shift {:+.2} {:+.2} {:+.2}",
                s.psnr, s.psnr_bicubic, s.ssim, s.ssim_bicubic, s.consistency,
                s.mean_shift[0], s.mean_shift[1], s.mean_shift[2]
            )
        });
        tracing::info!(
            target: "sr3::train",
            "step {step} validation loss {:.5}, averaged {:.5}{samples}", v.loss, v.loss_averaged
        );
    }
}

/// A time, for people.
fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}
