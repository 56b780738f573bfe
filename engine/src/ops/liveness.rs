//! Where each buffer of a network lies: buffers that are never alive together share memory.

use super::arena::LINE;

/// A buffer's size and the steps between which it is needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    /// Floats.
    pub(crate) length: usize,
    /// First step that touches it.
    pub(crate) first: usize,
    /// Last step that touches it.
    pub(crate) last: usize,
}

/// Offsets for all buffers, and the floats they take together. Largest first, each at the lowest place that is free
/// for its whole life.
pub(crate) fn place(lifetimes: &[Lifetime]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..lifetimes.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(lifetimes[i].length), i));
    let mut offsets = vec![0; lifetimes.len()];
    // Placed buffers as (offset, end, index), by offset.
    let mut placed: Vec<(usize, usize, usize)> = Vec::new();
    let mut total = 0;
    for i in order {
        let life = lifetimes[i];
        let length = life.length.next_multiple_of(LINE);
        let mut offset = 0;
        for &(start, end, other) in &placed {
            let together = lifetimes[other].first <= life.last && life.first <= lifetimes[other].last;
            if !together {
                continue;
            }
            if start >= offset + length {
                break;
            }
            offset = offset.max(end);
        }
        offsets[i] = offset;
        total = total.max(offset + length);
        let at = placed.partition_point(|p| p.0 <= offset);
        placed.insert(at, (offset, offset + length, i));
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn buffers_that_are_alive_together_never_overlap(
            buffers in proptest::collection::vec((1usize..200, 0usize..20, 0usize..8), 1..40),
        ) {
            let lifetimes: Vec<Lifetime> = buffers
                .iter()
                .map(|&(length, first, steps)| Lifetime { length, first, last: first + steps })
                .collect();
            let (offsets, total) = place(&lifetimes);
            for (i, a) in lifetimes.iter().enumerate() {
                prop_assert!(offsets[i] % LINE == 0 && offsets[i] + a.length <= total);
                for (j, b) in lifetimes.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last;
                    let overlap = offsets[i] < offsets[j] + b.length && offsets[j] < offsets[i] + a.length;
                    prop_assert!(!(together && overlap), "{i} and {j}");
                }
            }
        }
    }
}
