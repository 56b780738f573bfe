//! One block of memory for all the buffers of an evaluation.

use std::ops::Range;

/// A cache line: what every buffer starts at.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Floats of a cache line. Offsets handed to [`Arena::view`] should be multiples of it.
pub(crate) const LINE: usize = 16;

/// Memory that grows to the largest evaluation seen and is then reused.
#[derive(Default)]
pub(crate) struct Arena {
    lines: Vec<Line>,
}

impl Arena {
    /// Makes room for `length` floats. What the arena held may be lost.
    pub(crate) fn reserve(&mut self, length: usize) {
        let lines = length.div_ceil(LINE);
        if self.lines.len() < lines {
            // A new block rather than a copy of the old one: fresh zero pages cost nothing until they are touched.
            self.lines = Vec::new();
            self.lines = vec![Line([0.0; LINE]); lines];
        }
    }

    /// Some ranges to read and some to write, at once.
    ///
    /// # Panics
    /// If a range to write overlaps any other, or one passes the end.
    pub(crate) fn view<const R: usize, const W: usize>(
        &mut self,
        reads: [Range<usize>; R],
        writes: [Range<usize>; W],
    ) -> ([&[f32]; R], [&mut [f32]; W]) {
        let length = self.lines.len() * LINE;
        for (i, write) in writes.iter().enumerate() {
            let others = reads.iter().chain(&writes[i + 1..]);
            let disjoint = |other: &Range<usize>| {
                other.is_empty() || write.is_empty() || other.end <= write.start || write.end <= other.start
            };
            assert!(others.into_iter().all(disjoint), "buffers that are alive together overlap");
        }
        assert!(
            reads.iter().chain(&writes).all(|r| r.start <= r.end && r.end <= length),
            "outside the arena"
        );
        let base = self.lines.as_mut_ptr().cast::<f32>();
        // SAFETY: all ranges lie within the block, which `self` borrows mutably for as long as the slices live; a
        // range that is written overlaps no other; Line is LINE floats without padding.
        unsafe {
            (
                reads.map(|r| std::slice::from_raw_parts(base.add(r.start).cast_const(), r.len())),
                writes.map(|r| std::slice::from_raw_parts_mut(base.add(r.start), r.len())),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "overlap")]
    fn a_buffer_cannot_be_read_and_written_at_once() {
        let mut arena = Arena::default();
        arena.reserve(64);
        let (read, write) = (0..20, 16..32);
        let _ = arena.view([read], [write]);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut arena = Arena::default();
        arena.reserve(40);
        let ([], [a, b]) = arena.view([], [0..16, 16..40]);
        a.fill(1.0);
        b.fill(2.0);
        let ([a, b, none], []) = arena.view([0..16, 16..40, 0..0], []);
        assert!(a.iter().all(|v| *v == 1.0) && b.iter().all(|v| *v == 2.0) && none.is_empty());
    }
}
