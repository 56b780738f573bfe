//! The engine against golden numbers, real files and itself: one binary, so that it is linked once.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is a failure")]

mod adm_diffusion;
mod checkpoint;
mod common;
mod devices;
mod exactness;
#[cfg(feature = "candle")]
mod executors_agree;
mod generator;
mod image_formats;
mod image_hard_files;
mod image_metadata;
mod image_metadata_files;
mod image_real_files;
mod image_round_trip;
mod image_tiff;
mod image_tiff_pages;
mod import_adm;
mod import_files;
mod import_hostile;
mod import_janspiry;
mod import_pickles;
mod loss;
mod metrics;
mod noise;
mod npz;
mod projection;
mod resize;
mod samplers;
mod sampling_traces;
mod schedules;
mod set_metrics;
mod tiling;
mod tiling_upscale;
#[cfg(feature = "candle")]
mod training_step;
mod unet_adm;
#[cfg(feature = "candle")]
mod unet_candle;
mod unet_plan;
mod upscale_adm;
