//! A pair from its pixels to the nearest picture that reduces to the input.
//!
//! The result is of the input's kind: its channels, its depth, its profile and what else travels with it, whatever became of
//! them in the other tool. Colours are projected, and so is alpha: that of the enlarged picture, if it says
//! something, else the input's as bicubic enlarges it.

use sr3_engine::diffusion::Consistency;
use sr3_engine::image::{self, DecodeLimits, Decoded, HiddenColours, Picture, Planes, Samples};
use sr3_engine::ops::resize::Filter;
use sr3_engine::upscaler::{self, LowRes};
use sr3_proto::{Cancel, Key};
use sr3_worker::memory::{self, Room};

use crate::{
    Writing,
    images::OutputFormat,
    upscale::{
        COMPUTED_PIXELS_MAX, Computed, Distance, Encoded, Files, ItemError, Processor,
        pictures::{self, check_alpha, enlarged_alpha, round_to_file},
    },
};

/// Bytes that an enlarged pixel takes: its samples as they came and as they go, and two images of floats.
const BYTES_PER_PIXEL: u64 = 48;

/// Projects pairs.
#[derive(Clone, Debug)]
pub struct Projection {
    /// JPEG's, 1 to 100.
    quality: u8,
    /// What lies under transparent pixels of a JPEG, which knows none.
    background: Option<[u8; 3]>,
}

/// An input, and what somebody else has made of it.
#[derive(Debug)]
pub struct Pair {
    low: Decoded,
    high: Decoded,
}

impl Projection {
    /// With results written so.
    pub fn new(writing: &Writing) -> Self {
        Self { quality: writing.quality, background: writing.background.map(|colour| colour.0) }
    }
}

impl Processor for Projection {
    type Decoded = Pair;
    type Computed = Picture;
    type Device = ();

    fn open_device(&self) -> Result<(), String> {
        Ok(())
    }

    fn device_name(&self) -> String {
        "projection".to_string()
    }

    fn decode(&self, _: &Key, files: Files<'_>, format: OutputFormat) -> Result<Pair, ItemError> {
        let enlarged = files.enlarged.ok_or_else(|| ItemError::bad("its enlarged picture was not read"))?;
        let of_enlarged = |e: &dyn std::fmt::Display| ItemError::bad(format!("the enlarged picture: {e}"));
        let low = image::decode(files.input, &DecodeLimits::default()).map_err(ItemError::bad)?;
        check_alpha(&low.picture, format, self.background)?;
        // Its size is known to fit before its pixels are read, where the first bytes tell it.
        let limits = DecodeLimits { pixels_max: COMPUTED_PIXELS_MAX, ..DecodeLimits::default() };
        let low_size = [low.picture.width, low.picture.height];
        let check = |size: [usize; 2]| {
            scale(low_size, size)?;
            image::check_size(size[0], size[1], pictures::file_format(format)).map_err(ItemError::bad)?;
            check_room(size, memory::most())
        };
        let plausible = |size: &[usize; 2]| size.iter().all(|side| *side <= limits.side_max as usize);
        // Its header may say the size before it is turned upright.
        if let Some([width, height]) = image::probe(enlarged).filter(plausible) {
            check_room([width, height], memory::most())?;
        }
        let high = image::decode(enlarged, &limits).map_err(|e| of_enlarged(&e))?;
        check([high.picture.width, high.picture.height])?;
        Ok(Pair { low, high })
    }

    fn output_pixels(&self, Pair { high, .. }: &Pair) -> u64 {
        (high.picture.width * high.picture.height) as u64
    }

