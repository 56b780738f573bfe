//! Which passes of a network make a scale, and what they cost. Pure.
//!
//! A network enlarges by one factor, its step. Up to that factor a single pass is made, and its result reduced where it
//! is too large. Beyond it, passes follow each other so that the last one ends at the very scale that was asked for:
//! what the first made is reduced before the next where the passes would otherwise overshoot (5 by a network of 4 is
//! 4 → 1.25 → 5, not 16 → 5). A pass costs as many evaluations as its output has pixels, so that nothing is
//! computed that is thrown away again; docs/scales.md compares the ways not taken.

use crate::diffusion::Tile;

/// How a network of scale `step` reaches `scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passes {
    step: usize,
    scale: usize,
    count: u32,
    /// What enters the second pass, over the input: a fraction in lowest terms.
    second: (usize, usize),
}

impl Passes {
    /// For a `step` of at least 1 and a `scale` of at least 1. A network of scale 1 makes one pass, whatever is asked.
    pub fn new(step: usize, scale: usize) -> Self {
        let (mut count, mut reached) = (1, step.max(1));
        while step >= 2 && reached < scale {
            reached = reached.saturating_mul(step);
            count += 1;
        }
        let before_last = step.max(1).saturating_pow(count - 1);
        let common = gcd(scale, before_last).max(1);
        Self { step, scale, count, second: (scale / common, before_last / common) }
    }

    /// How often the network runs over the picture.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// What the first pass's result is reduced to before the second, over the input, as (numerator, denominator); None
    /// where the second takes it as it is, or where there is none.
    pub fn reduced_to(&self) -> Option<(usize, usize)> {
        (self.count > 1 && self.second != (self.step, 1)).then_some(self.second)
    }

    /// Columns or rows that a pass (from 1) puts out, of an input with `side` of them. Sides are filled up so that
    /// the fraction comes out whole; what was filled up is cut off at the end.
    pub fn side(&self, side: usize, pass: u32) -> usize {
        let (above, below) = self.second;
        match pass {
            1 => side.saturating_mul(self.step),
            _ => (self.filled_up(side) / below)
                .saturating_mul(above)
                .saturating_mul(self.step.saturating_pow(pass - 1)),
        }
    }

    /// `side` filled up to what the reduction divides.
    pub(super) fn filled_up(&self, side: usize) -> usize {
        if self.reduced_to().is_some() { side.next_multiple_of(self.second.1) } else { side }
    }

    /// Pixels that go through the network in one step of every pass, for an input of `width` × `height`: more than come
    /// out, by what tiles overlap.
    pub fn evaluated(&self, width: usize, height: usize, tile: Tile) -> u64 {
        let along = |side: usize| match side > tile.size {
            true => (side - tile.overlap).div_ceil((tile.size - tile.overlap).max(1)) * tile.size,
            false => side,
        };
        let pass = |pass| along(self.side(width, pass)) as u64 * along(self.side(height, pass)) as u64;
        (1..=self.count).map(pass).sum()
    }

    /// Pixels of the largest picture that is in memory for an input of `width` × `height`: that of the largest pass, or
    /// the result.
    pub fn largest(&self, width: usize, height: usize) -> u64 {
        let pass = |pass| self.side(width, pass) as u64 * self.side(height, pass) as u64;
        let result = (width as u64 * self.scale as u64) * (height as u64 * self.scale as u64);
        (1..=self.count).map(pass).max().unwrap_or(0).max(result)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pass_ends_at_the_scale_that_was_asked_for() {
        for step in [2, 3, 4, 8] {
            for scale in step..=64 {
                let passes = Passes::new(step, scale);
                for side in [1, 7, 100, 101] {
                    let last = passes.side(side, passes.count());
                    assert!(last >= side * scale, "{step} to {scale} of {side}: {last}");
                    let beyond = last - side * scale;
                    assert!(beyond < scale * step.pow(passes.count()), "{step} to {scale} of {side}: {last}");
                }
            }
        }
    }

    #[test]
    fn a_scale_is_made_in_the_fewest_pixels() {
        let sides = |scale: usize| {
            let passes = Passes::new(4, scale);
            (1..=passes.count()).map(|pass| passes.side(100, pass)).collect::<Vec<_>>()
        };
        assert_eq!(sides(1), [400]);
        assert_eq!(sides(2), [400]);
        assert_eq!(sides(4), [400]);
        assert_eq!(sides(5), [400, 500]);
        assert_eq!(sides(8), [400, 800]);
        assert_eq!(sides(15), [400, 1500]);
        assert_eq!(sides(16), [400, 1600]);
        assert_eq!(sides(20), [400, 500, 2000]);
        assert_eq!(sides(64), [400, 1600, 6400]);
        assert_eq!(Passes::new(4, 16).reduced_to(), None);
        assert_eq!(Passes::new(4, 6).reduced_to(), Some((3, 2)));
        assert_eq!(Passes::new(4, 8).reduced_to(), Some((2, 1)));
        assert_eq!(Passes::new(4, 8).largest(700, 700), 5600 * 5600);
        assert_eq!(Passes::new(4, 2).largest(700, 700), 2800 * 2800);
        // 101 is filled up to 104, so that 1.25 of it are whole pixels.
        assert_eq!(Passes::new(4, 5).side(101, 2), 520);
    }

    #[test]
    fn tiles_that_overlap_are_evaluated_twice_there() {
        let tile = Tile { size: 256, overlap: 32 };
        assert_eq!(Passes::new(4, 4).evaluated(50, 60, tile), 200 * 240);
        // 400 columns are two tiles.
        assert_eq!(Passes::new(4, 4).evaluated(100, 60, tile), 512 * 240);
        assert_eq!(Passes::new(4, 8).evaluated(60, 60, tile), 240 * 240 + 512 * 512);
    }

    #[test]
    fn a_network_that_does_not_enlarge_makes_one_pass() {
        assert_eq!((Passes::new(1, 3).count(), Passes::new(1, 3).largest(10, 10)), (1, 900));
    }
}
