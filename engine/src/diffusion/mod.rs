//! The diffusion process: schedules of noise, what the network predicts, the loss, samplers, noise, tiling, consistency.
