//! PNG by the `png` crate: 8 and 16 bit, iCCP, eXIf, pHYs; [`super::png_chunks`] makes the others.
//!
//! About colour is said what the input said and nothing else: an sRGB chunk of our own would be a claim that it did not make.

use std::borrow::Cow;
use std::io::Write;

use ::png::chunk::ChunkType;
use ::png::{
    BitDepth, ColorType, DeflateCompression, Encoder, EncodingError, Filter, Info, PixelDimensions, Unit,
};

use super::carried::Carried;
use super::png_chunks::{self, Chunk};
use super::{EncodeError, OutputFormat, Picture, Samples, failed, sides};
use crate::image::metadata::Density;
use crate::image::picture::Channels;

const FORMAT: OutputFormat = OutputFormat::Png;

pub(super) fn write(picture: &Picture, carried: &Carried<'_>) -> Result<Vec<u8>, EncodeError> {
    let (width, height) = sides::<u32>(picture, FORMAT)?;
    let mut info = Info::with_size(width, height);
    info.color_type = match picture.channels {
        Channels::Gray => ColorType::Grayscale,
        Channels::GrayAlpha => ColorType::GrayscaleAlpha,
        Channels::Rgb => ColorType::Rgb,
        Channels::Rgba => ColorType::Rgba,
    };
    info.bit_depth = if picture.samples.bits() == 16 { BitDepth::Sixteen } else { BitDepth::Eight };
    info.icc_profile = picture.metadata.icc.as_deref().map(Cow::Borrowed);
    info.exif_metadata = carried.exif.as_deref().map(Cow::Borrowed);
    info.pixel_dims = picture.metadata.density.map(per_metre);
    let chunks = [png_chunks::colour(&picture.metadata.colour), png_chunks::texts(carried)].concat();
    let mut bytes = Vec::new();
    write_file(&mut bytes, info, &chunks, picture).map_err(|e| failed(FORMAT, &e))?;
    Ok(bytes)
}

fn per_metre(density: Density) -> PixelDimensions {
    let count = |dots_per_inch: f64| (dots_per_inch / 0.0254).round() as u32;
    PixelDimensions { xppu: count(density.x), yppu: count(density.y), unit: Unit::Meter }
}

fn write_file(
    bytes: &mut Vec<u8>,
    info: Info<'_>,
    chunks: &[Chunk],
    picture: &Picture,
) -> Result<(), EncodingError> {
    let mut encoder = Encoder::with_info(bytes, info)?;
    encoder.set_filter(Filter::Adaptive);
    match &picture.samples {
        // On photographs the crate's own deflate for PNG is ten times as fast as level 4 and makes smaller files
        // (7.0 against 7.5 MB of a 5-megapixel photograph); on noise it falls back to storing.
        Samples::U8(samples) => {
            encoder.set_deflate_compression(DeflateCompression::FdeflateUltraFast);
            let mut writer = encoder.write_header()?;
            chunks.iter().try_for_each(|(name, data)| writer.write_chunk(ChunkType(*name), data))?;
            writer.write_image_data(samples)?;
            writer.finish()
        }
        // Its fixed code suits 8-bit differences only; with 16 bit level 1 is both fast and smallest of 1 to 4. By rows,
        // so that the big-endian copy is a row and not a picture.
        Samples::U16(samples) => {
            encoder.set_deflate_compression(DeflateCompression::Level(1));
            let mut writer = encoder.write_header()?;
            chunks.iter().try_for_each(|(name, data)| writer.write_chunk(ChunkType(*name), data))?;
            let mut stream = writer.stream_writer_with_size(IDAT_BYTES)?;
            let row_samples = picture.width * picture.channels.count();
            let mut big_endian = vec![0; 2 * row_samples];
            for row in samples.chunks_exact(row_samples) {
                big_endian.as_chunks_mut().0.iter_mut().zip(row).for_each(|(to, &v)| *to = v.to_be_bytes());
                stream.write_all(&big_endian)?;
            }
            stream.finish()?;
            writer.finish()
        }
    }
}

/// Bytes of an IDAT chunk where the rows are streamed.
const IDAT_BYTES: usize = 256 << 10;
