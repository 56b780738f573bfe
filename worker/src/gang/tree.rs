//! The order in which gradients are summed up: one binary tree over the grains, whoever holds them. Pure.
//!
//! A part of the tree is cut at the largest power of two below its length, so that any contiguous range of grains is a few
//! whole parts ([`cover`]): what a member sums up by itself. The rest is summed up by others, in the same tree. Addition is one
//! f32 operation a value, so that the result has the same bits however the grains are shared out.
//!
//! With 16 bits on the wire ([`Wire::Bf16`]) every part of the tree is rounded once it is summed up, whether it travels or
//! not: otherwise the bits would tell who was where.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

/// What values are rounded to when they are summed up and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// Nothing: 32 bits.
    #[default]
    F32,
    /// The nearest bfloat16, of two the even one.
    Bf16,
}

/// A part of the tree: grains `first .. first + len`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// The first grain.
    pub first: u32,
    /// How many.
    pub len: u32,
}

impl Node {
    /// The whole tree.
    pub const fn root(grains: u32) -> Self {
        Self { first: 0, len: grains }
    }

    /// Its two halves; none of a single grain.
    pub const fn halves(self) -> Option<[Self; 2]> {
        if self.len < 2 {
            return None;
        }
        let left = 1 << (u32::BITS - 1 - (self.len - 1).leading_zeros());
        let Self { first, len } = self;
        Some([Self { first, len: left }, Self { first: first + left, len: len - left }])
    }

    const fn end(self) -> u32 {
        self.first + self.len
    }
}

/// The fewest parts of the tree that are `range` together, in order.
pub fn cover(grains: u32, range: &Range<u32>) -> Vec<Node> {
    fn descend(node: Node, range: &Range<u32>, found: &mut Vec<Node>) {
        if node.end() <= range.start || range.end <= node.first {
            return;
        }
        if range.start <= node.first && node.end() <= range.end {
            return found.push(node);
        }
        for half in node.halves().into_iter().flatten() {
            descend(half, range, found);
        }
    }
    let mut found = Vec::new();
    if grains > 0 {
        descend(Node::root(grains), range, &mut found);
    }
    found
}

/// Who computes which grains: contiguous ranges in the order of ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    grains: u32,
    bounds: Vec<u32>,
}

impl Cut {
    /// As even as whole grains allow. Of more members than grains some get none.
    pub fn even(grains: u32, members: u32) -> Self {
        let bound = |i: u32| (u64::from(grains) * u64::from(i) / u64::from(members.max(1))) as u32;
        Self { grains, bounds: (0..=members.max(1)).map(bound).collect() }
    }

    /// Grains, all together.
    pub const fn grains(&self) -> u32 {
        self.grains
    }

    /// Members.
    pub fn members(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Those of a rank.
    pub fn of(&self, rank: usize) -> Range<u32> {
        self.bounds[rank]..self.bounds[rank + 1]
    }

    /// The parts of the tree that a rank sums up by itself.
    pub fn nodes(&self, rank: usize) -> Vec<Node> {
        cover(self.grains, &self.of(rank))
    }
}

/// Rounds values as they are sent.
pub fn round(values: &mut [f32], wire: Wire) {
    if wire == Wire::Bf16 {
        values.iter_mut().for_each(|value| *value = f32::from_bits(u32::from(to_bf16(*value)) << 16));
    }
}

/// The nearest bfloat16; what is no number stays none.
pub fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// Sums up grains in the tree as they come, in order: keeps a buffer for each part that waits for its other half. Of all grains
/// that is never more than the tree is deep and one; of a range that begins amid the tree it may be twice as many.
#[derive(Debug)]
pub struct Leaves {
    grains: u32,
    wire: Wire,
    parts: Vec<(Node, Vec<f32>)>,
    spare: Vec<Vec<f32>>,
}

impl Leaves {
    /// Of a tree over so many grains.
    pub const fn new(grains: u32, wire: Wire) -> Self {
        Self { grains, wire, parts: Vec::new(), spare: Vec::new() }
    }

    /// Adds the gradient of a grain: the one after the last.
    pub fn push(&mut self, grain: u32, mut gradient: Vec<f32>) {
        round(&mut gradient, self.wire);
        self.parts.push((Node { first: grain, len: 1 }, gradient));
        while let [.., (left, _), (right, _)] = self.parts.as_slice()
            && let Some(parent) = parent(self.grains, *left, *right)
        {
            let Some((_, right)) = self.parts.pop() else { return };
            let Some((node, left)) = self.parts.last_mut() else { return };
            Numbers::Floats(&right).add_to(left, self.wire);
            *node = parent;
            self.spare.push(right);
        }
    }

