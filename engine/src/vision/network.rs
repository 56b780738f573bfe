//! A network for recognition: a list of steps over images in one block of memory.
//!
//! Steps write slices of the channels of their target, so that branches are joined where they are made. Images that are
//! never needed together share memory. All images of a call go through each step together. The size of the input may change
//! from call to call.

use crate::ops::Isa;
use crate::ops::arena::Arena;
use crate::ops::depthwise::{self, Depthwise};
use crate::ops::liveness::{Lifetime, place};
use crate::ops::pool::{self, Windows};
use crate::ops::rectangle::{Activation, Finish, Rectangle, Target, forward, pack_weights};

/// An image of the network: its place in the list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ImageId(usize);

/// A slice of an image's channels: where a step writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) image: ImageId,
    /// Its first channel.
    pub(super) first: usize,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    size: [usize; 2],
    channels: usize,
}

impl Shape {
    const fn len(&self) -> usize {
        self.size[0] * self.size[1] * self.channels
    }
}

enum Work {
    Convolve {
        shape: Rectangle,
        activation: Activation,
        weights: Vec<f32>,
        bias: Vec<f32>,
        working: ImageId,
    },
    Depthwise {
        shape: Depthwise,
        activation: Activation,
        weights: Vec<f32>,
        bias: Vec<f32>,
    },
    Windows(Windows),
    /// The mean of all pixels.
    Mean,
    /// Another image, added.
    Add(ImageId),
}

impl Work {
    /// [height, width] of what it makes of an image.
    fn output(&self, size: [usize; 2]) -> [usize; 2] {
        match self {
            Self::Convolve { shape, .. } => shape.output(size),
            Self::Depthwise { shape, .. } => shape.output(size),
            Self::Windows(windows) => windows.output(size),
            Self::Mean => [1, 1],
            Self::Add(_) => size,
        }
    }

    /// What it needs beside the image that it is done to.
    const fn beside(&self) -> Option<ImageId> {
        match self {
            Self::Convolve { working: image, .. } | Self::Add(image) => Some(*image),
            _ => None,
        }
    }
}

struct Step {
    from: ImageId,
    to: Slot,
    work: Work,
}

/// A network, and the memory that it works in.
pub(super) struct Network {
    isa: Isa,
    images: Vec<Shape>,
    steps: Vec<Step>,
    /// What stays whole until the end of a run.
    kept: Vec<ImageId>,
    /// Where images lie, of one picture each, and the floats they take together.
    offsets: Vec<usize>,
    total: usize,
    arena: Arena,
}

impl Network {
    /// With an input of a size and channels; steps follow.
    pub(super) fn new(isa: Isa, size: [usize; 2], channels: usize) -> (Self, ImageId) {
        let (images, arena) = (vec![Shape { size, channels }], Arena::default());
        let network = Self { isa, images, steps: vec![], kept: vec![], offsets: vec![], total: 0, arena };
        (network, ImageId(0))
    }

    fn image(&mut self, size: [usize; 2], channels: usize) -> ImageId {
        self.images.push(Shape { size, channels });
        ImageId(self.images.len() - 1)
    }

    pub(super) fn size(&self, image: ImageId) -> [usize; 2] {
        self.images[image.0].size
    }

    pub(super) fn channels(&self, image: ImageId) -> usize {
        self.images[image.0].channels
    }

    /// An image that several steps will write slices of.
    pub(super) fn joined(&mut self, size: [usize; 2], channels: usize) -> ImageId {
        self.image(size, channels)
    }

    /// Adds a convolution of OIHW weights and its bias; into a slice, or an image of its own.
    pub(super) fn convolve(
        &mut self,
        from: ImageId,
        shape: Rectangle,
        (oihw, bias): (&[f32], Vec<f32>),
        activation: Activation,
        to: Option<Slot>,
    ) -> ImageId {
        let mut weights = vec![0.0; shape.packed_len()];
        pack_weights(self.isa, oihw, &shape, &mut weights);
        let size = self.size(from);
        let to = to
            .unwrap_or_else(|| Slot { image: self.image(shape.output(size), shape.out_channels), first: 0 });
        let working = self.image([1, 1], shape.working_len(size));
        self.steps.push(Step {
            from,
            to,
            work: Work::Convolve { shape, activation, weights, bias, working },
        });
        to.image
    }

    /// Adds a step that makes an image of its own, of as many channels.
    fn alone(&mut self, from: ImageId, work: Work) -> ImageId {
        let to = self.image(work.output(self.size(from)), self.channels(from));
        self.steps.push(Step { from, to: Slot { image: to, first: 0 }, work });
        to
    }

