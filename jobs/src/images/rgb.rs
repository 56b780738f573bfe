//! Pictures as numbers are computed of them: eight bits of red, green and blue.

use sr3_engine::image::{self, DecodeLimits, Picture, Planes};

/// Eight bits of red, green and blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rgb {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pixels: Vec<u8>,
}

impl Rgb {
    /// A file's bytes, decoded and upright. Transparency is left out, deeper samples are rounded.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let picture = image::decode(bytes, &DecodeLimits::default()).map_err(|e| e.to_string())?.picture;
        Ok(Self::of(&picture))
    }

    /// What a picture shows, as [`Self::decode`] has it.
    pub(crate) fn of(picture: &Picture) -> Self {
        let Planes { width, height, rgb, .. } = image::to_planes(picture);
        let pixels = rgb.iter().map(|v| ((v + 1.0) * 127.5).round() as u8).collect();
        Self { width, height, pixels }
    }
}