    /// A buffer that is no longer needed.
    pub fn spare(&mut self) -> Option<Vec<f32>> {
        self.spare.pop()
    }

    /// The parts of the tree that the grains are together.
    pub fn finish(self) -> Vec<(Node, Vec<f32>)> {
        self.parts
    }
}

/// The part whose halves these are, if they are two halves.
fn parent(grains: u32, left: Node, right: Node) -> Option<Node> {
    let mut node = Node::root(grains);
    loop {
        let halves = node.halves()?;
        if halves == [left, right] {
            return Some(node);
        }
        node = halves.into_iter().find(|half| half.first <= left.first && right.end() <= half.end())?;
    }
}

/// Numbers that are added to a sum where they lie.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a> {
    /// Of this process.
    Floats(&'a [f32]),
    /// As they came: little-endian, wherever they lie.
    F32(&'a [[u8; 4]]),
    /// And those of 16 bits.
    Bf16(&'a [[u8; 2]]),
    /// Bits of so many that another process of this machine wrote: two in a cell, the first in its lower half.
    Shared(&'a [AtomicU64], usize),
}

impl Numbers<'_> {
    /// How many.
    pub const fn len(&self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::Shared(_, length) => *length,
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of them.
    fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Self::Floats(values) => Self::Floats(&values[range]),
            Self::F32(values) => Self::F32(&values[range]),
            Self::Bf16(values) => Self::Bf16(&values[range]),
            // Ranges begin at multiples of a stretch, which is even.
            Self::Shared(cells, _) => {
                Self::Shared(&cells[range.start / 2..range.end.div_ceil(2)], range.len())
            }
        }
    }

    /// Writes them to a list as long.
    pub fn copy_to(self, to: &mut [f32]) {
        match self {
            Self::Floats(values) => to.copy_from_slice(values),
            Self::F32(values) => to.iter_mut().zip(values).for_each(|(to, b)| *to = f32::from_le_bytes(*b)),
            Self::Bf16(values) => to.iter_mut().zip(values).for_each(|(to, b)| *to = from_bf16(*b)),
            Self::Shared(cells, _) => shared(cells, to, |to, value| *to = value),
        }
    }

    /// Adds them to a list as long.
    fn add_to(self, sum: &mut [f32], wire: Wire) {
        fn all<T>(sum: &mut [f32], values: &[T], of: impl Fn(&T) -> f32) {
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += of(value));
        }
        match self {
            Self::Floats(values) => all(sum, values, |value| *value),
            Self::F32(values) => all(sum, values, |bytes| f32::from_le_bytes(*bytes)),
            Self::Bf16(values) => all(sum, values, |bytes| from_bf16(*bytes)),
            Self::Shared(cells, _) => shared(cells, sum, |sum, value| *sum += value),
        }
        round(sum, wire);
    }
}

/// Does something to each number of a list, with the one in the cells. Whoever was told where they lie sees what was written there.
fn shared(cells: &[AtomicU64], list: &mut [f32], each: impl Fn(&mut f32, f32)) {
    let halves = |cell: &AtomicU64| {
        let bits = cell.load(Ordering::Relaxed);
        [bits as u32, (bits >> 32) as u32].map(f32::from_bits)
    };
    let (pairs, last) = list.as_chunks_mut::<2>();
    let (whole, rest) = cells.split_at(pairs.len());
    for ([a, b], cell) in pairs.iter_mut().zip(whole) {
        let [first, second] = halves(cell);
        each(a, first);
        each(b, second);
    }
    if let ([last], [cell, ..]) = (last, rest) {
        each(last, halves(cell)[0]);
    }
}

fn from_bf16(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

/// Numbers that are summed up at once: they stay in the nearest cache.
const STRETCH: usize = 1 << 11;

/// Sums up parts of the tree, which together are all of it, into its root: `sum`, as long as each of them.
pub fn combine(grains: u32, parts: &BTreeMap<Node, Numbers<'_>>, wire: Wire, sum: &mut [f32]) {
    fn of(node: Node, first: usize, parts: &BTreeMap<Node, Numbers<'_>>, wire: Wire, sum: &mut [f32]) {
        let range = first..first + sum.len();
        if let Some(there) = parts.get(&node) {
            return there.slice(range).copy_to(sum);
        }
        let Some([left, right]) = node.halves() else { return };
        of(left, first, parts, wire, sum);
        match parts.get(&right) {
            Some(there) => there.slice(range).add_to(sum, wire),
            None => {
                let mut other = [0.0; STRETCH];
                let other = &mut other[..sum.len()];
                of(right, first, parts, wire, other);
                Numbers::Floats(other).add_to(sum, wire);
            }
        }
    }
    for (i, stretch) in sum.chunks_mut(STRETCH).enumerate() {
        of(Node::root(grains), i * STRETCH, parts, wire, stretch);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gradients whose sums depend on their order.
    fn gradient(grain: u32) -> Vec<f32> {
        (0..37u32).map(|i| ((i * 7919 + grain * 104_729) % 2003) as f32 * 1.1e-3 - 1.0).collect()
    }

    fn alone(grains: u32, wire: Wire) -> Vec<f32> {
        let mut leaves = Leaves::new(grains, wire);
        (0..grains).for_each(|grain| leaves.push(grain, gradient(grain)));
        let parts = leaves.finish();
        assert_eq!(parts.len(), 1);
        parts.into_iter().next().unwrap().1
    }

    proptest! {
        #[test]
        fn any_contiguous_ranges_give_the_same_bits(
            grains in 1u32..17,
            cuts in prop::collection::vec(0u32..17, 0..6),
            bf16: bool,
        ) {
            let wire = if bf16 { Wire::Bf16 } else { Wire::F32 };
            let mut bounds: Vec<u32> = cuts.iter().map(|cut| cut.min(&grains)).copied().collect();
            bounds.extend([0, grains]);
            bounds.sort_unstable();
            let mut parts: BTreeMap<Node, Vec<f32>> = BTreeMap::new();
            for pair in bounds.windows(2) {
                let mut leaves = Leaves::new(grains, wire);
                (pair[0]..pair[1]).for_each(|grain| leaves.push(grain, gradient(grain)));
                let of_member = leaves.finish();
                let nodes: Vec<Node> = of_member.iter().map(|(node, _)| *node).collect();
                prop_assert_eq!(nodes, cover(grains, &(pair[0]..pair[1])));
                parts.extend(of_member);
            }
            let parts = parts.iter().map(|(node, values)| (*node, Numbers::Floats(values))).collect();
            let mut sum = vec![0.0; 37];
            combine(grains, &parts, wire, &mut sum);
            prop_assert!(sum == alone(grains, wire));
        }

        #[test]
        fn every_grain_is_one_member_s(grains in 1u32..40, members in 1u32..50) {
            let cut = Cut::even(grains, members);
            let all: Vec<u32> = (0..members as usize).flat_map(|rank| cut.of(rank)).collect();
            prop_assert_eq!(all, (0..grains).collect::<Vec<_>>());
            let sizes = (0..members as usize).map(|rank| cut.of(rank).len());
            let (least, most) = (sizes.clone().min().unwrap(), sizes.max().unwrap());
            prop_assert!(most - least <= 1);
        }
    }

    #[test]
    fn a_power_of_two_of_members_has_one_part_each() {
        for members in [1, 2, 4, 8] {
            let cut = Cut::even(8, members);
            assert!((0..members as usize).all(|rank| cut.nodes(rank).len() == 1));
        }
        assert_eq!(Cut::even(8, 3).nodes(1), [Node { first: 2, len: 2 }, Node { first: 4, len: 1 }]);
    }

    #[test]
    fn sixteen_bits_are_the_nearest_and_none_stays_none() {
        // Halfway between two it is the even one.
        for (value, expected) in [
            (1.0, 0x3f80),
            (1.0 + 1.0 / 256.0, 0x3f80),
            (1.0 + 3.0 / 256.0, 0x3f82),
            (1.004, 0x3f81),
            (f32::MAX, 0x7f80),
        ] {
            assert_eq!(to_bf16(value), expected, "{value}");
        }
        assert!(f32::from_bits(u32::from(to_bf16(f32::NAN)) << 16).is_nan());
    }

    #[test]
    fn buffers_are_kept_as_deep_as_the_tree() {
        let mut leaves = Leaves::new(16, Wire::F32);
        for grain in 0..16 {
            leaves.push(grain, gradient(grain));
            assert!(leaves.parts.len() <= 5);
        }
        assert!(leaves.spare().is_some());
    }
}
