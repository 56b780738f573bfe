//! Pictures as files: what comes in from strangers, what goes out, and everything that belongs to a picture besides
//! its pixels (depth, alpha, colour profile, EXIF, density).
//!
//! * [`decode()`] reads PNG, JPEG, WebP, TIFF, GIF and BMP by their bytes, under [`DecodeLimits`], upright;
//! * [`to_planes`] and [`from_planes`] go between a [`Picture`] and the f32 planes of the network, [`HiddenColours`] past it;
//! * [`encode()`] writes PNG, JPEG, lossless WebP and TIFF.
//!
//! **Colour is carried, never converted.** Sample values are taken as display-referred and go to the network as they
//! are; the ICC profile stays attached and is embedded in the output, so a viewer shows the result as it shows the
//! input. Converting to sRGB and back would clip what lies outside sRGB and round twice; super-resolution works on
//! neighbourhoods, and in every common RGB space (sRGB, Display P3, Adobe RGB) the values are encoded alike. The
//! exception is CMYK: it becomes RGB when read, and a CMYK profile is dropped with a note, because it does not describe RGB.
//!
//! Nothing here touches the file system, the network or a clock, and no input makes it panic. What a reader should
//! know about a picture that was read or written (a dropped profile, only the first frame) is returned as notes.

mod colour;
mod decode;
mod encode;
mod exif;
mod flatten;
mod format;
mod hidden;
mod icc;
mod orientation;
mod picture;
mod probe;
mod sniff;

pub use colour::{Planes, from_planes, to_planes};
pub use decode::{DecodeError, DecodeLimits, Decoded, decode};
pub use encode::{EncodeError, Encoded, check_size, encode};
pub use format::{InputFormat, OutputFormat, UnknownFormat};
pub use hidden::HiddenColours;
pub use picture::{Channels, Density, Metadata, Picture, Samples};
pub use probe::probe;
pub use sniff::sniff;
