//! The engine as a [`Processor`]: picture files in, super-resolved picture files out.
//!
//! Colour goes through the network; transparency, which it knows nothing of, is enlarged by antialiased bicubic beside
//! it, and colours that cannot be seen are put back. Depth, profile, EXIF and resolution are carried over. The consistency
//! error that is reported is that of the pixels as they are rounded for the file.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use sr3_engine::device::Device;
use sr3_engine::diffusion::Consistency;
use sr3_engine::image::{self, DecodeLimits, Decoded, Picture, Samples};
use sr3_engine::model::Denoiser;
use sr3_engine::model::checkpoint::Checkpoint;
use sr3_engine::upscaler::{LowRes, Passes, Recipe, UpscaleError, Upscaler};
use sr3_proto::{Cancel, Key};

use sr3_worker::memory::{self, Room};

use crate::images::{OutputFormat, Rgb};

use super::{Computed, Encoded, Files, ItemError, Pace, Processor, engine_models, pictures, told::Told};

/// Pixels of the largest picture that is computed: 16 times the 100 megapixels that an input may have at most would not
/// fit any memory.
pub(crate) const COMPUTED_PIXELS_MAX: u64 = 400_000_000;
/// Bytes that such a pixel takes meanwhile: four RGB images of floats, and the finished samples.
const BYTES_PER_PIXEL: u64 = 54;
/// Bytes that a network takes besides, with the tiles in it.
pub(super) const NETWORK_BYTES: u64 = 150 << 20;

/// A picture that is decoded, and what it shows where the network is told.
pub struct Ready {
    decoded: Decoded,
    class: Option<u32>,
}

/// A network on a device.
pub type Network = Box<dyn Denoiser>;

/// A checkpoint and how to use it.
#[derive(Clone, Debug)]
pub struct SuperResolution {
    checkpoint: Arc<Checkpoint>,
    recipe: Recipe,
    device: Device,
    told: Told,
    scale: usize,
    /// JPEG's, 1 to 100.
    quality: u8,
    /// What lies under transparent pixels of a JPEG, which knows none.
    background: Option<[u8; 3]>,
    limits: DecodeLimits,
    pace: Arc<Pace>,
}

impl SuperResolution {
    /// Joins a checkpoint and a recipe. `scale` is that of the outputs, whatever the network's own; `quality` is
    /// JPEG's, 1 to 100, and `background` what lies under transparent pixels there.
    pub fn new(
        checkpoint: Arc<Checkpoint>,
        recipe: Recipe,
        scale: usize,
        quality: u8,
        background: Option<[u8; 3]>,
    ) -> Self {
        let (limits, pace) = (DecodeLimits::default(), Arc::default());
        let (device, told) = (Device::Cpu, Told::One(recipe.class));
        Self { checkpoint, recipe, device, told, scale, quality, background, limits, pace }
    }

    /// Run by another device than the CPU's plan.
    #[must_use]
    pub fn on(self, device: Device) -> Self {
        Self { device, ..self }
    }

    /// With another way to learn what pictures show than the recipe's.
    #[must_use]
    pub(super) fn told(self, told: Told) -> Self {
        Self { told, ..self }
    }

    /// What the picture of this path shows, where the network is told; `rgb` are its pixels.
    ///
    /// # Errors
    /// One line: nobody can say.
    pub(crate) fn class(&self, path: &str, rgb: impl FnOnce() -> Rgb) -> Result<Option<u32>, String> {
        self.told.class(path, rgb)
    }

    /// How fast it is, on whatever device it was computed so far. Clones share it.
    pub fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// Megapixels that go through the network, in all steps and passes, for an input of this size.
    pub fn evaluated_megapixels(&self, [width, height]: [usize; 2]) -> f64 {
        let passes = Passes::new(self.recipe.scale, self.scale);
        passes.evaluated(width, height, self.recipe.tile) as f64 * self.recipe.noise_levels.len() as f64 / 1e6
    }

    /// Seconds that a megapixel through the network takes on this machine: a small picture is computed to learn it.
    ///
    /// # Errors
    /// One line, where the network cannot be run.
    pub fn measure(&self) -> Result<f64, String> {
        let mut network = self.open_device()?;
        let mut device = self.upscaler(&mut network, self.recipe.class).map_err(|e| e.to_string())?;
        // One tile, or what comes of so few pixels.
        let side = (self.recipe.tile.size / self.recipe.scale.max(1)).clamp(8, 64);
        let rgb: Vec<f32> = (0..3 * side * side).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
        let image = LowRes { width: side, height: side, rgb: &rgb, key: "measure", lossy: false };
        let begun = Instant::now();
        device.upscale(&[image], &mut |_| ControlFlow::Continue(())).map_err(|e| e.to_string())?;
        let pixels = (side * self.recipe.scale).pow(2) * self.recipe.noise_levels.len();
        Ok(begun.elapsed().as_secs_f64() / (pixels as f64 / 1e6))
    }

