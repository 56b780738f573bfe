//! GIF by the `gif` crate: the first frame on its screen, the rest of an animation unread.
//!
//! Alpha comes out only if some pixel of the screen is really transparent or uncovered.

use std::num::NonZeroU64;

use ::gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use super::{Channels, DecodeError, DecodeLimits, Found, InputFormat, Samples, damaged};

const FORMAT: InputFormat = InputFormat::Gif;

pub(super) fn read(bytes: &[u8], limits: &DecodeLimits) -> Result<Found, DecodeError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(
        NonZeroU64::new(limits.pixels_max).map_or(MemoryLimit::Unlimited, MemoryLimit::Bytes),
    );
    let mut decoder = options.read_info(bytes).map_err(|e| fault(&e))?;
    let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    limits.admit(width as u64, height as u64)?;

    let frame = decoder.next_frame_info().map_err(|e| fault(&e))?;
    let Some(frame) = frame else { return Err(damaged(FORMAT, &"there is no frame in it")) };
    limits.admit(frame.width.into(), frame.height.into())?;
    let placed = Placed {
        left: frame.left.into(),
        top: frame.top.into(),
        width: frame.width.into(),
        height: frame.height.into(),
        transparent: frame.transparent,
    };
    let mut indices = vec![0; decoder.buffer_size()];
    decoder.read_into_buffer(&mut indices).map_err(|e| fault(&e))?;
    let palette = decoder.palette().map_err(|e| fault(&e))?;
    let (channels, samples) = placed.paint(&indices, palette, width, height);
    let icc =
        decoder.icc_profile().filter(|profile| profile.len() <= limits.profile_bytes_max).map(<[u8]>::to_vec);

    let mut notes = Vec::new();
    match decoder.next_frame_info() {
        Ok(None) => {}
        Ok(Some(_)) => notes.push("first frame of an animation".to_owned()),
        Err(error) if is_end(&error) => {
            notes.push("the end marker is missing; the first frame is whole".to_owned());
        }
        Err(_) => notes.push("the file is damaged after its first frame".to_owned()),
    }
    let samples = Samples::U8(samples);
    Ok(Found {
        width,
        height,
        channels,
        samples,
        icc,
        exif: None,
        density: None,
        orientation: None,
        lossy: false,
        notes,
    })
}

/// Whether the bytes ended where more were due.
fn is_end(error: &DecodingError) -> bool {
    match error {
        DecodingError::UnexpectedEof => true,
        DecodingError::Io(io) => io.kind() == std::io::ErrorKind::UnexpectedEof,
        _ => false,
    }
}

/// The crate's errors in words of our own: its texts are meant for its developers.
fn fault(error: &DecodingError) -> DecodeError {
    if is_end(error) {
        return DecodeError::Truncated { format: FORMAT };
    }
    let what = match error {
        DecodingError::OutOfMemory | DecodingError::MemoryLimit => "its sizes are impossible",
        DecodingError::LzwError(_) | DecodingError::EndCodeNotFound => "its compressed pixels do not unpack",
        _ => "its blocks are wrong or in disorder",
    };
    damaged(FORMAT, &what)
}

/// A frame's place on the screen.
struct Placed {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    transparent: Option<u8>,
}

impl Placed {
    /// The screen with the frame on it: what lies outside is cut off, what is not covered is transparent.
    fn paint(&self, indices: &[u8], palette: &[u8], width: usize, height: usize) -> (Channels, Vec<u8>) {
        let columns = self.width.min(width.saturating_sub(self.left));
        let rows = self.height.min(height.saturating_sub(self.top));
        let covered = self.left == 0 && self.top == 0 && (columns, rows) == (width, height);
        let channels = if covered && self.transparent.is_none_or(|clear| !indices.contains(&clear)) {
            Channels::Rgb
        } else {
            Channels::Rgba
        };
        let count = channels.count();
        let mut samples = vec![0; width * height * count];
        for y in 0..rows {
            let row = &indices[y * self.width..][..columns];
            let start = ((self.top + y) * width + self.left) * count;
            // A frame wholly to the right of the screen has no columns, and its rows may start past the last pixel.
            let pixels = samples.get_mut(start..).unwrap_or_default();
            for (pixel, &index) in pixels.chunks_exact_mut(count).zip(row) {
                let colour = usize::from(index) * 3;
                // An index past the palette is black, as in browsers.
                pixel[..3].copy_from_slice(palette.get(colour..colour + 3).unwrap_or(&[0; 3]));
                if let Some(alpha) = pixel.get_mut(3) {
                    *alpha = if self.transparent == Some(index) { 0 } else { u8::MAX };
                }
            }
        }
        (channels, samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PALETTE: [u8; 6] = [10, 20, 30, 40, 50, 60];

    fn paint(left: usize, top: usize, transparent: Option<u8>) -> (Channels, Vec<u8>) {
        Placed { left, top, width: 2, height: 2, transparent }.paint(&[0, 1, 1, 0], &PALETTE, 2, 2)
    }

    #[test]
    fn a_frame_is_placed_cut_and_made_opaque_only_if_it_covers_the_screen() {
        let [a, b] = [[10, 20, 30], [40, 50, 60]];
        assert_eq!(paint(0, 0, None), (Channels::Rgb, [a, b, b, a].concat()));
        assert_eq!(paint(0, 0, Some(9)).0, Channels::Rgb, "a transparent index that no pixel has");
        let clear = paint(0, 0, Some(1)).1;
        assert_eq!(clear.iter().skip(3).step_by(4).collect::<Vec<_>>(), [&255, &0, &0, &255]);
        let shifted = paint(1, 1, None);
        assert_eq!(shifted, (Channels::Rgba, [vec![0; 12], vec![10, 20, 30, 255]].concat()));
        for (left, top) in [(2, 0), (0, 2), (2, 2), (60_000, 1), (5, 60_000)] {
            assert_eq!(paint(left, top, None), (Channels::Rgba, vec![0; 16]), "at {left}, {top}");
        }
        // An index past the palette.
        let odd =
            Placed { left: 0, top: 0, width: 1, height: 1, transparent: None }.paint(&[7], &PALETTE, 1, 1);
        assert_eq!(odd, (Channels::Rgb, vec![0; 3]));
    }
}
