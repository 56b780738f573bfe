//! The diffusion process: schedules of noise, what the network predicts, the loss, samplers, noise, tiling, consistency.
//!
//! Words: a *noise level* a is sqrt(alphas_cumprod); x_t = a x_0 + sqrt(1 - a²) eps. x_0 is the [`Target`]: the image,
//! or its scaled difference from the enlarged input. What the network says about x_t is its [`Objective`].

mod consistency;
mod hybrid;
mod levels;
mod loss;
mod noise;
mod noise_schedule;
mod objective;
mod respacing;
mod sampler;
mod tiling;

pub use consistency::{Consistency, ConsistencyError};
pub use hybrid::{HybridLoss, HybridSample};
pub use levels::{LevelSpacing, LevelsError};
pub use loss::{Loss, draw_noise_level, q_sample};
pub use noise::{NoiseSource, Philox, Region, START};
pub use noise_schedule::{Betas, LevelDraw, NoiseSchedule, NoiseScheduleConfig, ScheduleError};
pub use objective::{Objective, Target, noise_from_x0};
pub use respacing::{Respacing, RespacingError};
pub use sampler::{Sampler, SamplerError, Step};
pub use tiling::{Tile, TileAxis, TileError, Tiling};
