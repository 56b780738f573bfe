//! Where a network runs: our own plan on the CPU, or the candle executor on the CPU or an NVIDIA GPU.
//!
//! Everything above knows a [`Denoiser`] only. What bits a result has is named by its *class*: results of one class are the
//! same whoever computed them, results of two may differ in their last digits. In f32 every CPU gives the class `f32`. In
//! bf16 each set of instructions is a class of its own, and so is each generation of GPUs.
//!
//! `candle-cpu` runs the GPU's code on a machine without one: it is what tests run, and slower than `cpu` by far. What is here
//! for CUDA compiles with the feature `cuda`; this module never looks for a GPU by itself without it.

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "candle")]
use crate::model::{CandleUNet, first_line, is_out_of_memory};
use crate::model::{CpuUNet, Denoiser, Graph, ModelError, Packed, UNetConfig, Weights};
use crate::ops::{Isa, Precision};

#[cfg(feature = "cuda")]
mod gpu;
#[cfg(not(feature = "cuda"))]
mod no_gpu;
mod operations;
mod verify;

pub use verify::{Difference, verify};

/// A device of this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Device {
    /// The CPU, by our own kernels.
    #[default]
    Cpu,
    /// The CPU, by candle's.
    CandleCpu,
    /// The NVIDIA GPU of that number, by candle's.
    Cuda(usize),
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No device has this name.
    #[error(
        "no device is called `{name}`: take cpu, candle-cpu, cuda:0 for the first NVIDIA GPU, or cuda for all of them"
    )]
    Unknown {
        /// What was given.
        name: String,
    },
    /// This build cannot.
    #[error("{device} cannot be used: this sr3 was built without {feature}: {way_out}")]
    NotBuilt {
        /// Which device.
        device: Device,
        /// What is missing.
        feature: &'static str,
        /// What to do.
        way_out: &'static str,
    },
    /// The machine has no such GPU.
    #[error("{device} cannot be used: {reason}")]
    NotThere {
        /// Which device.
        device: Device,
        /// One line.
        reason: String,
    },
    /// It does not compute in this precision.
    #[error("{device} computes in f32 alone: leave --dtype {precision} out")]
    Precision {
        /// Which device.
        device: Device,
        /// What was asked for.
        precision: Precision,
    },
    /// Its memory is too small for the weights, or full.
    #[error("{device} has no memory left for the model: end what else uses it, or take another device")]
    OutOfMemory {
        /// Which device.
        device: Device,
    },
    /// The network cannot be built there.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// What is known of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its name for people.
    pub name: String,
    /// Classes of bits that it gives, f32 first.
    pub classes: Vec<String>,
    /// Its memory in bytes, and what of it is free; none where it shares the machine's.
    pub memory: Option<[u64; 2]>,
}

impl Device {
    /// The devices that a name means: `cuda` is all GPUs.
    ///
    /// # Errors
    /// [`DeviceError`] where there is none of that name here.
    pub fn named(name: &str) -> Result<Vec<Self>, DeviceError> {
        if name != "cuda" {
            let device: Self = name.parse()?;
            return device.check().map(|()| vec![device]);
        }
        let all: Vec<_> = Self::all().into_iter().filter(|device| matches!(device, Self::Cuda(_))).collect();
        match all.is_empty() {
            true => Err(Self::Cuda(0).check().err().unwrap_or(DeviceError::NotThere {
                device: Self::Cuda(0),
                reason: "this machine has no NVIDIA GPU".to_string(),
            })),
            false => Ok(all),
        }
    }

