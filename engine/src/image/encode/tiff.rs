//! TIFF by the `tiff` crate: 8 and 16 bit, deflate with the horizontal predictor, profile and resolution;
//! [`super::tiff_tags`] adds what describes the picture.

use std::io::{Cursor, Seek, Write};

use ::tiff::TiffResult;
use ::tiff::encoder::colortype::{ColorType, Gray8, Gray16, RGB8, RGB16, RGBA8, RGBA16};
use ::tiff::encoder::{Compression, DeflateLevel, Predictor, Rational, TiffEncoder, TiffKind, TiffValue};
use ::tiff::tags::{ExtraSamples, PhotometricInterpretation, ResolutionUnit, SampleFormat, Tag};

use super::carried::Carried;
use super::tiff_tags::{write_below, write_page_tags};
use super::{EncodeError, OutputFormat, Picture, Samples, failed, sides};
use crate::image::picture::Channels;

const FORMAT: OutputFormat = OutputFormat::Tiff;
/// Above this many bytes of samples the 32-bit offsets of plain TIFF may not do, and BigTIFF is written.
const PLAIN_BYTES_MAX: usize = 3 << 30;

pub(super) fn write(picture: &Picture, carried: &Carried<'_>) -> Result<Vec<u8>, EncodeError> {
    let size = sides::<u32>(picture, FORMAT)?;
    let mut bytes = Cursor::new(Vec::new());
    let big = picture.samples.len() * usize::from(picture.samples.bits() / 8) > PLAIN_BYTES_MAX;
    let written = if big {
        TiffEncoder::new_big(&mut bytes).and_then(|encoder| write_page(encoder, picture, carried, size))
    } else {
        TiffEncoder::new(&mut bytes).and_then(|encoder| write_page(encoder, picture, carried, size))
    };
    written.map_err(|e| failed(FORMAT, &e))?;
    Ok(bytes.into_inner())
}

fn write_page<W: Write + Seek, K: TiffKind>(
    encoder: TiffEncoder<W, K>,
    picture: &Picture,
    carried: &Carried<'_>,
    size: (u32, u32),
) -> TiffResult<()> {
    let mut encoder = encoder
        .with_compression(Compression::Deflate(DeflateLevel::Fast))
        .with_predictor(Predictor::Horizontal);
    match (&picture.samples, picture.channels) {
        (Samples::U8(samples), Channels::Gray) => {
            write_as::<_, _, Gray8>(&mut encoder, picture, carried, size, samples)
        }
        (Samples::U8(samples), Channels::GrayAlpha) => {
            write_as::<_, _, GrayAlpha8>(&mut encoder, picture, carried, size, samples)
        }
        (Samples::U8(samples), Channels::Rgb) => {
            write_as::<_, _, RGB8>(&mut encoder, picture, carried, size, samples)
        }
        (Samples::U8(samples), Channels::Rgba) => {
            write_as::<_, _, RGBA8>(&mut encoder, picture, carried, size, samples)
        }
        (Samples::U16(samples), Channels::Gray) => {
            write_as::<_, _, Gray16>(&mut encoder, picture, carried, size, samples)
        }
        (Samples::U16(samples), Channels::GrayAlpha) => {
            write_as::<_, _, GrayAlpha16>(&mut encoder, picture, carried, size, samples)
        }
        (Samples::U16(samples), Channels::Rgb) => {
            write_as::<_, _, RGB16>(&mut encoder, picture, carried, size, samples)
        }
        (Samples::U16(samples), Channels::Rgba) => {
            write_as::<_, _, RGBA16>(&mut encoder, picture, carried, size, samples)
        }
    }
}

fn write_as<W: Write + Seek, K: TiffKind, C: ColorType>(
    encoder: &mut TiffEncoder<W, K>,
    picture: &Picture,
    carried: &Carried<'_>,
    (width, height): (u32, u32),
    samples: &[C::Inner],
) -> TiffResult<()>
where
    [C::Inner]: TiffValue,
{
    let below = write_below(encoder, &carried.tags)?;
    let mut page = encoder.new_image::<C>(width, height)?;
    if picture.channels.has_alpha() {
        // The crate counts the alpha among the colour type's samples, so only the tag is missing.
        page.encoder().write_tag(Tag::ExtraSamples, ExtraSamples::UnassociatedAlpha.to_u16())?;
    }
    if let Some(density) = picture.metadata.density {
        page.resolution_unit(ResolutionUnit::Inch);
        page.x_resolution(rational(density.x));
        page.y_resolution(rational(density.y));
    }
    if let Some(profile) = &picture.metadata.icc {
        page.encoder().write_tag(Tag::IccProfile, Opaque(profile))?;
    }
    write_page_tags(page.encoder(), carried, below)?;
    page.write_data(samples)
}

/// Dots per inch to a ten-thousandth, whole numbers as such.
fn rational(value: f64) -> Rational {
    let d = if value.fract() == 0.0 || value > 400_000.0 { 1 } else { 10_000 };
    Rational { n: (value * f64::from(d)).round() as u32, d }
}

/// Bytes of no type, as the ICC asks for its tag (ICC.1:2022, B.5: UNDEFINED).
struct Opaque<'a>(&'a [u8]);

impl TiffValue for Opaque<'_> {
    const BYTE_LEN: u8 = 1;
    const FIELD_TYPE: ::tiff::tags::Type = ::tiff::tags::Type::UNDEFINED;

    fn count(&self) -> usize {
        self.0.len()
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.0.into()
    }
}

/// Two samples a pixel, which the crate has no colour type for.
macro_rules! gray_alpha {
    ($name:ident, $sample:ty, $bits:expr) => {
        struct $name;

        impl ColorType for $name {
            type Inner = $sample;
            const TIFF_VALUE: PhotometricInterpretation = PhotometricInterpretation::BlackIsZero;
            const BITS_PER_SAMPLE: &'static [u16] = &[$bits, $bits];
            const SAMPLE_FORMAT: &'static [SampleFormat] = &[SampleFormat::Uint; 2];

            fn horizontal_predict(row: &[$sample], result: &mut Vec<$sample>) {
                result.extend_from_slice(&row[..row.len().min(2)]);
                result
                    .extend(row.iter().zip(row.iter().skip(2)).map(|(left, &here)| here.wrapping_sub(*left)));
            }
        }
    };
}

gray_alpha!(GrayAlpha8, u8, 8);
gray_alpha!(GrayAlpha16, u16, 16);
