//! Pictures for a page: read, cut to what fits beside another, and encoded.
//!
//! A picture that cannot be read is left out; a report does not fail for it.

use bytes::Bytes;
use sr3_engine::{
    image::{self, Channels, DecodeLimits, Metadata, OutputFormat, Picture, Planes, Samples},
    ops::resize::{Filter, resize_u8},
};
use sr3_proto::{Key, Store, off_thread};

/// Longest file that is read for a page.
const BYTES_MAX: u64 = 256 << 20;
/// Sides of what is shown, in pixels.
pub(super) const SIDE: usize = 320;

/// Eight bits of red, green and blue.
#[derive(Clone, Debug)]
pub(super) struct Rgb {
    pub(super) width: usize,
    pub(super) height: usize,
    pixels: Vec<u8>,
}

/// The picture at a key, on white where it is transparent.
pub(super) async fn read(store: &Store, key: &Key) -> Option<Rgb> {
    let info = store.head(key).await.ok()??;
    if info.bytes > BYTES_MAX {
        return None;
    }
    let (_, bytes) = store.get(key).await.ok()?;
    off_thread(move || decode(&bytes)).await.ok()?
}

fn decode(bytes: &Bytes) -> Option<Rgb> {
    let picture = image::decode(bytes, &DecodeLimits::default()).ok()?.picture.flattened([255; 3]);
    let Planes { width, height, rgb, .. } = image::to_planes(&picture);
    let pixels = rgb.iter().map(|v| ((v + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8).collect();
    Some(Rgb { width, height, pixels })
}

impl Rgb {
    /// A part of it; one that reaches beyond it is cut.
    pub(super) fn part(&self, [left, top]: [usize; 2], [width, height]: [usize; 2]) -> Self {
        let (left, top) = (left.min(self.width), top.min(self.height));
        let (width, height) = (width.min(self.width - left), height.min(self.height - top));
        let row = |y: usize| &self.pixels[(y * self.width + left) * 3..][..width * 3];
        let pixels = (top..top + height).flat_map(|y| row(y).iter().copied()).collect();
        Self { width, height, pixels }
    }

    /// Enlarged by bicubic.
    pub(super) fn enlarged(&self, scale: usize) -> Self {
        let size = [self.height * scale, self.width * scale];
        let pixels = resize_u8(&self.pixels, [self.height, self.width, 3], size, Filter::Bicubic);
        Self { width: size[1], height: size[0], pixels }
    }

    /// As PNG; none of nothing.
    pub(super) fn png(self) -> Option<Vec<u8>> {
        let Self { width, height, pixels } = self;
        let (channels, samples, metadata) = (Channels::Rgb, Samples::U8(pixels), Metadata::default());
        let picture = Picture { width, height, channels, samples, metadata };
        image::encode(&picture, OutputFormat::Png, 100).ok().map(|encoded| encoded.bytes)
    }
}

/// The middle of a small picture, and where that lies in what was made of it at `scale`: as much as shows at the sides of
/// [`SIDE`].
pub(super) fn middle(small: [usize; 2], scale: usize) -> ([usize; 2], [usize; 2]) {
    let size = small.map(|side| side.min((SIDE / scale.max(1)).max(1)));
    ([(small[0] - size[0]) / 2, (small[1] - size[1]) / 2], size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_fits_beside_another_and_a_part_beyond_is_cut() {
        assert_eq!(middle([1000, 50], 4), ([460, 0], [80, 50]));
        assert_eq!(middle([3, 3], 1000), ([1, 1], [1, 1]));
        let rgb = Rgb { width: 4, height: 2, pixels: (0..24).collect() };
        let part = rgb.part([3, 1], [9, 9]);
        assert_eq!((part.width, part.height, part.pixels), (1, 1, vec![21, 22, 23]));
        assert_eq!(rgb.enlarged(3).png().unwrap()[..4], *b"\x89PNG");
    }
}
