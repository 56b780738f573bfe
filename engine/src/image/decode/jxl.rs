//! JPEG XL: the container is walked in [`super::jxl_boxes`], the pixels are decoded by `jxl-oxide`.
//!
//! Read are 1 to 16 bits and floats (which become 16 bit), gray and RGB, with alpha; of an animation the first frame. Size,
//! number of channels and size of the packed profile are looked at before the decoder sees the file, and it may allocate no
//! more than [`BYTES_PER_PIXEL`] a pixel. The decoder turns the picture upright itself; EXIF's orientation does not count
//! (ISO/IEC 18181-2, 9.5).
//!
//! What was stored without loss comes out to the last bit. What was not is computed in f32 with the vector instructions
//! of the machine, and a sample may differ by one level between machines with and without fused multiplication: the one
//! decoder here that can.

use jxl_bitstream::Bitstream;
use jxl_oxide::color::{ColourEncoding, ColourSpace, Primaries, TransferFunction, WhitePoint};
use jxl_oxide::frame::Encoding;
use jxl_oxide::image::{BitDepth, ImageMetadata};
use jxl_oxide::{
    AllocTracker, ExtraChannelType, ImageHeader, InitializeResult, JxlImage, JxlThreadPool, PixelFormat,
};
use jxl_oxide_common::Bundle;

use super::{
    Channels, DecodeError, DecodeLimits, Found, InputFormat, Samples, damaged, jxl_boxes, unsupported,
};

const FORMAT: InputFormat = InputFormat::Jxl;
/// Channels besides colour and alpha that are decoded, to be left out.
const FURTHER_MAX: usize = 4;
/// What the decoder may hold for a pixel: three channels of 4 bytes in several states, and the further channels.
const BYTES_PER_PIXEL: u64 = 64;
/// What it may hold besides.
const BYTES_BESIDES: u64 = 64 << 20;
/// A packed profile is rarely longer than what it unpacks to.
const PACKED_PROFILE_SLACK: u64 = 64 << 10;

pub(super) fn read(bytes: &[u8], limits: &DecodeLimits) -> Result<Found, DecodeError> {
    let stream = jxl_boxes::codestream(bytes).ok_or_else(truncated)?;
    let (width, height) = check_header(&stream, limits)?;
    let room = u64::from(width) * u64::from(height) * BYTES_PER_PIXEL + BYTES_BESIDES;
    let mut start = JxlImage::builder()
        .pool(JxlThreadPool::none())
        .alloc_tracker(AllocTracker::with_limit(usize::try_from(room).unwrap_or(usize::MAX)))
        .build_uninit();
    start.feed_bytes(&stream).map_err(|_| unpacked())?;
    let image = match start.try_init().map_err(|_| unpacked())? {
        InitializeResult::Initialized(image) => image,
        InitializeResult::NeedMoreData(_) => return Err(truncated()),
    };
    let is_animation = image.image_header().metadata.animation.is_some();
    if image.num_loaded_keyframes() == 0 || !is_animation && !image.is_loading_done() {
        return Err(truncated());
    }
    let mut notes = Vec::new();
    if is_animation && !(image.is_loading_done() && image.num_loaded_keyframes() == 1) {
        notes.push("first frame of an animation".to_owned());
    }
    if !image.is_loading_done() {
        notes.push("the file is cut short after its first frame".to_owned());
    }
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (channels, samples) = pixels(&image, &mut notes)?;
    Ok(Found {
        width,
        height,
        channels,
        samples,
        icc: profile(&image, limits.profile_bytes_max, &mut notes),
        exif: None,
        density: None,
        orientation: None,
        lossy: is_lossy(&image),
        notes,
    })
}

/// Width and height as stored, from the first bytes.
pub(super) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    let start = jxl_boxes::start_of_codestream(bytes)?;
    let mut bits = Bitstream::new(start.strip_prefix(b"\xff\x0a")?);
    let size = jxl_oxide::image::SizeHeader::parse(&mut bits, ()).ok()?;
    Some((size.width, size.height))
}

/// Looks at what the decoder would allocate by the header's word, and lets pass what fits the limits: width and height.
fn check_header(stream: &[u8], limits: &DecodeLimits) -> Result<(u32, u32), DecodeError> {
    let (width, height) = size(stream).ok_or_else(truncated)?;
    limits.admit(width.into(), height.into())?;
    let mut bits = Bitstream::new(stream);
    let header = ImageHeader::parse(&mut bits, ()).map_err(|error| match error.unexpected_eof() {
        true => truncated(),
        false => damaged(FORMAT, &"its header contradicts itself"),
    })?;
    let ImageMetadata { ec_info, colour_encoding, preview, .. } = &header.metadata;
    if ec_info.len() > 1 + FURTHER_MAX {
        let further = ec_info.len();
        let reason =
            format!("it has {further} channels besides its colours: save it again with alpha at most");
        return Err(unsupported(FORMAT, &reason));
    }
    if let Some(preview) = preview {
        limits.admit(preview.width.into(), preview.height.into())?;
    }
    if colour_encoding.want_icc() {
        let packed = bits.read_u64().map_err(|_| truncated())?;
        if packed > limits.profile_bytes_max as u64 + PACKED_PROFILE_SLACK {
            let reason = format!("its profile has {packed} bytes, more than the limit: save it again as PNG");
            return Err(unsupported(FORMAT, &reason));
        }
    }
    Ok((width, height))
}

