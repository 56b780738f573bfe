//! What a build without the feature `cuda` says about GPUs: how to make one with it.

use super::{Device, DeviceError};

impl Device {
    pub(super) fn check_gpu(self) -> Result<(), DeviceError> {
        Err(self.without_cuda())
    }

    pub(super) fn generation(self) -> Result<String, DeviceError> {
        Err(self.without_cuda())
    }

    pub(super) fn about_gpu(self) -> Result<(String, Option<[u64; 2]>), DeviceError> {
        Err(self.without_cuda())
    }

    fn without_cuda(self) -> DeviceError {
        let way_out = "build it with scripts/build-cuda.sh, or take --device cpu";
        DeviceError::NotBuilt { device: self, feature: "CUDA", way_out }
    }
}
