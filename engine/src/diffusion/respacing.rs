//! Which timesteps of a schedule a sampler visits, as guided-diffusion and improved-diffusion choose them (their
//! `timestep_respacing`), to the timestep: additions in f64, and rounding half to even, as there.

use std::str::FromStr;

/// How timesteps are spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Respacing {
    /// The schedule cut into as many even parts as there are counts; of each part that many timesteps, its first and last
    /// included.
    Sections(Vec<usize>),
    /// So many timesteps at the smallest whole stride that gives them, from 0 on (the DDIM paper's way).
    Ddim(usize),
}

/// Why there is no such spread.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RespacingError {
    /// The text says none.
    #[error("`{text}` is no spacing of timesteps: take numbers as 250 or 10,15,20, or ddim25")]
    Text {
        /// The text.
        text: String,
    },
    /// A part has fewer timesteps than are asked for.
    #[error("{count} timesteps cannot be taken of a part of {size}: take fewer")]
    Section {
        /// Timesteps of the part.
        size: usize,
        /// What was asked for.
        count: usize,
    },
    /// No whole stride gives that many.
    #[error("no whole stride takes {count} of {timesteps} timesteps: take another number")]
    Stride {
        /// Timesteps of the schedule.
        timesteps: usize,
        /// What was asked for.
        count: usize,
    },
}

/// As the reference's flag is written; nothing stands for every timestep, which only the schedule can count.
impl FromStr for Respacing {
    type Err = RespacingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: &str| part.trim().parse::<usize>();
        let wrong = || RespacingError::Text { text: text.to_string() };
        if let Some(count) = text.strip_prefix("ddim") {
            return Ok(Self::Ddim(number(count).map_err(|_| wrong())?));
        }
        Ok(Self::Sections(text.split(',').map(number).collect::<Result<_, _>>().map_err(|_| wrong())?))
    }
}

impl Respacing {
    /// The timesteps kept of a schedule with `timesteps` of them, counted from 0, rising.
    ///
    /// # Errors
    /// [`RespacingError`] where there are too few.
    pub fn timesteps(&self, timesteps: usize) -> Result<Vec<usize>, RespacingError> {
        match self {
            Self::Ddim(count) => (1..timesteps)
                .find(|stride| timesteps.div_ceil(*stride) == *count)
                .map(|stride| (0..timesteps).step_by(stride).collect())
                .ok_or(RespacingError::Stride { timesteps, count: *count }),
            Self::Sections(counts) => {
                let (size, longer) = (timesteps / counts.len().max(1), timesteps % counts.len().max(1));
                let (mut first, mut kept) = (0, Vec::new());
                for (i, &count) in counts.iter().enumerate() {
                    let size = size + usize::from(i < longer);
                    if count > size {
                        return Err(RespacingError::Section { size, count });
                    }
                    section(first, size, count, &mut kept);
                    first += size;
                }
                Ok(kept)
            }
        }
    }
}

/// `count` of the `size` timesteps from `first` on. The stride is added, not multiplied: roundings differ.
fn section(first: usize, size: usize, count: usize, kept: &mut Vec<usize>) {
    let stride = if count > 1 { (size - 1) as f64 / (count - 1) as f64 } else { 1.0 };
    let mut at = 0.0_f64;
    for _ in 0..count {
        kept.push(first + at.round_ties_even() as usize);
        at += stride;
    }
}