    /// Adds a convolution of each channel by itself, of (C, 1, K, K) weights, and its bias.
    pub(super) fn depthwise(
        &mut self,
        from: ImageId,
        shape: Depthwise,
        (weights, bias): (&[f32], Vec<f32>),
        activation: Activation,
    ) -> ImageId {
        let weights = depthwise::pack_weights(weights, self.channels(from));
        self.alone(from, Work::Depthwise { shape, activation, weights, bias })
    }

    /// Adds the sum of two images of one shape.
    pub(super) fn add(&mut self, from: ImageId, other: ImageId) -> ImageId {
        self.alone(from, Work::Add(other))
    }

    /// Adds pooling of windows; into a slice, or an image of its own.
    pub(super) fn windows(&mut self, from: ImageId, windows: Windows, to: Option<Slot>) -> ImageId {
        let (size, channels) = (windows.output(self.size(from)), self.channels(from));
        let to = to.unwrap_or_else(|| Slot { image: self.image(size, channels), first: 0 });
        self.steps.push(Step { from, to, work: Work::Windows(windows) });
        to.image
    }

    /// Adds the mean of all pixels.
    pub(super) fn mean(&mut self, from: ImageId) -> ImageId {
        self.alone(from, Work::Mean)
    }

    /// Lays the images out. `kept` stay whole until the end of a run.
    pub(super) fn finish(&mut self, kept: &[ImageId]) {
        self.kept = kept.to_vec();
        self.lay_out();
    }

    /// The same network for an input of another [height, width], which leaves some pixels to every step.
    pub(super) fn resize(&mut self, size: [usize; 2]) {
        if self.images[0].size == size {
            return;
        }
        self.images[0].size = size;
        for Step { from, to, work } in &self.steps {
            let size = self.images[from.0].size;
            self.images[to.image.0].size = work.output(size);
            if let Work::Convolve { shape, working, .. } = work {
                self.images[working.0].channels = shape.working_len(size);
            }
        }
        self.lay_out();
    }

    fn lay_out(&mut self) {
        let images = self.images.iter().map(Shape::len);
        let mut lives: Vec<_> =
            images.map(|length| Lifetime { length, first: usize::MAX, last: 0 }).collect();
        lives[0].first = 0;
        for (at, step) in self.steps.iter().enumerate() {
            for image in [step.from, step.to.image].into_iter().chain(step.work.beside()) {
                let life = &mut lives[image.0];
                (life.first, life.last) = (life.first.min(at), life.last.max(at));
            }
        }
        for image in &self.kept {
            lives[image.0].last = self.steps.len();
        }
        (self.offsets, self.total) = place(&lives);
    }

    fn range(&self, image: ImageId, count: usize) -> std::ops::Range<usize> {
        let begin = self.offsets[image.0] * count;
        begin..begin + self.images[image.0].len() * count
    }

    /// Runs on `count` pictures, which `fill` writes into the input (N, H, W, C).
    pub(super) fn run(&mut self, count: usize, fill: impl FnOnce(&mut [f32])) {
        self.arena.reserve(self.total * count);
        let input = self.range(ImageId(0), count);
        let ([], [input]) = self.arena.view([], [input]);
        fill(input);
        for at in 0..self.steps.len() {
            self.step(at, count);
        }
    }

    fn step(&mut self, at: usize, count: usize) {
        let Step { from, to, ref work } = self.steps[at];
        let (read, written) = (self.range(from, count), self.range(to.image, count));
        let Shape { size, channels } = self.images[from.0];
        let target = |data| Target { data, channels: self.images[to.image.0].channels, first: to.first };
        match work {
            Work::Convolve { shape, activation, weights, bias, working } => {
                let working = self.range(*working, count);
                let ([input], [data, working]) = self.arena.view([read], [written, working]);
                let finish = Finish { bias, activation: *activation };
                forward(self.isa, shape, size, (input, weights), finish, working, target(data));
            }
            Work::Depthwise { shape, activation, weights, bias } => {
                let ([input], [out]) = self.arena.view([read], [written]);
                let finish = Finish { bias, activation: *activation };
                depthwise::forward(self.isa, shape, size, (input, weights), finish, out);
            }
            Work::Add(other) => {
                let other = self.range(*other, count);
                let ([a, b], [out]) = self.arena.view([read, other], [written]);
                out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = a + b);
            }
            Work::Windows(windows) => {
                let ([input], [data]) = self.arena.view([read], [written]);
                pool::windows(self.isa, windows, size, channels, input, target(data));
            }
            Work::Mean => {
                let ([input], [data]) = self.arena.view([read], [written]);
                pool::mean(size[0] * size[1], channels, input, data);
            }
        }
    }

    /// What an image that was kept held after the last run: (N, H, W, C).
    pub(super) fn values(&mut self, image: ImageId, count: usize) -> &[f32] {
        let range = self.range(image, count);
        let ([values], []) = self.arena.view([range], []);
        values
    }
}
