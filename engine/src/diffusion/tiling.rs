//! Tiles for any image size, and the weights with which their predictions are blended.
//!
//! Pure arithmetic on sizes. Rows and columns are cut independently, so a tile's weight at a pixel is the product of
//! one number per axis; per axis they sum to 1 at every pixel. In an axis that a tile covers the image is taken whole,
//! padded up to the network's multiple; otherwise all tiles have the full size and none reaches beyond the image.
//!
//! Promises: every pixel is covered, every weight is above 0, all tiles of an image have one shape. Never: a tile that
//! depends on batch, memory or device.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// How an image that is larger than a tile is cut, in output pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tile {
    /// Height and width of a tile; rounded up to the network's multiple.
    pub size: usize,
    /// Pixels that neighbouring tiles share at least, below `size`. More hides borders better and costs more.
    pub overlap: usize,
}

/// Why nothing can be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// A tile without pixels.
    #[error("tiles of size 0: take at least 1")]
    Size,
    /// Tiles that would never advance.
    #[error("tiles of {size} cannot overlap by {overlap}: take less than the size")]
    Overlap {
        /// Height and width of a tile.
        size: usize,
        /// Pixels that neighbours should share.
        overlap: usize,
    },
}

/// The cuts along one axis.
#[derive(Clone, Debug, PartialEq)]
pub struct TileAxis {
    padded: usize,
    tile: usize,
    starts: Vec<usize>,
    /// `tile` weights for each start.
    weights: Vec<f32>,
}

/// The tiles of one image, numbered row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Tiling {
    /// Cuts along the height.
    pub rows: TileAxis,
    /// Cuts along the width.
    pub columns: TileAxis,
}

impl Tile {
    /// Checks that images can be cut like this.
    ///
    /// # Errors
    /// [`TileError`] where the size is 0 or the overlap not below it.
    pub fn validate(self) -> Result<(), TileError> {
        match self {
            Self { size: 0, .. } => Err(TileError::Size),
            Self { size, overlap } if overlap >= size => Err(TileError::Overlap { size, overlap }),
            _ => Ok(()),
        }
    }
}

impl Tiling {
    /// Cuts an image of [height, width]; `multiple` is what the network wants heights and widths to be a multiple of,
    /// `scale` how many pixels came of one. Tiles start where a pixel of the small image does, and where the network's
    /// coarsest pixels do, as the crops did that it was trained on.
    ///
    /// # Errors
    /// [`TileError`] where `tile` is none.
    pub fn new(
        [height, width]: [usize; 2],
        tile: Tile,
        multiple: usize,
        scale: usize,
    ) -> Result<Self, TileError> {
        tile.validate()?;
        let multiple = multiple.max(1);
        let grid = (1..).map(|k| k * multiple).find(|g| g.is_multiple_of(scale.max(1))).unwrap_or(multiple);
        let axis = |length| TileAxis::new(length, tile, multiple, grid);
        Ok(Self { rows: axis(height), columns: axis(width) })
    }

    /// Tiles in all.
    pub fn count(&self) -> usize {
        self.rows.starts.len() * self.columns.starts.len()
    }

    /// [height, width] of every tile.
    pub fn tile_size(&self) -> [usize; 2] {
        [self.rows.tile, self.columns.tile]
    }

    /// [height, width] of the image with the padding that the tiles reach into.
    pub fn padded_size(&self) -> [usize; 2] {
        [self.rows.padded, self.columns.padded]
    }

    /// Row and column number of tile `index`.
    pub fn place(&self, index: usize) -> [usize; 2] {
        [index / self.columns.starts.len(), index % self.columns.starts.len()]
    }
}

impl TileAxis {
    fn new(length: usize, Tile { size, overlap }: Tile, multiple: usize, grid: usize) -> Self {
        let size = size.next_multiple_of(multiple);
        if length <= size {
            let padded = length.next_multiple_of(multiple);
            return Self { padded, tile: padded, starts: vec![0], weights: vec![1.0; padded] };
        }
        // As few tiles as the overlap allows, spread evenly: where the last has to be shifted to end at the border,
        // all share the surplus, and with it longer ramps.
        let count = (length - overlap).div_ceil(size - overlap);
        let mut starts: Vec<usize> = (0..count).map(|i| i * (length - size) / (count - 1)).collect();
        // Back to the grid, but never so far that a neighbour shares less than the overlap.
        for i in (1..count - 1).rev() {
            let least = (starts[i + 1] + overlap).saturating_sub(size);
            starts[i] = (starts[i] / grid * grid).max(least);
        }
        Self { padded: length, tile: size, weights: blend(&starts, size, length), starts }
    }

    /// First pixel of every tile.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// Pixels that tile `i` covers.
    pub fn span(&self, i: usize) -> Range<usize> {
        self.starts[i]..self.starts[i] + self.tile
    }

    /// What the prediction of tile `i` counts at each of its pixels.
    pub fn weights(&self, i: usize) -> &[f32] {
        &self.weights[i * self.tile..(i + 1) * self.tile]
    }
}

/// Weights of every tile: a smooth ramp over what it shares with each neighbour, divided by the sum at each pixel.
fn blend(starts: &[usize], size: usize, length: usize) -> Vec<f32> {
    let ramp = |pixels_in: usize, shared: usize| {
        let t = ((pixels_in as f64 + 0.5) / shared as f64).min(1.0);
        t * t * (3.0 - 2.0 * t)
    };
    let shared = |i: usize| (starts[i] + size).saturating_sub(starts[i + 1]);
    let raw = |i: usize, p: usize| {
        let rise = if i > 0 { ramp(p, shared(i - 1)) } else { 1.0 };
        let fall = if i + 1 < starts.len() { ramp(size - 1 - p, shared(i)) } else { 1.0 };
        rise * fall
    };
    let mut sums = vec![0.0; length];
    for (i, &start) in starts.iter().enumerate() {
        for p in 0..size {
            sums[start + p] += raw(i, p);
        }
    }
    let tile = |(i, &start): (usize, &usize)| {
        (0..size).map(|p| (raw(i, p) / sums[start + p]) as f32).collect::<Vec<f32>>()
    };
    starts.iter().enumerate().flat_map(tile).collect()
}