    /// Those of this machine that this build can use.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Cpu];
        if cfg!(feature = "candle") {
            all.push(Self::CandleCpu);
        }
        // Their numbers have no gaps.
        all.extend((0..).map(Self::Cuda).take_while(|gpu| gpu.check().is_ok()));
        all
    }

    /// Whether it is here.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn check(self) -> Result<(), DeviceError> {
        match self {
            Self::Cpu => Ok(()),
            Self::CandleCpu if cfg!(feature = "candle") => Ok(()),
            Self::CandleCpu => Err(DeviceError::NotBuilt {
                device: self,
                feature: "candle",
                way_out: "build it with its default features",
            }),
            Self::Cuda(_) => self.check_gpu(),
        }
    }

    /// The class of bits of its results. That of `candle-cpu` names the instruction set: candle chooses its kernels by what
    /// the processor has.
    ///
    /// # Errors
    /// [`DeviceError`] where it is not here, or does not compute in that precision.
    pub fn class(self, precision: Precision) -> Result<String, DeviceError> {
        self.check()?;
        match (self, precision) {
            (Self::Cpu, Precision::F32) => Ok("f32".to_string()),
            (Self::Cpu, Precision::Bf16) => Ok(format!("bf16/{}", Isa::detect())),
            (Self::CandleCpu, Precision::F32) => Ok(format!("candle-cpu/{}/f32", Isa::detect())),
            (Self::Cuda(_), Precision::F32) => Ok(format!("cuda/{}/f32", self.generation()?)),
            (device, precision) => Err(DeviceError::Precision { device, precision }),
        }
    }

    /// A network, ready to be evaluated there; `packed` is a matter of the CPU's own plan.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn open(
        self,
        config: &UNetConfig,
        weights: &Weights,
        precision: Precision,
        packed: Packed,
    ) -> Result<Box<dyn Denoiser>, DeviceError> {
        let graph = Graph::build(config).map_err(ModelError::from)?;
        self.open_graph(graph, config.size_multiple(), weights, precision, packed)
    }

    /// [`Self::open`] for a graph whose images' sides are multiples of `size_multiple`.
    fn open_graph(
        self,
        graph: Graph,
        size_multiple: usize,
        weights: &Weights,
        precision: Precision,
        packed: Packed,
    ) -> Result<Box<dyn Denoiser>, DeviceError> {
        self.class(precision)?;
        match self {
            Self::Cpu => {
                let network = CpuUNet::of_graph(graph, size_multiple, weights, Isa::detect())?;
                Ok(Box::new(network.with_precision(precision).with_weights_packed(packed)))
            }
            Self::CandleCpu | Self::Cuda(_) => self.open_candle(graph, size_multiple, weights),
        }
    }

    /// What is known of it.
    ///
    /// # Errors
    /// [`DeviceError`] where it is not here.
    pub fn about(self) -> Result<About, DeviceError> {
        let class = |precision| self.class(precision);
        let mut classes = vec![class(Precision::F32)?];
        classes.extend(class(Precision::Bf16));
        let (name, memory) = match self {
            Self::Cpu => (format!("CPU with {}", Isa::detect()), None),
            Self::CandleCpu => ("CPU, by the code of GPUs".to_string(), None),
            Self::Cuda(_) => self.about_gpu()?,
        };
        Ok(About { name, classes, memory })
    }
}

#[cfg(feature = "candle")]
impl Device {
    /// As candle knows it.
    ///
    /// # Errors
    /// [`DeviceError`] where it is not here.
    pub fn candle(self) -> Result<candle_core::Device, DeviceError> {
        self.check()?;
        match self {
            Self::Cpu | Self::CandleCpu => Ok(candle_core::Device::Cpu),
            Self::Cuda(number) => candle_core::Device::new_cuda(number)
                .map_err(|error| DeviceError::NotThere { device: self, reason: first_line(&error) }),
        }
    }

    fn open_candle(
        self,
        graph: Graph,
        size_multiple: usize,
        weights: &Weights,
    ) -> Result<Box<dyn Denoiser>, DeviceError> {
        match CandleUNet::of_graph(graph, size_multiple, weights, &self.candle()?, candle_core::DType::F32) {
            Ok(network) => Ok(Box::new(network)),
            Err(ModelError::Candle(error)) if is_out_of_memory(&error) => {
                Err(DeviceError::OutOfMemory { device: self })
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(not(feature = "candle"))]
impl Device {
    fn open_candle(self, _: Graph, _: usize, _: &Weights) -> Result<Box<dyn Denoiser>, DeviceError> {
        // What is not built is not here: `class` has said so.
        self.check()?;
        Err(DeviceError::NotThere { device: self, reason: "this sr3 was built without candle".to_string() })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::CandleCpu => f.write_str("candle-cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        let gpu = || name.strip_prefix("cuda:")?.parse().ok().map(Self::Cuda);
        match name {
            "cpu" => Ok(Self::Cpu),
            "candle-cpu" => Ok(Self::CandleCpu),
            _ => gpu().ok_or_else(|| DeviceError::Unknown { name: name.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_say_which_there_are() {
        for name in ["cpu", "candle-cpu", "cuda:3"] {
            assert_eq!(name.parse::<Device>().unwrap().to_string(), name);
        }
        let error = "tpu".parse::<Device>().unwrap_err().to_string();
        assert!(error.contains("`tpu`") && error.contains("cuda:0"), "{error}");
        assert_eq!(Device::named("cpu").unwrap(), [Device::Cpu]);
    }

    #[test]
    fn classes_keep_apart_what_may_differ() {
        assert_eq!(Device::Cpu.class(Precision::F32).unwrap(), "f32");
        assert_eq!(Device::Cpu.class(Precision::Bf16).unwrap(), format!("bf16/{}", Isa::detect()));
        let about = Device::Cpu.about().unwrap();
        assert_eq!(about.classes.len(), 2);
    }

    #[test]
    #[cfg(feature = "candle")]
    fn candle_computes_in_f32_alone() {
        assert_eq!(
            Device::CandleCpu.class(Precision::F32).unwrap(),
            format!("candle-cpu/{}/f32", Isa::detect())
        );
        let error = Device::CandleCpu.class(Precision::Bf16).unwrap_err().to_string();
        assert!(error.contains("f32 alone"), "{error}");
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_build_without_cuda_says_how_to_make_one() {
        for error in [Device::Cuda(7).check().unwrap_err(), Device::named("cuda").unwrap_err()] {
            let text = error.to_string();
            assert!(text.contains("built without CUDA") && text.contains("build-cuda.sh"), "{text}");
        }
    }
}
