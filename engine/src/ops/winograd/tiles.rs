//! The tiles of a batch of images: what they are cut from, how they are cut into blocks, and how they lie in memory.

use super::algorithm::Algorithm;
use crate::ops::conv_shape::ConvShape;
use crate::ops::simd::LANES;
use crate::ops::source::Window;

/// The tiles of a batch of images.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    /// Outputs of one image.
    pub(super) height: usize,
    pub(super) width: usize,
    /// Rows of tiles of one image.
    pub(super) rows: usize,
    /// Tiles of a row.
    pub(super) columns: usize,
    pub(super) batch: usize,
}

/// Tiles that are computed together: some whole rows of tiles (of all images, counted through), or part of one.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) first_row: usize,
    pub(super) rows: usize,
    pub(super) first_column: usize,
    pub(super) columns: usize,
}

impl Block {
    pub(super) const fn tiles(&self) -> usize {
        self.rows * self.columns
    }

    /// Cuts it, in order, into blocks of about `tiles`, at most twice as many: some rows, or parts of a row, between pairs
    /// of tiles.
    pub(super) fn cut(&self, tiles: usize) -> Vec<Self> {
        let wanted = self.tiles().div_ceil(tiles);
        if wanted <= self.rows {
            let at = |i| self.first_row + i * self.rows / wanted;
            return (0..wanted)
                .map(|i| Self { first_row: at(i), rows: at(i + 1) - at(i), ..*self })
                .collect();
        }
        let pairs = self.columns.div_ceil(2);
        let parts = wanted.div_ceil(self.rows).min(pairs);
        let at = |part: usize| self.first_column + (part * pairs / parts * 2).min(self.columns);
        (0..self.rows)
            .flat_map(|row| (0..parts).map(move |part| (row, part)))
            .map(|(row, part)| Self {
                first_row: self.first_row + row,
                rows: 1,
                first_column: at(part),
                columns: at(part + 1) - at(part),
            })
            .collect()
    }
}

impl Grid {
    /// Of images of so many outputs.
    pub(super) const fn new<A, const P: usize, const Q: usize, const O: usize>(
        height: usize,
        width: usize,
        batch: usize,
    ) -> Self
    where
        A: Algorithm<P, Q, O>,
    {
        let (rows, columns) = ((height + A::BEFORE).div_ceil(O), (width + A::BEFORE).div_ceil(O));
        Self { height, width, rows, columns, batch }
    }

    /// All tiles.
    pub(super) const fn all(&self) -> Block {
        Block { first_row: 0, rows: self.rows * self.batch, first_column: 0, columns: self.columns }
    }

    /// Cuts all tiles into blocks of about `tiles`, fewer where that makes a multiple of `multiple` of them.
    pub(super) fn blocks(&self, tiles: usize, multiple: usize) -> Vec<Block> {
        let all = self.all();
        let wanted = all.tiles().div_ceil(tiles).next_multiple_of(multiple);
        all.cut(all.tiles().div_ceil(wanted))
    }

    /// The parts of a block that lie in one image: image, first row of tiles in it, their number.
    pub(super) fn pieces(&self, block: &Block) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let (rows, end) = (self.rows, block.first_row + block.rows);
        let mut row = block.first_row;
        std::iter::from_fn(move || {
            (row < end).then(|| {
                let (item, first) = (row / rows, row % rows);
                let count = (rows - first).min(end - row);
                row += count;
                (item, first, count)
            })
        })
    }
}

/// Floats between two positions: a line more than they take, so that they do not meet in one cache set.
pub(super) const fn padded(length: usize) -> usize {
    length.next_multiple_of(LANES) + LANES
}

/// What tiles are cut from: those of doubled pixels too from the source's own, with one around it.
pub(super) const fn window(shape: &ConvShape) -> Window {
    Window { repeat: 1, ..shape.window() }
}

#[cfg(test)]
mod tests {
    use super::super::plain::Plain;
    use super::*;

    #[test]
    fn every_tile_and_pair_is_in_one_block() {
        for (height, width, batch, tiles, multiple) in
            [(64, 64, 8, 48, 2), (8, 8, 1, 48, 2), (5, 9, 3, 2, 4), (4, 1000, 2, 96, 2), (1, 1, 1, 48, 8)]
        {
            let grid = Grid::new::<Plain, _, _, _>(height, width, batch);
            let mut seen = vec![0; grid.rows * batch * grid.columns];
            for block in grid.blocks(tiles, multiple) {
                assert!(block.first_column.is_multiple_of(2), "a pair of tiles is in one block");
                let pieces: Vec<_> = grid.pieces(&block).collect();
                assert_eq!(pieces.iter().map(|(.., rows)| rows).sum::<usize>(), block.rows);
                for (item, first, rows) in pieces {
                    assert!(first + rows <= grid.rows);
                    for row in item * grid.rows + first..item * grid.rows + first + rows {
                        let at = row * grid.columns + block.first_column;
                        seen[at..at + block.columns].iter_mut().for_each(|n| *n += 1);
                    }
                }
            }
            assert!(seen.iter().all(|n| *n == 1), "{height}×{width}, {batch} images");
        }
    }
}
