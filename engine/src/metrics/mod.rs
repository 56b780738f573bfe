//! How good a result is: PSNR, SSIM and consistency with the low-resolution input.
