//! What candle's errors say: one line for people, and whether memory has run out.

use candle_core::Error;

/// What went wrong, without the backtrace that may follow.
pub(crate) fn first_line(error: &Error) -> String {
    error.to_string().lines().next().unwrap_or_default().trim().to_string()
}

/// Whether a device had no memory left. What drivers and libraries say about it has no type of its own in candle.
pub(crate) fn is_out_of_memory(error: &Error) -> bool {
    let text = first_line(error);
    ["out of memory", "OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"].iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_has_run_out_is_told_from_other_failures() {
        let driver = |text: &str| Error::Cuda(text.into()).bt();
        assert!(is_out_of_memory(&driver("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")")));
        assert!(is_out_of_memory(&driver("CublasError(CUBLAS_STATUS_ALLOC_FAILED)")));
        assert!(!is_out_of_memory(&driver("DriverError(CUDA_ERROR_LAUNCH_FAILED, \"launch failure\")")));
        assert!(!is_out_of_memory(&Error::msg("shapes differ\nout of memory in a backtrace")));
        assert_eq!(first_line(&Error::msg("shapes differ\nand more")), "shapes differ");
    }
}
