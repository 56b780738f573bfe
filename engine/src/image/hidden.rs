//! The colours of pixels that cannot be seen, kept for the result.
//!
//! [`super::to_planes`] replaces them, so that they do not bleed into the edge. But they may mean something: textures
//! keep a second picture there, editors the colour of what was erased. So they are put back at the end, where the
//! result's alpha is 0 and nowhere else: no pixel that shows changes.
//!
//! Where all hidden pixels have one colour, so have those of the result. Else each takes the stored colour of the nearest
//! pixel of the input: a filter would make colours that nobody stored, of values that may be keys or numbers, and mix
//! the visible edge into them.

use super::picture::{Picture, Samples};

/// What a picture stores under alpha 0.
#[derive(Clone, Debug)]
pub struct HiddenColours {
    width: usize,
    height: usize,
    /// One pixel, or all of the picture.
    stored: Samples,
}

impl HiddenColours {
    /// The colours under alpha 0 of `picture`; `None` where no pixel has that. Takes a copy of the samples if there is
    /// more than one such colour.
    pub fn of(picture: &Picture) -> Option<Self> {
        if !picture.channels.has_alpha() {
            return None;
        }
        let count = picture.channels.count();
        let stored = match &picture.samples {
            Samples::U8(samples) => Samples::U8(needed(samples, count)?),
            Samples::U16(samples) => Samples::U16(needed(samples, count)?),
        };
        Some(Self { width: picture.width, height: picture.height, stored })
    }

    /// Puts the colours where `result`, the same picture at another size, has alpha 0. A result with other channels or
    /// another depth stays as it is.
    pub fn restore(&self, result: &mut Picture) {
        if !result.channels.has_alpha() || !result.is_whole() {
            return;
        }
        let count = result.channels.count();
        let size = (result.width, result.height);
        match (&self.stored, &mut result.samples) {
            (Samples::U8(stored), Samples::U8(samples)) => self.put(stored, samples, count, size),
            (Samples::U16(stored), Samples::U16(samples)) => self.put(stored, samples, count, size),
            _ => {}
        }
    }

    fn put<T: Copy + Default + PartialEq>(
        &self,
        stored: &[T],
        samples: &mut [T],
        count: usize,
        (width, height): (usize, usize),
    ) {
        for (i, pixel) in samples.chunks_exact_mut(count).enumerate() {
            if pixel[count - 1] != T::default() {
                continue;
            }
            let (x, y) = (i % width * self.width / width, i / width * self.height / height);
            let at = if stored.len() == count { 0 } else { (y * self.width + x) * count };
            if let Some(colours) = stored.get(at..at + count - 1) {
                pixel[..count - 1].copy_from_slice(colours);
            }
        }
    }
}

/// One pixel where all hidden ones are alike, all samples where they are not, `None` where there is none.
fn needed<T: Copy + Default + PartialEq>(samples: &[T], count: usize) -> Option<Vec<T>> {
    let mut hidden = samples.chunks_exact(count).filter(|pixel| pixel[count - 1] == T::default());
    let first = hidden.next()?;
    Some(if hidden.all(|pixel| pixel == first) { first.to_vec() } else { samples.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::super::metadata::Metadata;
    use super::super::picture::Channels;
    use super::*;

    fn picture(channels: Channels, width: usize, samples: Samples) -> Picture {
        let height = samples.len() / channels.count() / width;
        Picture { width, height, channels, samples, metadata: Metadata::default() }
    }

    #[test]
    fn one_hidden_colour_is_that_of_every_hidden_pixel() {
        let input = picture(Channels::Rgba, 2, Samples::U8(vec![9, 8, 7, 0, 1, 2, 3, 255]));
        let mut result =
            picture(Channels::Rgba, 4, Samples::U8([[50, 50, 50, 0], [50, 50, 50, 1]].concat().repeat(4)));
        HiddenColours::of(&input).unwrap().restore(&mut result);
        // Also where the nearest pixel of the input shows; a pixel of alpha 1 shows and stays.
        assert_eq!(result.samples, Samples::U8([[9, 8, 7, 0], [50, 50, 50, 1]].concat().repeat(4)));
    }

    #[test]
    fn several_hidden_colours_are_each_where_they_were() {
        let input = picture(Channels::GrayAlpha, 2, Samples::U16(vec![700, 0, 41_000, 0, 5, 65_535, 60, 0]));
        let mut result = picture(Channels::GrayAlpha, 4, Samples::U16([1, 0].repeat(16)));
        HiddenColours::of(&input).unwrap().restore(&mut result);
        let [top, bottom] = [[700, 0, 700, 0, 41_000, 0, 41_000, 0], [5, 0, 5, 0, 60, 0, 60, 0]];
        assert_eq!(result.samples, Samples::U16([top, top, bottom, bottom].concat()));
    }

    #[test]
    fn a_picture_that_hides_nothing_keeps_nothing() {
        for (channels, samples) in [
            (Channels::Rgb, vec![0; 12]),
            (Channels::Gray, vec![0; 4]),
            (Channels::Rgba, vec![0, 0, 0, 1]),
            (Channels::GrayAlpha, vec![0, 255]),
        ] {
            assert!(HiddenColours::of(&picture(channels, 1, Samples::U8(samples))).is_none());
        }
    }
}
