//! Tiles cover every pixel of every size, and their weights sum to 1.

use proptest::prelude::*;
use sr3_engine::diffusion::{Tile, TileAxis, TileError, Tiling};

fn rows(length: usize, size: usize, overlap: usize, multiple: usize) -> TileAxis {
    Tiling::new([length, 1], Tile { size, overlap }, multiple, 1).unwrap().rows
}

/// Sum of the weights at every pixel of the axis.
fn sums(axis: &TileAxis, padded: usize) -> Vec<f32> {
    let mut sums = vec![0.0; padded];
    for i in 0..axis.starts().len() {
        for (p, w) in axis.span(i).zip(axis.weights(i)) {
            assert!(*w > 0.0 && *w <= 1.0, "weight {w}");
            sums[p] += w;
        }
    }
    sums
}

#[test]
fn every_length_to_1000_is_covered_once_in_weight() {
    for (size, overlap, multiple) in [(192, 32, 4), (64, 0, 8), (16, 15, 1), (96, 60, 16), (100, 20, 8)] {
        let tile = usize::next_multiple_of(size, multiple);
        for length in 1..=1000 {
            let tiling = Tiling::new([length, 1], Tile { size, overlap }, multiple, 1).unwrap();
            let [padded, _] = tiling.padded_size();
            let [shape, _] = tiling.tile_size();
            let starts = tiling.rows.starts();
            assert!(sums(&tiling.rows, padded).iter().all(|s| (s - 1.0).abs() < 1e-6), "{length}");
            assert_eq!(shape % multiple, 0);
            if length <= tile {
                assert_eq!((starts, padded), (&[0][..], length.next_multiple_of(multiple)));
            } else {
                assert_eq!((shape, padded, starts[starts.len() - 1] + tile), (tile, length, length));
                assert!(starts.windows(2).all(|w| w[0] < w[1] && w[1] + overlap <= w[0] + tile), "{length}");
                // No more tiles than the overlap asks for.
                assert!((starts.len() - 1) * (tile - overlap) + overlap < length);
            }
        }
    }
}

#[test]
fn weights_change_smoothly() {
    let axis = rows(500, 192, 48, 4);
    for i in 0..axis.starts().len() {
        let steps = axis.weights(i).windows(2).map(|w| (w[1] - w[0]).abs());
        assert!(steps.fold(0.0, f32::max) < 0.05);
        // Next to nothing where the tile ends and the network saw no neighbours.
        if i > 0 {
            assert!(axis.weights(i)[0] < 1e-3);
        }
    }
}

#[test]
fn tiles_start_where_small_pixels_and_coarse_ones_do() {
    for (length, scale, multiple, grid) in
        [(4000, 4, 4, 4), (2452, 4, 8, 8), (1200, 3, 4, 12), (996, 2, 4, 4)]
    {
        let tile = Tile { size: 192, overlap: 32 };
        let axis = Tiling::new([length, 1], tile, multiple, scale).unwrap().rows;
        let starts = axis.starts();
        assert!(starts[..starts.len() - 1].iter().all(|start| start % grid == 0), "{length}: {starts:?}");
        assert!(starts.windows(2).all(|w| w[1] + tile.overlap <= w[0] + tile.size), "{length}: {starts:?}");
    }
}

#[test]
fn a_single_tile_counts_in_full() {
    let axis = rows(190, 192, 32, 4);
    assert_eq!(axis.weights(0), [1.0; 192]);
}

#[test]
fn tiles_are_numbered_row_by_row() {
    let tiling = Tiling::new([300, 500], Tile { size: 192, overlap: 32 }, 4, 4).unwrap();
    let [down, across] = [tiling.rows.starts().len(), tiling.columns.starts().len()];
    assert_eq!((down, across, tiling.count()), (2, 3, 6));
    let places: Vec<[usize; 2]> = (0..6).map(|i| tiling.place(i)).collect();
    assert_eq!(places, [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]);
}

#[test]
fn tiles_that_never_advance_are_refused() {
    let cut = |size, overlap| Tiling::new([10, 10], Tile { size, overlap }, 1, 1).unwrap_err();
    assert_eq!(cut(0, 0), TileError::Size);
    assert_eq!(cut(8, 8), TileError::Overlap { size: 8, overlap: 8 });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tile_covers_any_length(length in 1_usize..1000, size in 1_usize..300, share in 0_usize..100, log in 0_u32..5) {
        let axis = Tiling::new([length, 1], Tile { size, overlap: size * share / 100 }, 1 << log, 1).unwrap();
        let sums = sums(&axis.rows, axis.padded_size()[0]);
        prop_assert!(sums.iter().all(|s| (s - 1.0).abs() < 2e-6), "{sums:?}");
    }
}
