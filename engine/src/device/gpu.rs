//! What NVIDIA's driver says about its GPUs.
//!
//! It is asked directly and not by way of candle, which would load its libraries onto a GPU for every question.
//! Nothing here has been run on a GPU yet.

use std::sync::Arc;

use candle_core::cuda::cudarc::driver::{CudaContext, DriverError};

use super::{Device, DeviceError};

impl Device {
    pub(super) fn check_gpu(self) -> Result<(), DeviceError> {
        let Self::Cuda(number) = self else { return Ok(()) };
        let not_there = |reason| Err(DeviceError::NotThere { device: self, reason });
        match CudaContext::device_count().map(|count| usize::try_from(count).unwrap_or(0)) {
            Ok(count) if number < count => Ok(()),
            Ok(0) => not_there("the driver counts no GPU: take --device cpu".to_string()),
            Ok(1) => not_there("this machine has one GPU, cuda:0".to_string()),
            Ok(count) => not_there(format!("this machine has {count} GPUs, cuda:0 to cuda:{}", count - 1)),
            Err(error) => {
                let reason = in_words(error);
                not_there(format!(
                    "no NVIDIA GPU answers ({reason}): install its driver, or take --device cpu"
                ))
            }
        }
    }

    /// `sm_90` for a GPU of compute capability 9.0.
    pub(super) fn generation(self) -> Result<String, DeviceError> {
        let asked = self.context()?.compute_capability();
        let (major, minor) = asked.map_err(|error| self.failed(error))?;
        Ok(format!("sm_{major}{minor}"))
    }

    pub(super) fn about_gpu(self) -> Result<(String, Option<[u64; 2]>), DeviceError> {
        let context = self.context()?;
        let name = context.name().map_err(|error| self.failed(error))?;
        let (free, total) = context.mem_get_info().map_err(|error| self.failed(error))?;
        Ok((name, Some([total as u64, free as u64])))
    }

    fn context(self) -> Result<Arc<CudaContext>, DeviceError> {
        self.check_gpu()?;
        let number = if let Self::Cuda(number) = self { number } else { 0 };
        CudaContext::new(number).map_err(|error| self.failed(error))
    }

    fn failed(self, error: DriverError) -> DeviceError {
        DeviceError::NotThere { device: self, reason: in_words(error) }
    }
}

/// The driver's own words for what is wrong.
fn in_words(error: DriverError) -> String {
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    text.unwrap_or_else(|_| format!("error {}", error.0 as u32))
}
