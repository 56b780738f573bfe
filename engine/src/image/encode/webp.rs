//! Lossless WebP by `image-webp`. 8 bit; gray is widened to RGB by the format itself.

use image_webp::{ColorType, WebPEncoder};

use super::carried::Carried;
use super::{EncodeError, OutputFormat, Picture, eight_bit, failed, sides};
use crate::image::exif;
use crate::image::picture::Channels;

const FORMAT: OutputFormat = OutputFormat::Webp;

pub(super) fn write(
    picture: &Picture,
    carried: &Carried<'_>,
    notes: &mut Vec<String>,
) -> Result<Vec<u8>, EncodeError> {
    let (width, height) = sides::<u32>(picture, FORMAT)?;
    let samples = eight_bit(&picture.samples, FORMAT, notes);
    let colours = match picture.channels {
        Channels::Gray => ColorType::L8,
        Channels::GrayAlpha => ColorType::La8,
        Channels::Rgb => ColorType::Rgb8,
        Channels::Rgba => ColorType::Rgba8,
    };
    let mut bytes = Vec::new();
    let mut encoder = WebPEncoder::new(&mut bytes);
    match &picture.metadata.icc {
        Some(_) if !picture.channels.is_colour() => {
            notes.push(
                "profile left out: WebP holds gray as RGB, which a gray profile does not describe".to_owned(),
            );
        }
        Some(profile) => encoder.set_icc_profile(profile.clone()),
        None => {}
    }
    if let Some(block) = &carried.exif {
        encoder.set_exif_metadata(block.clone());
    }
    if let Some(packet) = &carried.xmp {
        encoder.set_xmp_metadata(packet.clone().into_bytes());
    }
    let told = carried.exif.as_deref().and_then(|block| exif::facts(block).ok()?.density);
    if picture.metadata.density.is_some() && told.is_none() {
        notes.push("density left out: WebP has no place for it".to_owned());
    }
    encoder.encode(&samples, width, height, colours).map_err(|e| failed(FORMAT, &e))?;
    Ok(bytes)
}
