//! What a convolution reads: images side by side, normalised on the way into its working memory.

use super::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// One item's image: (H, W, C).
#[derive(Clone, Copy)]
pub(crate) struct Segment<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) channels: usize,
}

/// scale · x + shift per channel, then SiLU where asked: a group norm with the statistics of one item.
#[derive(Clone, Copy)]
pub(crate) struct Prologue<'a> {
    /// (C)
    pub(crate) scale: &'a [f32],
    /// (C)
    pub(crate) shift: &'a [f32],
    pub(crate) silu: bool,
}

/// One item's input: the channels of the first image, then those of the second.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) segments: [Segment<'a>; 2],
    pub(crate) prologue: Option<Prologue<'a>>,
}

impl<'a> Source<'a> {
    /// One image as it is.
    pub(crate) const fn plain(data: &'a [f32], channels: usize) -> Self {
        Self { segments: [Segment { data, channels }, Segment { data: &[], channels: 0 }], prologue: None }
    }

    pub(crate) const fn channels(&self) -> usize {
        self.segments[0].channels + self.segments[1].channels
    }
}

/// How source pixels become the rows of a padded band.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    /// Size of the source.
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Every pixel this many times in both directions (nearest upsampling).
    pub(crate) repeat: usize,
    /// Zeros on every side.
    pub(crate) pad: usize,
}

impl Window {
    const fn wide_height(&self) -> usize {
        self.height * self.repeat
    }

    const fn wide_width(&self) -> usize {
        self.width * self.repeat
    }

    pub(crate) const fn padded_height(&self) -> usize {
        self.wide_height() + 2 * self.pad
    }

    pub(crate) const fn padded_width(&self) -> usize {
        self.wide_width() + 2 * self.pad
    }

    /// The row of the source that a padded row shows, if it shows one.
    fn source_row(&self, padded: usize) -> Option<usize> {
        padded.checked_sub(self.pad).filter(|&y| y < self.wide_height()).map(|y| y / self.repeat)
    }
}

/// Writes rows `first .. first + count` (0 is the first padded row) of the padded image into `out`:
/// (count, padded width, C).
pub(crate) fn pack(
    isa: Isa,
    source: &Source<'_>,
    window: &Window,
    first: usize,
    count: usize,
    out: &mut [f32],
) {
    let channels = source.channels();
    let row_length = window.padded_width() * channels;
    assert_eq!(out.len(), count * row_length, "a band has its rows");
    let mut packed: Option<(usize, usize)> = None;
    for i in 0..count {
        let row = i * row_length;
        match (window.source_row(first + i), packed) {
            (None, _) => out[row..row + row_length].fill(0.0),
            (Some(y), Some((of, at))) if of == y => out.copy_within(at..at + row_length, row),
            (Some(y), _) => {
                dispatch(isa, PackRow { source, window, y, out: &mut out[row..row + row_length] });
                packed = Some((y, row));
            }
        }
    }
}

struct PackRow<'a> {
    source: &'a Source<'a>,
    window: &'a Window,
    y: usize,
    out: &'a mut [f32],
}

impl Kernel for PackRow<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { source, window, y, out } = self;
        let channels = source.channels();
        let (left, right) = (window.pad * channels, (window.pad + window.wide_width()) * channels);
        out[..left].fill(0.0);
        out[right..].fill(0.0);
        let step = window.repeat * channels;
        let mut offset = 0;
        for segment in &source.segments {
            let width = segment.channels;
            if width == 0 {
                continue;
            }
            let row = &segment.data[y * window.width * width..(y + 1) * window.width * width];
            let vectors = Channels { prologue: source.prologue, offset, width };
            for (x, pixel) in row.chunks_exact(width).enumerate() {
                let at = left + x * step + offset;
                // SAFETY: `pixel` has `width` lanes, `out` has them at `at`, scale and shift are sliced there.
                unsafe { vectors.transform::<S>(pixel, &mut out[at..at + width]) };
            }
            offset += width;
        }
        if window.repeat > 1 {
            for x in 0..window.width {
                let at = left + x * step;
                for again in 1..window.repeat {
                    out.copy_within(at..at + channels, at + again * channels);
                }
            }
        }
    }
}

struct Channels<'a> {
    prologue: Option<Prologue<'a>>,
    offset: usize,
    width: usize,
}

