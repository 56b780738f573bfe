//! What belongs to a picture besides its samples, in no file format's own shape.
//!
//! Decoders fill it under bounds, encoders write what their format has a place for and say what it has none for
//! (the table in [`super`]). It never holds anything that contradicts the picture it travels with: EXIF and XMP say
//! "upright", and their sizes are renewed when they are written.

/// What belongs to a picture besides its samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// An ICC profile that describes the samples.
    pub icc: Option<Vec<u8>>,
    /// EXIF as a TIFF structure, without the leading `Exif\0\0`. Orientation 1: the samples are upright already.
    pub exif: Option<Vec<u8>>,
    /// Dots per inch.
    pub density: Option<Density>,
    /// An XMP packet. Its orientation, if it has one, is 1.
    pub xmp: Option<String>,
    /// The second packet that the first names by its digest, where a JPEG had to be split. Left as it came.
    pub xmp_extension: Option<String>,
    /// IPTC records (IIM 4), without any wrapping.
    pub iptc: Option<Vec<u8>>,
    /// Texts in the order of the file.
    pub texts: Vec<Text>,
    /// What a PNG says about its colours besides a profile.
    pub colour: ColourChunks,
}

/// Dots per inch, along and across.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Density {
    /// Pixels per inch along a row.
    pub x: f64,
    /// Pixels per inch along a column.
    pub y: f64,
}

impl Density {
    /// A density that a file can mean: finite, positive and below a million dots per inch.
    pub(super) fn checked(x: f64, y: f64) -> Option<Self> {
        let plausible = |v: f64| v.is_finite() && v > 0.0 && v < 1.0e6;
        (plausible(x) && plausible(y)).then_some(Self { x, y })
    }
}

/// A text and what it is: PNG's text chunks; a JPEG's or GIF's comment has the keyword [`Text::COMMENT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Such as `Author`, `parameters`; PNG allows 1 to 79 characters of Latin-1.
    pub keyword: String,
    /// Without zero characters.
    pub text: String,
}

impl Text {
    /// The keyword of a comment (PNG 3rd edition, 11.3.3.1, table of registered keywords).
    pub const COMMENT: &str = "Comment";
}

/// What a PNG's chunks say about its colours, as they stand there; of a TIFF's tags the primaries, of an AVIF the numbers of its colour space. A cICP chunk counts before a profile, that before an
/// sRGB chunk, that before gAMA and cHRM (PNG 3rd edition, 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColourChunks {
    /// gAMA: the exponent times 100,000.
    pub gamma: Option<u32>,
    /// cHRM: x and y of white, red, green and blue, times 100,000.
    pub chromaticities: Option<[u32; 8]>,
    /// sRGB: the rendering intent.
    pub srgb: Option<u8>,
    /// cICP: primaries, transfer function, matrix, full range (ITU-T H.273).
    pub cicp: Option<[u8; 4]>,
    /// mDCV: the mastering display, as in the chunk.
    pub mastering: Option<[u8; 24]>,
    /// cLLI: light levels, as in the chunk.
    pub light_level: Option<[u8; 8]>,
}

const SRGB_GAMMA: u32 = 45_455;
const SRGB_CHROMATICITIES: [u32; 8] = [31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000];

impl ColourChunks {
    /// What is lost where the chunks cannot be written, in words: nothing if they mean sRGB, as which a picture without them
    /// is shown, or if a profile that is kept counts before them.
    pub(super) fn lost(&self, profile_kept: bool) -> Option<String> {
        let mut lost = Vec::new();
        match self.cicp {
            // BT.709 primaries with the sRGB curve.
            Some([1, 13, 0, 1]) => {}
            Some([primaries, transfer, ..]) => {
                lost.push(format!("colour space (cICP primaries {primaries}, transfer {transfer})"));
            }
            None if profile_kept || self.srgb.is_some() => {}
            None => {
                // libpng takes gammas within 5 % for equal.
                if let Some(gamma) = self.gamma.filter(|g| g.abs_diff(SRGB_GAMMA) > SRGB_GAMMA / 20) {
                    lost.push(format!("gamma ({})", f64::from(gamma) / 1e5));
                }
                let near =
                    |here: [u32; 8]| here.iter().zip(SRGB_CHROMATICITIES).all(|(a, b)| a.abs_diff(b) <= 500);
                if self.chromaticities.is_some_and(|here| !near(here)) {
                    lost.push("primaries".to_owned());
                }
            }
        }
        if self.mastering.is_some() || self.light_level.is_some() {
            lost.push("light levels".to_owned());
        }
        (!lost.is_empty()).then(|| lost.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_from_srgb_is_missed() {
        let none = ColourChunks::default();
        let adobe = [31_270, 32_900, 64_000, 33_000, 21_000, 71_000, 15_000, 6_000];
        let plain = ColourChunks {
            gamma: Some(45_455),
            chromaticities: Some(SRGB_CHROMATICITIES),
            srgb: Some(0),
            cicp: Some([1, 13, 0, 1]),
            ..none
        };
        assert_eq!((none.lost(false), plain.lost(false)), (None, None));
        let linear = ColourChunks { gamma: Some(100_000), ..none };
        assert_eq!(linear.lost(false).as_deref(), Some("gamma (1)"));
        assert_eq!(linear.lost(true), None, "the profile counts before gAMA");
        assert_eq!(ColourChunks { srgb: Some(1), ..linear }.lost(false), None, "sRGB counts before gAMA");
        let wide = ColourChunks { chromaticities: Some(adobe), gamma: Some(45_500), ..none };
        assert_eq!(wide.lost(false).as_deref(), Some("primaries"));
        let hdr = ColourChunks { cicp: Some([9, 16, 0, 1]), light_level: Some([0; 8]), ..plain };
        let words = "colour space (cICP primaries 9, transfer 16) and light levels";
        assert_eq!(hdr.lost(true).as_deref(), Some(words));
    }
}
