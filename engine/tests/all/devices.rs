//! What a result does not depend on: the device beyond its last digits, and the batch that a device has room for.

use std::ops::ControlFlow;

use crate::common::max_difference;
use sr3_engine::device::Device;
use sr3_engine::image::{Channels, DecodeLimits, Samples, decode};
use sr3_engine::model::bundled::Bundled;
use sr3_engine::model::{Conditions, Denoiser, DenoiserError, Packed};
use sr3_engine::ops::Precision;
use sr3_engine::upscaler::{LowRes, Recipe, RecipeRequest, UpscaleError, Upscaler};

const WIDTH: usize = 21;
const HEIGHT: usize = 17;

/// A part of a photograph, (17, 21, 3) in [-1, 1].
fn photo() -> Vec<f32> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/photos/canyons/antelope.png");
    let decoded = decode(&std::fs::read(path).unwrap(), &DecodeLimits::default()).unwrap();
    let (width, [left, top]) = (decoded.picture.width, [40, 30]);
    let (Channels::Rgb, Samples::U8(bytes)) = (decoded.picture.channels, decoded.picture.samples) else {
        panic!("a photograph of 8 bits")
    };
    let rows = bytes.chunks_exact(width * 3).skip(top).take(HEIGHT);
    let cut = rows.flat_map(|row| &row[left * 3..(left + WIDTH) * 3]);
    cut.map(|&value| f32::from(value) / 127.5 - 1.0).collect()
}

/// The box's model on a device, in tiles that overlap, before any rounding.
fn upscale(network: impl Denoiser, batch: usize) -> Result<Vec<f32>, UpscaleError> {
    let checkpoint = Bundled::find("photo-4x").unwrap().checkpoint().unwrap();
    let request = RecipeRequest {
        steps: Some(2),
        tile: Some(48),
        batch: Some(batch),
        seed: 3,
        projection: true,
        ..RecipeRequest::default()
    };
    let rgb = photo();
    let input = LowRes { width: WIDTH, height: HEIGHT, rgb: &rgb, key: "antelope.png", lossy: false };
    let mut upscaler = Upscaler::new(network, Recipe::new(&checkpoint.config, &request).unwrap()).unwrap();
    let results = upscaler.upscale(&[input], &mut |_| ControlFlow::Continue(()))?;
    Ok(results.into_iter().next().unwrap().rgb)
}

fn open(device: Device) -> Box<dyn Denoiser> {
    let checkpoint = Bundled::find("photo-4x").unwrap().checkpoint().unwrap();
    device.open(&checkpoint.config.model, &checkpoint.weights, Precision::F32, Packed::Once).unwrap()
}

#[test]
#[cfg(feature = "candle")]
fn the_code_of_gpus_enlarges_a_photograph_as_the_plan_does_with_any_batch_and_any_number_of_threads() {
    let on_cpu = upscale(open(Device::Cpu), 2).unwrap();
    let on_candle = upscale(open(Device::CandleCpu), 1).unwrap();
    let difference = max_difference(&on_cpu, &on_candle);
    println!("candle-cpu is {difference:.1e} from cpu");
    assert!(0.0 < difference && difference < 1e-4, "{difference}");
    for (batch, threads) in [(2, 2), (3, 1), (9, 3)] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let again = pool.install(|| upscale(open(Device::CandleCpu), batch)).unwrap();
        assert!(again == on_candle, "another batch ({batch}) or number of threads ({threads}), other bits");
    }
}

/// A device with room for so many tiles.
struct Small {
    network: Box<dyn Denoiser>,
    room: usize,
    refused: usize,
}

impl Denoiser for Small {
    fn in_channels(&self) -> usize {
        self.network.in_channels()
    }

    fn out_channels(&self) -> usize {
        self.network.out_channels()
    }

    fn size_multiple(&self) -> usize {
        self.network.size_multiple()
    }

    fn predict_conditioned(
        &mut self,
        shape: [usize; 3],
        input: &[f32],
        conditions: Conditions<'_>,
        prediction: &mut [f32],
    ) -> Result<(), DenoiserError> {
        let [items, height, width] = shape;
        if items > self.room {
            self.refused += 1;
            // What was begun is no result.
            prediction.fill(f32::NAN);
            return Err(DenoiserError::OutOfMemory { items, height, width });
        }
        self.network.predict_conditioned(shape, input, conditions, prediction)
    }
}

#[test]
fn a_device_that_runs_out_of_memory_gets_fewer_tiles_and_makes_the_same_bytes() {
    let expected = upscale(open(Device::Cpu), 1).unwrap();
    for (room, batch) in [(1, 2), (1, 9), (2, 5), (3, 64)] {
        let mut small = Small { network: open(Device::Cpu), room, refused: 0 };
        let found = upscale(&mut small, batch).unwrap();
        assert!(found == expected, "room for {room} of {batch} tiles");
        // It learns: what did not fit is not tried again and again.
        assert!(
            (1..=6).contains(&small.refused),
            "{} refusals with room for {room} of {batch}",
            small.refused
        );
    }
}

#[test]
fn a_device_without_room_for_one_tile_is_one_line_that_says_what_to_do() {
    let small = Small { network: open(Device::Cpu), room: 0, refused: 0 };
    let error = upscale(small, 4).unwrap_err();
    assert!(
        matches!(error, UpscaleError::Denoiser(DenoiserError::OutOfMemory { items: 1, .. })),
        "{error:?}"
    );
    let line = error.to_string();
    assert!(line.contains("out of memory") && line.contains("tile") && !line.contains('\n'), "{line}");
}
