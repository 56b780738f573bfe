//! The header of a Windows bitmap: what it says, which kinds are not read, and where alpha is.
//!
//! It promises nothing about pixels that are compressed: those have no alpha.

/// What a header of 40 bytes or more says; of the oldest, of 12 bytes, only the size is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) width: u64,
    pub(super) height: u64,
    top_down: bool,
    bits: u16,
    compression: u32,
    size: u32,
    pixels_at: usize,
    alpha_mask: u32,
}

impl Header {
    /// `None` if the file ends before its header does.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let (size, pixels_at) = (u32_at(14)?, u32_at(10)? as usize);
        let mut header = Self {
            width: 0,
            height: 0,
            top_down: false,
            bits: 0,
            compression: 0,
            size,
            pixels_at,
            alpha_mask: 0,
        };
        if size < 40 {
            (header.width, header.height) = (u16_at(18)?.into(), u16_at(20)?.into());
            header.bits = u16_at(24)?;
            return Some(header);
        }
        // A negative height means rows from the top.
        let (width, height) = (u32_at(18)? as i32, u32_at(22)? as i32);
        (header.width, header.height) = (u64::try_from(width).unwrap_or(0), height.unsigned_abs().into());
        header.top_down = height < 0;
        (header.bits, header.compression) = (u16_at(28)?, u32_at(30)?);
        if matches!(size, 56 | 108 | 124) {
            header.alpha_mask = u32_at(66)?;
        }
        Some(header)
    }

    /// Why the bitmap is not read, in the words after "this kind of BMP is not read"; `None` when it may be.
    pub(super) fn unread(&self) -> Option<&'static str> {
        let os2 = self.size == 64;
        Some(match (self.compression, self.bits) {
            _ if os2 => "it is OS/2's second kind: save it again as PNG",
            (1 | 2, _) if self.top_down => {
                "it is compressed and its rows begin at the top: save it again as PNG"
            }
            (0, 1 | 2 | 4 | 8 | 16 | 24 | 32) | (1, 8) | (2, 4) | (3, 16 | 32) => return None,
            (0..=3, _) => "it has an unusual number of bits a pixel: save it again as PNG",
            (4, _) => "it is a JPEG in a bitmap's clothes: save it again as PNG",
            (5, _) => "it is a PNG in a bitmap's clothes: save it again as PNG",
            (6, _) => "its colours and alpha are told by masks of Windows CE: save it again as PNG",
            (11..=13, _) => "it is CMYK: save it again as PNG",
            _ => "its compression is not known: save it again as PNG",
        })
    }

    /// The bits of a pixel that the header calls alpha.
    pub(super) fn alpha_bits(&self) -> Option<u32> {
        let fits = self.bits == 32 || self.bits == 16 && self.alpha_mask >> 16 == 0;
        Some(self.alpha_mask).filter(|&mask| mask != 0 && fits && matches!(self.compression, 0 | 3))
    }

    /// The bits of a pixel that mean nothing to the header, and that some programs use for alpha all the same.
    pub(super) fn spare_bits(&self) -> Option<u32> {
        let spare = self.bits == 32 && self.compression == 0 && self.alpha_mask == 0;
        spare.then_some(0xff00_0000)
    }

    /// What the bits of `mask` (not 0) hold of each pixel of 16 or 32 bits, as 0..=255, rows from the top. `None` where the
    /// pixels are cut short.
    pub(super) fn masked(&self, bytes: &[u8], mask: u32) -> Option<Vec<u8>> {
        let (width, height) = (usize::try_from(self.width).ok()?, usize::try_from(self.height).ok()?);
        let pixel_bytes = usize::from(self.bits / 8);
        let stride = width.checked_mul(pixel_bytes)?.checked_next_multiple_of(4)?;
        let rows = bytes.get(self.pixels_at..)?.get(..stride.checked_mul(height)?)?;
        let shift = mask.trailing_zeros();
        let full = u64::from(mask >> shift);
        let level = |pixel: &[u8]| {
            let word = pixel.iter().rev().fold(0_u32, |word, &byte| word << 8 | u32::from(byte));
            ((u64::from((word & mask) >> shift) * 255 + full / 2) / full) as u8
        };
        let row = |row: usize| {
            let row = if self.top_down { row } else { height - 1 - row };
            rows[row * stride..][..width * pixel_bytes].chunks_exact(pixel_bytes).map(level)
        };
        Some((0..height).flat_map(row).collect())
    }
}
