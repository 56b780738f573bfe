//! The engine as a [`Processor`]: picture files in, super-resolved picture files out.
//!
//! Colour goes through the network; transparency, which it knows nothing of, is enlarged by antialiased bicubic beside
//! it, and colours that cannot be seen are put back. Depth, profile, EXIF and resolution are carried over. The consistency
//! error that is reported is that of the pixels as they are rounded for the file.

use std::ops::ControlFlow;
use std::sync::Arc;

use sr3_engine::diffusion::Consistency;
use sr3_engine::image::{self, Channels, DecodeLimits, Decoded, Picture, Samples};
use sr3_engine::model::CpuUNet;
use sr3_engine::model::checkpoint::Checkpoint;
use sr3_engine::ops::Isa;
use sr3_engine::ops::resize::{Filter, resize};
use sr3_engine::upscaler::{LowRes, Recipe, UpscaleError, Upscaler};
use sr3_proto::{Cancel, Key, OutputFormat};

use crate::{Computed, Encoded, ItemError, Processor};

/// Pixels of the largest output: 16 times the 100 megapixels that an input may have at most would not fit any memory.
const OUTPUT_PIXELS_MAX: u64 = 400_000_000;
/// Bytes that an output pixel takes while it is computed: four RGB images of floats, and the finished samples.
const BYTES_PER_PIXEL: u64 = 54;

/// A checkpoint and how to use it.
#[derive(Clone, Debug)]
pub struct SuperResolution {
    checkpoint: Arc<Checkpoint>,
    recipe: Recipe,
    scale: usize,
    quality: u8,
    limits: DecodeLimits,
}

impl SuperResolution {
    /// Joins a checkpoint and a recipe. `scale` is that of the outputs, whatever the network's own; `quality` is
    /// JPEG's, 1 to 100.
    pub fn new(checkpoint: Arc<Checkpoint>, recipe: Recipe, scale: usize, quality: u8) -> Self {
        Self { checkpoint, recipe, scale, quality, limits: DecodeLimits::default() }
    }

    /// A refusal of an output that would be too large, before anything is computed.
    fn check_size(&self, picture: &Picture) -> Result<(), ItemError> {
        let pixels =
            (picture.width as u64 * picture.height as u64).saturating_mul((self.scale as u64).pow(2));
        if pixels > OUTPUT_PIXELS_MAX {
            let (w, h, s) = (picture.width, picture.height, self.scale);
            return Err(ItemError::bad(format!(
                "{w}×{h} times {s} is over {} megapixels: cut the picture or take a smaller --scale",
                OUTPUT_PIXELS_MAX / 1_000_000
            )));
        }
        let needed = pixels * BYTES_PER_PIXEL;
        if let Some(free) = memory_available()
            && needed > free
        {
            let (w, h, s) = (picture.width, picture.height, self.scale);
            let gigabytes = |bytes: u64| bytes as f64 / 1e9;
            return Err(ItemError::bad(format!(
                "{w}×{h} times {s} takes {:.1} GB of memory, and {:.1} GB are free: cut the picture, take a smaller \
                 --scale, or a larger machine",
                gigabytes(needed),
                gigabytes(free)
            )));
        }
        Ok(())
    }
}

/// Bytes of memory that a process may still take without swapping; None where the system does not tell.
fn memory_available() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

impl Processor for SuperResolution {
    type Decoded = Decoded;
    type Computed = Picture;
    type Device = Upscaler<CpuUNet>;

    fn open_device(&self) -> Result<Self::Device, String> {
        let network = CpuUNet::new(&self.checkpoint.config.model, &self.checkpoint.weights, Isa::detect())
            .map_err(|e| e.to_string())?
            .with_precision(self.recipe.precision);
        Upscaler::new(network, self.recipe.clone()).map_err(|e| e.to_string())
    }

    fn decode(&self, _: &Key, bytes: &[u8]) -> Result<Decoded, ItemError> {
        let decoded = image::decode(bytes, &self.limits).map_err(ItemError::bad)?;
        self.check_size(&decoded.picture)?;
        Ok(decoded)
    }

    fn output_pixels(&self, decoded: &Decoded) -> u64 {
        (decoded.picture.width * decoded.picture.height * self.scale * self.scale) as u64
    }

    fn compute(
        &self,
        device: &mut Self::Device,
        input: &Key,
        decoded: Decoded,
        cancel: &Cancel,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Computed<Picture>, ItemError> {
        let Decoded { picture, lossy, notes, .. } = decoded;
        let planes = image::to_planes(&picture);
        let hidden = image::HiddenColours::of(&picture);
        let Picture { width, height, channels, samples, metadata } = picture;
        let sixteen_bit = matches!(samples, Samples::U16(_));
        drop(samples);
        let low_res = LowRes { width, height, rgb: &planes.rgb, key: input.as_str(), lossy };
        let mut step = |share: f64| {
            progress(share as f32);
            if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut upscaled = device.enlarge(&low_res, self.scale, &mut step).map_err(|error| match error {
            UpscaleError::Cancelled => ItemError::Cancelled,
            other => ItemError::bad(other),
        })?;
        let size = [upscaled.height, upscaled.width];
        let alpha = planes.alpha.as_ref().map(|alpha| {
            let mut alpha = resize(alpha, [height, width, 1], size, Filter::Bicubic);
            alpha.iter_mut().for_each(|a| *a = a.clamp(0.0, 1.0));
            alpha
        });
        round_to_file(&mut upscaled.rgb, channels, sixteen_bit);
        let consistency = Consistency::new([height, width], size).map_err(ItemError::bad)?;
        let error = consistency.mean_squared_error(&upscaled.rgb, &planes.rgb) / 4.0;
        let result = image::Planes { width: size[1], height: size[0], rgb: upscaled.rgb, alpha };
        let mut output = image::from_planes(&result, channels, sixteen_bit, metadata);
        if let Some(hidden) = hidden {
            hidden.restore(&mut output);
        }
        Ok(Computed {
            output_size: [output.width, output.height].map(|side| side as u32),
            input_size: [width, height].map(|side| side as u32),
            consistency_error: Some(error),
            notes,
            output,
        })
    }

    fn encode(&self, computed: Picture, format: OutputFormat) -> Result<Encoded, ItemError> {
        let encoded = image::encode(&computed, file_format(format), self.quality).map_err(ItemError::bad)?;
        Ok(Encoded { bytes: encoded.bytes, notes: encoded.notes })
    }
}

/// Puts values where the file's samples will be, so that what is measured is what is written.
fn round_to_file(rgb: &mut [f32], channels: Channels, sixteen_bit: bool) {
    let half = if sixteen_bit { 32_767.5f32 } else { 127.5 };
    for pixel in rgb.chunks_exact_mut(3) {
        if !channels.is_colour() {
            let mean = (pixel[0] + pixel[1] + pixel[2]) / 3.0;
            pixel.fill(mean);
        }
        for value in pixel {
            *value = ((*value + 1.0) * half).round().clamp(0.0, 2.0 * half) / half - 1.0;
        }
    }
}

/// The engine's format of a wire format.
const fn file_format(format: OutputFormat) -> image::OutputFormat {
    match format {
        OutputFormat::Png => image::OutputFormat::Png,
        OutputFormat::Jpeg => image::OutputFormat::Jpeg,
        OutputFormat::Webp => image::OutputFormat::Webp,
        OutputFormat::Tiff => image::OutputFormat::Tiff,
    }
}