/// The first frame's samples, upright.
fn pixels(image: &JxlImage, notes: &mut Vec<String>) -> Result<(Channels, Samples), DecodeError> {
    let channels = match image.pixel_format() {
        PixelFormat::Gray => Channels::Gray,
        PixelFormat::Graya => Channels::GrayAlpha,
        PixelFormat::Rgb => Channels::Rgb,
        PixelFormat::Rgba => Channels::Rgba,
        PixelFormat::Cmyk | PixelFormat::Cmyka => {
            return Err(unsupported(FORMAT, &"its colours are CMYK: save it again as RGB"));
        }
    };
    let metadata = &image.image_header().metadata;
    let render = image.render_frame(0).map_err(|_| unpacked())?;
    let mut stream = render.stream();
    let count = image.width() as usize * image.height() as usize * channels.count();
    if (stream.width(), stream.height()) != (image.width(), image.height())
        || stream.channels() as usize != channels.count()
    {
        return Err(damaged(FORMAT, &"its first frame is of another size"));
    }
    let mut samples = match metadata.bit_depth {
        BitDepth::IntegerSample { bits_per_sample: 0..=8 } => {
            let mut samples = vec![0_u8; count];
            stream.write_to_buffer(&mut samples);
            Samples::U8(samples)
        }
        depth => {
            if let BitDepth::FloatSample { .. } = depth {
                notes.push("float samples became 16-bit".to_owned());
            } else if depth.bits_per_sample() > 16 {
                notes.push(format!("{}-bit samples became 16-bit", depth.bits_per_sample()));
            }
            let mut samples = vec![0_u16; count];
            stream.write_to_buffer(&mut samples);
            Samples::U16(samples)
        }
    };
    let mut further = metadata.ec_info.len();
    let first_alpha = metadata.ec_info.iter().find(|channel| channel.is_alpha());
    if let Some(alpha) = first_alpha {
        further -= 1;
        if let ExtraChannelType::Alpha { alpha_associated: true } = alpha.ty {
            match &mut samples {
                Samples::U8(samples) => divide(samples, channels.count(), 255),
                Samples::U16(samples) => divide(samples, channels.count(), 65_535),
            }
        }
    }
    // Spot colours are laid over the others.
    further -=
        metadata.ec_info.iter().filter(|c| matches!(c.ty, ExtraChannelType::SpotColour { .. })).count();
    match further {
        0 => {}
        1 => notes.push("a further channel was left out".to_owned()),
        n => notes.push(format!("{n} further channels were left out")),
    }
    Ok((channels, samples))
}

/// Takes the alpha out of colours that were multiplied with it.
fn divide<T: Copy + Into<u64> + TryFrom<u64>>(samples: &mut [T], count: usize, full: u64) {
    for pixel in samples.chunks_exact_mut(count) {
        let alpha: u64 = pixel[count - 1].into();
        for colour in pixel[..count - 1].iter_mut().filter(|_| alpha > 0) {
            let value = (((*colour).into() * full + alpha / 2) / alpha).min(full);
            // Never above the type's own maximum.
            *colour = T::try_from(value).unwrap_or(*colour);
        }
    }
}

/// The profile that describes the decoded samples; none for sRGB, as which a picture without one is shown.
fn profile(image: &JxlImage, bytes_max: usize, notes: &mut Vec<String>) -> Option<Vec<u8>> {
    let metadata = &image.image_header().metadata;
    if let ColourEncoding::Enum(encoding) = &metadata.colour_encoding
        && encoding.tf == TransferFunction::Srgb
        && encoding.white_point == WhitePoint::D65
        && (encoding.primaries == Primaries::Srgb || encoding.colour_space == ColourSpace::Grey)
    {
        return None;
    }
    let profile = match image.original_icc() {
        Some(profile) if !metadata.xyb_encoded => profile.to_vec(),
        // Samples of XYB come out in a space of the decoder's choice, which it describes.
        _ => image.rendered_icc(),
    };
    if profile.len() > bytes_max {
        notes.push(format!("profile dropped: it has {} bytes, more than the limit", profile.len()));
        return None;
    }
    Some(profile)
}

/// Whether any frame is coded with loss. Frames of the lossless kind may have been made coarser before they were coded:
/// that leaves no trace.
fn is_lossy(image: &JxlImage) -> bool {
    let mut frames = (0..image.num_loaded_frames()).filter_map(|index| image.frame(index));
    image.image_header().metadata.xyb_encoded
        || frames.any(|frame| frame.header().encoding == Encoding::VarDct)
}

fn truncated() -> DecodeError {
    DecodeError::Truncated { format: FORMAT }
}

/// For all of the decoder's errors: its texts are meant for its developers.
fn unpacked() -> DecodeError {
    damaged(FORMAT, &"its compressed pixels do not unpack")
}
