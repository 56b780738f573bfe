//! Numeric kernels on channels-last `f32` buffers. `unsafe` lives here and nowhere else in the project.

pub mod resize;
