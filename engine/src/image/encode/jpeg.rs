//! JPEG by `jpeg-encoder`: no chroma subsampling (detail is what the product is for), Huffman tables made for the picture.

use jpeg_encoder::{ColorType, Encoder, EncodingError, PixelDensity, PixelDensityUnit, SamplingFactor};

use super::carried::Carried;
use super::jpeg_segments;
use super::{EncodeError, OutputFormat, Picture, eight_bit, failed, sides};
use crate::image::metadata::Density;

const FORMAT: OutputFormat = OutputFormat::Jpeg;
/// What an APP1 segment holds after `Exif\0\0`.
const EXIF_BYTES_MAX: usize = 65_533 - 6;
/// 254 APP2 segments; the numbers of the segments are bytes.
const ICC_BYTES_MAX: usize = 254 * 65_519;

pub(super) fn write(
    picture: &Picture,
    carried: &Carried<'_>,
    quality: u8,
    notes: &mut Vec<String>,
) -> Result<Vec<u8>, EncodeError> {
    if !(1..=100).contains(&quality) {
        return Err(EncodeError::Quality { quality });
    }
    if !picture.is_opaque() {
        return Err(EncodeError::AlphaInJpeg);
    }
    let flat;
    let picture = match picture.channels.has_alpha() {
        true => {
            flat = picture.clone().flattened([0; 3]);
            &flat
        }
        false => picture,
    };
    let (width, height) = sides::<u16>(picture, FORMAT)?;
    let samples = eight_bit(&picture.samples, FORMAT, notes);
    let colours = if picture.channels.is_colour() { ColorType::Rgb } else { ColorType::Luma };
    let fits = |what: &str, length: usize, limit: usize, notes: &mut Vec<String>| {
        if length > limit {
            notes.push(format!("{what} left out: {length} bytes are more than a JPEG holds"));
        }
        length <= limit
    };
    let exif = carried.exif.as_ref().filter(|block| fits("EXIF", block.len(), EXIF_BYTES_MAX, notes));
    let icc = picture.metadata.icc.as_deref().filter(|icc| fits("profile", icc.len(), ICC_BYTES_MAX, notes));

    let mut bytes = Vec::new();
    let write = |bytes: &mut Vec<u8>| -> Result<(), EncodingError> {
        let mut encoder = Encoder::new(bytes, quality);
        encoder.set_sampling_factor(SamplingFactor::F_1_1);
        encoder.set_optimized_huffman_tables(true);
        if let Some(density) = picture.metadata.density.and_then(whole_dots) {
            encoder.set_density(density);
        }
        if let Some(block) = exif {
            encoder.add_exif_metadata(block)?;
        }
        if let Some(profile) = icc {
            encoder.add_icc_profile(profile)?;
        }
        for (number, data) in jpeg_segments::application(carried) {
            encoder.add_app_segment(number, data)?;
        }
        encoder.encode(&samples, width, height, colours)
    };
    write(&mut bytes).map_err(|e| failed(FORMAT, &e))?;
    jpeg_segments::insert_comments(&mut bytes, carried.texts.iter().map(|text| &text.text));
    Ok(bytes)
}

/// JFIF counts whole dots, per inch or per centimetre: the unit that loses less.
fn whole_dots(density: Density) -> Option<PixelDensity> {
    let dots = |scale: f64| {
        let (x, y) = ((density.x / scale).round(), (density.y / scale).round());
        let error = (x * scale - density.x).abs() + (y * scale - density.y).abs();
        let range = 1.0..=f64::from(u16::MAX);
        (range.contains(&x) && range.contains(&y)).then_some(((x as u16, y as u16), error))
    };
    let inches =
        dots(1.0).map(|(density, error)| (PixelDensity { density, unit: PixelDensityUnit::Inches }, error));
    let centimetres = dots(2.54)
        .map(|(density, error)| (PixelDensity { density, unit: PixelDensityUnit::Centimeters }, error));
    match (inches, centimetres) {
        (Some((_, inch_error)), Some((density, error))) if error < inch_error / 4.0 => Some(density),
        (Some((density, _)), _) | (None, Some((density, _))) => Some(density),
        (None, None) => None,
    }
}
