//! What a result becomes in its file, whoever made it: depth and channels of its input, alpha beside the colours, one of the
//! formats that are written.

use sr3_engine::image::{self, Channels, EncodeError, Picture};
use sr3_engine::ops::resize::{Filter, resize};

use super::{Encoded, ItemError};
use crate::images::OutputFormat;

/// Mean squared error in [0, 1] from which it is said that a result does not reduce to its input: 8 levels of 255.
const INCONSISTENT: f64 = 1e-3;

/// Refuses transparency that the format cannot hold, and that lies on nothing.
pub(crate) fn check_alpha(
    picture: &Picture,
    format: OutputFormat,
    background: Option<[u8; 3]>,
) -> Result<(), ItemError> {
    match format == OutputFormat::Jpeg && background.is_none() && !picture.is_opaque() {
        true => Err(ItemError::bad(EncodeError::AlphaInJpeg)),
        false => Ok(()),
    }
}

/// What the user should know of a result that is so far from its input.
pub(crate) fn inconsistent(error: f64) -> Option<String> {
    (error > INCONSISTENT).then(|| {
        format!(
            "reduced again it is not its input: {:.0} of 255 off on average (a dithered or very noisy picture loses \
             its dots)",
            255.0 * error.sqrt()
        )
    })
}

/// Alpha in 0..=1, whose size is [height, width], at another size.
pub(crate) fn enlarged_alpha(alpha: &[f32], [height, width]: [usize; 2], size: [usize; 2]) -> Vec<f32> {
    let mut alpha = resize(alpha, [height, width, 1], size, Filter::Bicubic);
    alpha.iter_mut().for_each(|a| *a = a.clamp(0.0, 1.0));
    alpha
}

/// The file of a result; `quality` is JPEG's, 1 to 100, and `background` what lies under transparent pixels there.
pub(crate) fn encode(
    picture: Picture,
    format: OutputFormat,
    quality: u8,
    background: Option<[u8; 3]>,
) -> Result<Encoded, ItemError> {
    let mut notes = Vec::new();
    let picture = match background {
        Some(background) if format == OutputFormat::Jpeg && !picture.is_opaque() => {
            notes.push("transparent parts lie on the background: JPEG holds no transparency".to_string());
            picture.flattened(background)
        }
        _ => picture,
    };
    let encoded = image::encode(&picture, file_format(format), quality).map_err(ItemError::bad)?;
    notes.extend(encoded.notes);
    Ok(Encoded { bytes: encoded.bytes, notes })
}

/// Puts values where the file's samples will be, so that what is measured is what is written.
pub(crate) fn round_to_file(rgb: &mut [f32], channels: Channels, sixteen_bit: bool) {
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
pub(crate) const fn file_format(format: OutputFormat) -> image::OutputFormat {
    match format {
        OutputFormat::Png => image::OutputFormat::Png,
        OutputFormat::Jpeg => image::OutputFormat::Jpeg,
        OutputFormat::Webp => image::OutputFormat::Webp,
        OutputFormat::Tiff => image::OutputFormat::Tiff,
    }
}
