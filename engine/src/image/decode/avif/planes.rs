//! One AV1 picture, decoded by `re_rav1d` into its planes.
//!
//! The decoder runs in this thread and in integers alone, without assembly, so the same file has the same bits on every
//! machine. It refuses a frame of another size than the container says before it allocates it. Only the first picture is
//! taken.

use re_rav1d::dav1d::{BitsPerComponent, Decoder, Error, PixelLayout, PlanarImageComponent, Settings, pixel};

use super::super::{DecodeError, damaged, unsupported};
use super::FORMAT;

/// How the colours of a picture are stored (ITU-T H.273, 8.3), as far as the container does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coding {
    /// MatrixCoefficients.
    pub(super) matrix: u16,
    pub(super) full_range: bool,
}

/// Samples of one component, (H, W).
pub(super) struct Plane {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) samples: Vec<u16>,
}

/// A decoded picture: luma and, unless it is gray, both chroma planes at their own size.
pub(super) struct Planes {
    pub(super) luma: Plane,
    pub(super) chroma: Option<[Plane; 2]>,
    /// 8, 10 or 12.
    pub(super) bits: u32,
    /// As the AV1 data say.
    pub(super) coding: Coding,
}

/// Decodes `data`, the AV1 data of a picture that the container says is `width` × `height`.
pub(super) fn decode(data: &[u8], width: u32, height: u32) -> Result<Planes, DecodeError> {
    if data.is_empty() {
        // The decoder would say so on standard error.
        return Err(DecodeError::Truncated { format: FORMAT });
    }
    let mut settings = Settings::new();
    settings.set_n_threads(1);
    settings.set_max_frame_delay(1);
    settings.set_all_layers(false);
    settings.set_frame_size_limit(width.saturating_mul(height));
    let mut decoder = Decoder::with_settings(&settings).map_err(|error| fault(&error))?;
    match decoder.send_data(data.to_vec(), None, None, None) {
        // Further pictures wait: the first is all that is wanted.
        Ok(()) | Err(Error::Again) => {}
        Err(error) => return Err(fault(&error)),
    }
    let picture = match decoder.get_picture() {
        Err(Error::Again) => return Err(DecodeError::Truncated { format: FORMAT }),
        picture => picture.map_err(|error| fault(&error))?,
    };
    if (picture.width(), picture.height()) != (width, height) {
        return Err(damaged(FORMAT, &"it gives its size twice, differently"));
    }
    let bits = match picture.bits_per_component() {
        Some(BitsPerComponent(bits @ (8 | 10 | 12))) => bits as u32,
        _ => return Err(unsupported(FORMAT, &"its depth is unusual: save it again as PNG")),
    };
    let (width, height) = (width as usize, height as usize);
    let half = |side: usize| side.div_ceil(2);
    let chroma = match picture.pixel_layout() {
        PixelLayout::I400 => None,
        PixelLayout::I420 => Some((half(width), half(height))),
        PixelLayout::I422 => Some((half(width), height)),
        PixelLayout::I444 => Some((width, height)),
    };
    let plane = |component, (width, height)| {
        let stride = picture.stride(component) as usize;
        copied(&picture.plane(component), stride, width, height, bits)
    };
    Ok(Planes {
        luma: plane(PlanarImageComponent::Y, (width, height))?,
        chroma: match chroma {
            Some(size) => {
                Some([plane(PlanarImageComponent::U, size)?, plane(PlanarImageComponent::V, size)?])
            }
            None => None,
        },
        bits,
        coding: Coding {
            matrix: picture.matrix_coefficients() as u16,
            full_range: picture.color_range() == pixel::YUVRange::Full,
        },
    })
}

/// `height` rows of `width` samples out of rows that are `stride` bytes apart: a byte each, or two in the machine's order.
fn copied(bytes: &[u8], stride: usize, width: usize, height: usize, bits: u32) -> Result<Plane, DecodeError> {
    let size = if bits == 8 { 1 } else { 2 };
    let mut samples = Vec::with_capacity(width * height);
    if stride < width * size || bytes.len() < (height - 1) * stride + width * size {
        return Err(damaged(FORMAT, &"some of its planes are missing"));
    }
    for row in bytes.chunks(stride).take(height) {
        let row = &row[..width * size];
        match size {
            1 => samples.extend(row.iter().map(|&sample| u16::from(sample))),
            _ => samples.extend(row.as_chunks().0.iter().map(|&pair| u16::from_ne_bytes(pair))),
        }
    }
    Ok(Plane { width, height, samples })
}

/// The crate's errors in words of our own: its texts are meant for its developers.
fn fault(error: &Error) -> DecodeError {
    match error {
        Error::UnsupportedBitstream => {
            unsupported(FORMAT, &"it is coded in an unusual way: save it again as PNG")
        }
        _ => damaged(FORMAT, &"its compressed pixels do not unpack"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_data_at_all_are_cut_short() {
        assert_eq!(decode(&[], 1, 1).err(), Some(DecodeError::Truncated { format: FORMAT }));
    }
}
