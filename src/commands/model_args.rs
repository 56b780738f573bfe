//! The options that choose a model and how it is used, shared by every command that runs one.

use clap::{Args, value_parser};
use sr3_engine::device::Device;
use sr3_jobs::{DeviceChoice, Wish, upscale::Machine};

use crate::exit::CommandError;

/// Model, sampling and machine.
#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// What decides the result.
    #[command(flatten)]
    pub wish: Wish,
    /// Tiles computed at once; changes speed and memory, never the result [default: 2].
    #[arg(long, value_parser = value_parser!(u32).range(1..=4096))]
    pub batch: Option<u32>,
    /// What computes: cpu, candle-cpu (the code of GPUs on the CPU), or cuda:0 for the first NVIDIA GPU; see `sr3 devices`
    /// [default: cpu; for a cluster, any].
    #[arg(long, value_parser = device)]
    pub device: Option<Device>,
    /// Threads that compute [default: one per core].
    #[arg(long, value_parser = value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

impl ModelArgs {
    /// What is chosen of this machine.
    ///
    /// # Errors
    /// The device is not here.
    pub fn machine(&self) -> Result<Machine, CommandError> {
        if let Some(device) = self.device {
            device.check().map_err(|e| CommandError::usage(e.to_string()))?;
        }
        Ok(Machine { device: self.device, batch: self.batch })
    }

    /// What is asked of a cluster.
    ///
    /// # Errors
    /// Something that is this machine's alone.
    pub fn for_cluster(&self) -> Result<Wish, CommandError> {
        if self.batch.is_some() || self.threads.is_some() {
            return Err(CommandError::usage(
                "--batch and --threads are the workers' own settings: leave them out with --coordinator",
            ));
        }
        let device = match self.device {
            None => DeviceChoice::Any,
            Some(Device::Cpu) => DeviceChoice::Cpu,
            Some(Device::Cuda(_)) => DeviceChoice::Cuda,
            Some(Device::CandleCpu) => {
                return Err(CommandError::usage(
                    "--device candle-cpu is for this machine alone: with --coordinator take cpu or cuda:0",
                ));
            }
        };
        Ok(Wish { device, ..self.wish.clone() })
    }

    /// Makes the pool that computes, of as many threads as were asked for.
    pub fn start_threads(&self) {
        start_threads(self.threads);
    }
}

/// Makes the process's pool; None for a thread per core.
pub(super) fn start_threads(threads: Option<u16>) {
    if let Some(threads) = threads {
        // A pool that exists already can only be one that a test made.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global();
    }
}

/// A device's name.
pub(super) fn device(name: &str) -> Result<Device, String> {
    name.parse().map_err(|e: sr3_engine::device::DeviceError| e.to_string())
}