    /// A network that is lent, with the recipe, for pictures that show this.
    ///
    /// # Errors
    /// The network cannot be used by it.
    pub fn upscaler<'a>(
        &self,
        network: &'a mut Network,
        class: Option<u32>,
    ) -> Result<Upscaler<&'a mut Network>, UpscaleError> {
        Upscaler::new(network, Recipe { class, ..self.recipe.clone() })
    }

    /// Megapixels of the output for an input of `width` × `height`.
    pub fn output_megapixels(&self, [width, height]: [usize; 2]) -> f64 {
        (width * self.scale) as f64 * (height * self.scale) as f64 / 1e6
    }

    /// Refuses what the format cannot hold, whatever the pixels are.
    fn check_format(&self, size: [usize; 2], format: OutputFormat) -> Result<(), ItemError> {
        let [width, height] = size.map(|side| side.saturating_mul(self.scale));
        image::check_size(width, height, pictures::file_format(format)).map_err(ItemError::bad)
    }

    /// Refuses what is more than is ever computed, or more than `room` holds.
    fn check_room(&self, [width, height]: [usize; 2], room: Option<Room>) -> Result<(), ItemError> {
        let computed = Passes::new(self.recipe.scale, self.scale).largest(width, height);
        let over = if computed > COMPUTED_PIXELS_MAX {
            Some(format!("is over {} megapixels", COMPUTED_PIXELS_MAX / 1_000_000))
        } else {
            room.and_then(|room| room.lacks(computed * BYTES_PER_PIXEL + NETWORK_BYTES))
        };
        let Some(over) = over else { return Ok(()) };
        let due = (width as u64 * height as u64).saturating_mul((self.scale as u64).pow(2));
        let way = match computed == due {
            true => String::new(),
            false => format!(", which is computed at {} megapixels,", computed / 1_000_000),
        };
        Err(ItemError::bad(format!(
            "{width}×{height} times {}{way} {over}: cut the picture, take a smaller --scale, or a larger machine",
            self.scale
        )))
    }
}

impl Processor for SuperResolution {
    type Decoded = Ready;
    type Computed = Picture;
    type Device = Network;

    fn device_name(&self) -> String {
        format!("network {} in {} on {}", self.checkpoint.digest, self.recipe.precision, self.device)
    }

    fn open_device(&self) -> Result<Network, String> {
        let Checkpoint { config, weights, .. } = &*self.checkpoint;
        let packed = engine_models::packed(&config.model).map_err(|e| e.to_string())?;
        self.device.open(&config.model, weights, self.recipe.precision, packed).map_err(|e| e.to_string())
    }

    fn decode(&self, key: &Key, files: Files<'_>, format: OutputFormat) -> Result<Ready, ItemError> {
        let bytes = files.input;
        // What other pictures take now they give back: here only what could never be had counts.
        let check = |size| {
            self.check_format(size, format)?;
            self.check_room(size, memory::most())
        };
        // A size that is no size is for the decoder to name.
        let plausible = |size: &[usize; 2]| size.iter().all(|side| *side <= self.limits.side_max as usize);
        image::probe(bytes).filter(plausible).map_or(Ok(()), check)?;
        let decoded = image::decode(bytes, &self.limits).map_err(ItemError::bad)?;
        check([decoded.picture.width, decoded.picture.height])?;
        pictures::check_alpha(&decoded.picture, format, self.background)?;
        let class = self.class(key.as_str(), || Rgb::of(&decoded.picture)).map_err(ItemError::bad)?;
        Ok(Ready { decoded, class })
    }

    fn output_pixels(&self, Ready { decoded, .. }: &Ready) -> u64 {
        (decoded.picture.width * decoded.picture.height * self.scale * self.scale) as u64
    }

    fn compute(
        &self,
        device: &mut Self::Device,
        input: &Key,
        ready: Ready,
        cancel: &Cancel,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Computed<Picture>, ItemError> {
        let Ready { decoded: Decoded { picture, lossy, mut notes, .. }, class } = ready;
        self.check_room([picture.width, picture.height], memory::room())?;
        let planes = image::to_planes(&picture);
        let hidden = image::HiddenColours::of(&picture);
        let Picture { width, height, channels, samples, metadata } = picture;
        let sixteen_bit = matches!(samples, Samples::U16(_));
        drop(samples);
        let low_res = LowRes { width, height, rgb: &planes.rgb, key: input.as_str(), lossy };
        let (begun, megapixels) = (Instant::now(), self.output_megapixels([width, height]));
        let mut step = |share: f64| {
            progress(share as f32);
            self.pace.so_far(begun.elapsed().as_secs_f64(), share * megapixels);
            if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut upscaler = self.upscaler(device, class).map_err(ItemError::bad)?;
        let upscaled = upscaler.enlarge(&low_res, self.scale, &mut step);
        self.pace.done();
        let mut upscaled = upscaled.map_err(|error| match error {
            UpscaleError::Cancelled => ItemError::Cancelled,
            other => ItemError::bad(other),
        })?;
        let size = [upscaled.height, upscaled.width];
        let alpha = planes.alpha.as_ref().map(|alpha| pictures::enlarged_alpha(alpha, [height, width], size));
        pictures::round_to_file(&mut upscaled.rgb, channels, sixteen_bit);
        let consistency = Consistency::with_reduction(self.recipe.reduction, [height, width], size)
            .map_err(ItemError::bad)?;
        let error = consistency.mean_squared_error(&upscaled.rgb, &planes.rgb) / 4.0;
        notes.extend(pictures::inconsistent(error));
        let result = image::Planes { width: size[1], height: size[0], rgb: upscaled.rgb, alpha };
        let mut output = image::from_planes(&result, channels, sixteen_bit, metadata);
        if let Some(hidden) = hidden {
            hidden.restore(&mut output);
        }
        Ok(Computed {
            output_size: [output.width, output.height].map(|side| side as u32),
            input_size: [width, height].map(|side| side as u32),
            consistency_error: Some(error),
            repaired: None,
            image_class: class,
            notes,
            output,
        })
    }

    fn encode(&self, computed: Picture, format: OutputFormat) -> Result<Encoded, ItemError> {
        pictures::encode(computed, format, self.quality, self.background)
    }
}
