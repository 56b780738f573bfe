//! Pictures as files: what comes in from strangers, what goes out, and everything that belongs to a picture besides
//! its pixels (depth, alpha, colour profile, EXIF, XMP, IPTC, texts, density).
//!
//! * [`decode()`] reads PNG, JPEG, WebP, TIFF, GIF, BMP, JPEG XL, AVIF and Netpbm by their bytes, under [`DecodeLimits`], upright;
//! * [`to_planes`] and [`from_planes`] go between a [`Picture`] and the f32 planes of the network, [`HiddenColours`] past it;
//! * [`encode()`] writes PNG, JPEG, lossless WebP and TIFF.
//!
//! **Colour is carried, never converted.** Sample values are taken as display-referred and go to the network as they
//! are; the ICC profile stays attached and is embedded in the output, so a viewer shows the result as it shows the
//! input. Converting to sRGB and back would clip what lies outside sRGB and round twice; super-resolution works on
//! neighbourhoods, and in every common RGB space (sRGB, Display P3, Adobe RGB) the values are encoded alike. The
//! exception is CMYK: it becomes RGB when read, and a CMYK profile is dropped with a note, because it does not describe RGB.
//!
//! **Nothing is left out without a word.** What belongs to a picture is carried where the output has a place for it, else a
//! note names it:
//!
//! | | found in | PNG | JPEG | WebP | TIFF |
//! |---|---|---|---|---|---|
//! | profile | PNG, JPEG, WebP, TIFF, GIF, BMP, JPEG XL, AVIF | iCCP | APP2 | ICCP, colour only | 34675 |
//! | EXIF | PNG (eXIf, raw profile), JPEG, WebP, JPEG XL, AVIF; of a TIFF what EXIF has tags for | eXIf | APP1, 64 KiB | EXIF | tags, but no MakerNote |
//! | XMP | PNG, JPEG (also extended), WebP, TIFF, GIF, JPEG XL, AVIF | iTXt | APP1, 64 KiB, and extended | XMP | 700 |
//! | IPTC | JPEG, TIFF, PNG (raw profile) | raw profile | APP13, 64 KiB | note | 33723 |
//! | comment | JPEG, GIF, PNG, Netpbm | tEXt, iTXt | COM | EXIF*, else note | EXIF*, else note |
//! | Description, Author, Copyright, Software, `parameters` | PNG | tEXt, iTXt | EXIF*, else note | EXIF*, else note | EXIF*, else note |
//! | other texts | PNG | tEXt, iTXt | note | note | note |
//! | gAMA, cHRM, sRGB, cICP, mDCV, cLLI | PNG; primaries also TIFF, cICP also AVIF | the same | note | note | note |
//! | density | PNG, JPEG, TIFF, BMP; EXIF | pHYs | JFIF | EXIF's, else note | resolution |
//!
//! EXIF*: only for a picture without an EXIF block, which then gets a small one; a block that came is renewed in place and never
//! rebuilt. The note about colour is given only if the chunks mean something else than sRGB. Not carried and not told: EXIF's and
//! JFIF's thumbnails and a JPEG's previews (they show the old pixels), tIME (it says when the pixels were last changed), how
//! often an animation is repeated. Not carried and told in one line: all else, by name (Photoshop's resources, content credentials,
//! private chunks and segments, second pictures).
//!
//! Nothing here touches the file system, the network or a clock, and no input makes it panic. What a reader should
//! know about a picture that was read or written (a dropped profile, only the first frame) is returned as notes.

mod colour;
mod decode;
mod directory;
mod encode;
mod exif;
mod flatten;
mod format;
mod hidden;
mod icc;
mod iptc;
mod metadata;
mod orientation;
mod picture;
mod probe;
mod sniff;
mod xmp;

pub use colour::{Planes, from_planes, to_planes};
pub use decode::{DecodeError, DecodeLimits, Decoded, decode};
pub use encode::{EncodeError, Encoded, check_size, encode};
pub use format::{InputFormat, OutputFormat, UnknownFormat};
pub use hidden::HiddenColours;
pub use metadata::{ColourChunks, Density, Metadata, Text};
pub use picture::{Channels, Picture, Samples};
pub use probe::probe;
pub use sniff::sniff;