    fn compute(
        &self,
        (): &mut (),
        input: &Key,
        Pair { low, high }: Pair,
        cancel: &Cancel,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Computed<Picture>, ItemError> {
        let Decoded { picture: low, lossy, mut notes, .. } = low;
        notes.extend(high.notes.iter().map(|note| format!("the enlarged picture: {note}")));
        let high = high.picture;
        let (low_size, size) = ([low.height, low.width], [high.height, high.width]);
        check_room([high.width, high.height], memory::room())?;
        let shows = !high.is_opaque();
        let (small, mut large) = (image::to_planes(&low), image::to_planes(&high));
        drop(high);
        let hidden = HiddenColours::of(&low);
        let Picture { channels, samples, metadata, .. } = low;
        let sixteen_bit = matches!(samples, Samples::U16(_));
        drop(samples);
        let consistency = Consistency::new(low_size, size).map_err(ItemError::bad)?;
        let before = distance(&consistency, &large.rgb, &small.rgb);
        let key = input.as_str();
        let image = LowRes { width: low_size[1], height: low_size[0], rgb: &small.rgb, key, lossy };
        next(cancel, progress, 0.2)?;
        upscaler::project(&image, &mut large.rgb, size, Filter::Bicubic).map_err(ItemError::bad)?;
        next(cancel, progress, 0.7)?;
        let alpha = match (&small.alpha, large.alpha.take()) {
            (Some(small), Some(large)) if shows => Some(projected_alpha(small, large, low_size, size)?),
            (Some(small), _) => {
                let large = enlarged_alpha(small, low_size, size);
                Some(projected_alpha(small, large, low_size, size)?)
            }
            (None, _) if shows => {
                notes.push("the enlarged picture's transparency is left out: its input has none".to_string());
                None
            }
            (None, _) => None,
        };
        next(cancel, progress, 0.9)?;
        round_to_file(&mut large.rgb, channels, sixteen_bit);
        let after = distance(&consistency, &large.rgb, &small.rgb);
        notes.extend(pictures::inconsistent(after.consistency_error));
        let result = Planes { width: size[1], height: size[0], rgb: large.rgb, alpha };
        let mut output = image::from_planes(&result, channels, sixteen_bit, metadata);
        if let Some(hidden) = hidden {
            hidden.restore(&mut output);
        }
        Ok(Computed {
            image_class: None,
            input_size: [low_size[1] as u32, low_size[0] as u32],
            output_size: [size[1] as u32, size[0] as u32],
            consistency_error: Some(after.consistency_error),
            repaired: Some((before, after.mean_shift)),
            notes,
            output,
        })
    }

    fn encode(&self, computed: Picture, format: OutputFormat) -> Result<Encoded, ItemError> {
        pictures::encode(computed, format, self.quality, self.background)
    }
}

/// By how much an input of one size was enlarged to the other.
fn scale([width, height]: [usize; 2], [wide, high]: [usize; 2]) -> Result<usize, ItemError> {
    let times = |from: usize, to: usize| (to.is_multiple_of(from)).then_some(to / from);
    match (times(width, wide), times(height, high)) {
        (Some(1), Some(1)) => {
            Err(ItemError::bad(format!("the enlarged picture has the size of its input, {width}×{height}")))
        }
        (Some(scale), Some(same)) if scale == same => Ok(scale),
        _ => {
            let on_its_side = match (times(height, wide), times(width, high)) {
                (Some(a), Some(b)) if a == b => "; it lies on its side: turn it as its input is shown",
                _ => "",
            };
            Err(ItemError::bad(format!(
                "the enlarged picture is {wide}×{high}, no whole multiple of its input's {width}×{height}{on_its_side}"
            )))
        }
    }
}

/// Refuses what is more than is ever computed, or more than `room` holds.
fn check_room([width, height]: [usize; 2], room: Option<Room>) -> Result<(), ItemError> {
    let pixels = width as u64 * height as u64;
    let over = if pixels > COMPUTED_PIXELS_MAX {
        Some(format!("is over {} megapixels", COMPUTED_PIXELS_MAX / 1_000_000))
    } else {
        room.and_then(|room| room.lacks(pixels * BYTES_PER_PIXEL))
    };
    match over {
        Some(over) => Err(ItemError::bad(format!(
            "{width}×{height} {over}: cut both pictures, or take a larger machine"
        ))),
        None => Ok(()),
    }
}

/// Between two steps.
fn next(cancel: &Cancel, progress: &mut dyn FnMut(f32), share: f32) -> Result<(), ItemError> {
    progress(share);
    if cancel.is_cancelled() { Err(ItemError::Cancelled) } else { Ok(()) }
}

/// How far `rgb` is from reducing to `low`, both in [-1, 1].
fn distance(consistency: &Consistency, rgb: &[f32], low: &[f32]) -> Distance {
    let reduced = consistency.reduce(rgb);
    let (mut squares, mut sums) = (0.0, [0.0; 3]);
    for (reduced, low) in reduced.chunks_exact(3).zip(low.chunks_exact(3)) {
        for (channel, sum) in sums.iter_mut().enumerate() {
            let rest = f64::from(reduced[channel]) - f64::from(low[channel]);
            *sum += rest;
            squares += rest * rest;
        }
    }
    let pixels = (low.len() / 3).max(1) as f64;
    Distance {
        // Errors are four times those in [0, 1] units, and there are three channels.
        consistency_error: squares / (12.0 * pixels),
        mean_shift: sums.map(|sum| 127.5 * sum / pixels),
    }
}

/// Alpha of the size of the enlarged picture, moved to the nearest that reduces to the input's; all in 0..=1.
fn projected_alpha(
    small: &[f32],
    large: Vec<f32>,
    [height, width]: [usize; 2],
    size: [usize; 2],
) -> Result<Vec<f32>, ItemError> {
    // As gray.
    let gray = |alpha: &[f32]| alpha.iter().flat_map(|a| [2.0 * a - 1.0; 3]).collect::<Vec<f32>>();
    let (low, mut high) = (gray(small), gray(&large));
    drop(large);
    let image = LowRes { width, height, rgb: &low, key: "alpha", lossy: false };
    upscaler::project(&image, &mut high, size, Filter::Bicubic).map_err(ItemError::bad)?;
    Ok(high.chunks_exact(3).map(|gray| (gray[0] + 1.0) / 2.0).collect())
}