impl Channels<'_> {
    /// # Safety
    /// Instructions as [`Simd`] asks.
    #[inline(always)]
    unsafe fn transform<S: Simd>(&self, pixel: &[f32], out: &mut [f32]) {
        let Some(prologue) = self.prologue else {
            out.copy_from_slice(pixel);
            return;
        };
        let scale = &prologue.scale[self.offset..self.offset + self.width];
        let shift = &prologue.shift[self.offset..self.offset + self.width];
        let mut c = 0;
        while c < self.width {
            let n = self.width - c;
            // SAFETY: all four slices have `width` ≥ c + min(n, LANES) values.
            unsafe {
                let x = S::load_n(pixel.as_ptr().add(c), n);
                let z = S::fma(x, S::load_n(scale.as_ptr().add(c), n), S::load_n(shift.as_ptr().add(c), n));
                let z = if prologue.silu { S::silu(z) } else { z };
                S::store_n(out.as_mut_ptr().add(c), z, n);
            }
            c += LANES;
        }
    }
}

/// A part of a padded image: rows and columns count from the first padded one, and may pass the last.
#[derive(Clone, Copy)]
pub(crate) struct Patch {
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    pub(crate) first_column: usize,
    pub(crate) columns: usize,
}

/// Up to [`LANES`] channels of a source that lie in one image.
#[derive(Clone, Copy)]
pub(crate) struct Slice {
    pub(crate) segment: usize,
    /// Within the segment.
    pub(crate) first: usize,
    /// Within the source.
    pub(crate) channel: usize,
    pub(crate) lanes: usize,
}

impl Source<'_> {
    /// All channels, in order, as slices.
    pub(crate) fn slices(&self) -> impl Iterator<Item = Slice> {
        let widths = self.segments.map(|s| s.channels);
        widths.into_iter().enumerate().flat_map(move |(segment, width)| {
            let offset = if segment == 0 { 0 } else { widths[0] };
            (0..width).step_by(LANES).map(move |first| Slice {
                segment,
                first,
                channel: offset + first,
                lanes: LANES.min(width - first),
            })
        })
    }
}

/// Writes a slice of a patch into `out`, (rows, columns, LANES): zeros outside the image and in lanes past the slice.
pub(crate) fn pack_slice(
    isa: Isa,
    source: &Source<'_>,
    window: &Window,
    patch: &Patch,
    slice: &Slice,
    out: &mut [f32],
) {
    let row = patch.columns * LANES;
    assert!(out.len() >= patch.rows * row, "a patch has its rows");
    let mut packed: Option<(usize, usize)> = None;
    for i in 0..patch.rows {
        let at = i * row;
        match (window.source_row(patch.first_row + i), packed) {
            (None, _) => out[at..at + row].fill(0.0),
            (Some(y), Some((of, from))) if of == y => out.copy_within(from..from + row, at),
            (Some(y), _) => {
                dispatch(isa, PackSlice { source, window, patch, slice, y, out: &mut out[at..at + row] });
                packed = Some((y, at));
            }
        }
    }
}

struct PackSlice<'a> {
    source: &'a Source<'a>,
    window: &'a Window,
    patch: &'a Patch,
    slice: &'a Slice,
    y: usize,
    out: &'a mut [f32],
}

impl Kernel for PackSlice<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { source, window, patch, slice, y, out } = self;
        let segment = &source.segments[slice.segment];
        let width = segment.channels;
        let row = &segment.data[y * window.width * width..(y + 1) * window.width * width];
        // Columns of the patch that show the image.
        let begin = window.pad.saturating_sub(patch.first_column).min(patch.columns);
        let end = (window.pad + window.wide_width()).saturating_sub(patch.first_column).min(patch.columns);
        out[..begin * LANES].fill(0.0);
        out[end * LANES..].fill(0.0);
        if begin >= end {
            return;
        }
        let first = patch.first_column + begin - window.pad;
        let pixels = (first..first + end - begin).map(|x| x / window.repeat);
        let n = slice.lanes;
        let normalise = source.prologue.map(|p| {
            let (scale, shift) = (&p.scale[slice.channel..][..n], &p.shift[slice.channel..][..n]);
            // SAFETY: both have n values.
            unsafe { (S::load_n(scale.as_ptr(), n), S::load_n(shift.as_ptr(), n), p.silu) }
        });
        assert!(slice.first + n <= width && n <= LANES, "a slice lies within its image");
        for (x, to) in pixels.zip(out[begin * LANES..].chunks_exact_mut(LANES)) {
            // SAFETY: x is a pixel of the row (the patch shows width · repeat of them), and n channels from `first` are its own;
            // `to` has LANES values.
            unsafe {
                let v = S::load_n(row.as_ptr().add(x * width + slice.first), n);
                let v = match normalise {
                    None => v,
                    Some((scale, shift, false)) => S::fma(v, scale, shift),
                    Some((scale, shift, true)) => S::silu(S::fma(v, scale, shift)),
                };
                S::store(to.as_mut_ptr(), v);
            }
        }
    }
}
