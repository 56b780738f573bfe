//! Names of outputs: the output's key from the input's. Pure functions.
//!
//! An output keeps the tree of its input, and its name as far as no two inputs can ever meet, whatever else lies in
//! the source or will lie there once: the rule looks at one name alone. When PNG comes out:
//!
//! | input | output | because |
//! |---|---|---|
//! | `cat.png`, `cat.PNG` | the same | the name says what the output is |
//! | `cat.gif` | `cat.gif.png` | it names another format |
//! | `cat.gif.png`, `cat.gif.png.png` | `cat.gif.png.png`, `cat.gif.png.png.png` | the shorter name is that of `cat.gif` |
//! | `cat`, `v1.2` | `cat.sr3.png`, `v1.2.sr3.png` | it names no format, and `cat.png` is that of `cat.png` |
//! | `cat.sr3.png` | `cat.sr3.png.png` | the shorter name is that of `cat` |
//!
//! So a name that ends in `.png`s as they are added here is taken apart into what stands before them and their number;
//! what stands before them decides by how many the number grows, so that different names stay different. What counts as
//! the name of a format is [`is_image_extension`]: names of outputs depend on that list. A name is never cut: one that
//! grows past what file systems hold is an error of its item. (File systems that do not tell `A` from `a` are the
//! planner's to notice.)

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sr3_proto::{Key, key::extension_of};

/// The longest file name that common file systems hold, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// What an output is encoded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// PNG, lossless.
    Png,
    /// JPEG.
    Jpeg,
    /// WebP.
    Webp,
    /// TIFF, lossless.
    Tiff,
}

impl OutputFormat {
    /// The format that a file name extension (without dot, any case) denotes, if it denotes one of these.
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::Jpeg),
            "webp" => Some(Self::Webp),
            "tif" | "tiff" => Some(Self::Tiff),
            _ => None,
        }
    }

    /// Its name in specs and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Webp => "webp",
            Self::Tiff => "tiff",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Png, Self::Jpeg, Self::Webp, Self::Tiff].into_iter().find(|format| format.name() == name)
    }

    /// The extension that is added to names, without dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
            Self::Tiff => "tif",
        }
    }
}

/// Which format outputs get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum FormatChoice {
    /// That of the input's extension; PNG where the extension says nothing or names a format we do not write.
    Auto,
    /// This one for every output.
    Fixed(OutputFormat),
}

/// A format name that is none of ours.
#[derive(Debug, thiserror::Error)]
#[error("unknown output format `{name}`: use auto, png, jpeg, webp or tiff")]
pub struct FormatError {
    /// What was given.
    pub name: String,
}

impl FromStr for FormatChoice {
    type Err = FormatError;

    fn from_str(name: &str) -> Result<Self, FormatError> {
        match name {
            "auto" => Ok(Self::Auto),
            "png" => Ok(Self::Fixed(OutputFormat::Png)),
            "jpeg" | "jpg" => Ok(Self::Fixed(OutputFormat::Jpeg)),
            "webp" => Ok(Self::Fixed(OutputFormat::Webp)),
            "tiff" | "tif" => Ok(Self::Fixed(OutputFormat::Tiff)),
            _ => Err(FormatError { name: name.to_string() }),
        }
    }
}

impl TryFrom<String> for FormatChoice {
    type Error = FormatError;

    fn try_from(name: String) -> Result<Self, FormatError> {
        name.parse()
    }
}

impl From<FormatChoice> for String {
    fn from(choice: FormatChoice) -> Self {
        choice.to_string()
    }
}

impl fmt::Display for FormatChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Fixed(format) => format.name(),
        })
    }
}

/// How outputs are named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Naming {
    /// The input's tree and names, as the module says.
    Mirror,
    /// This very name, for a job of one item.
    Exact(Key),
}

/// An input whose output cannot be named.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The name would grow past [`NAME_BYTES_MAX`].
    #[error(
        "the output's name would be {bytes} bytes long, and file systems hold {NAME_BYTES_MAX}: shorten the input's name"
    )]
    NameTooLong {
        /// Length of the name that was due.
        bytes: usize,
    },
}

/// Extensions, in lower case, that name raster and vector pictures, of kinds that are read here or not.
const EXTENSIONS: [&str; 33] = [
    "png", "apng", "jpg", "jpeg", "jpe", "jfif", "webp", "tif", "tiff", "gif", "bmp", "dib", "ico", "tga",
    "pnm", "ppm", "pgm", "pbm", "pam", "avif", "avifs", "heic", "heif", "jxl", "jp2", "jxr", "psd", "svg",
    "exr", "hdr", "btf", "tf8", "hif",
];

/// Extensions, in lower case, of cameras' RAW files. Not `raw`: that names sound and disks as well.
const RAW_EXTENSIONS: [&str; 30] = [
    "dng", "crw", "cr2", "cr3", "nef", "nrw", "arw", "sr2", "srf", "orf", "ori", "raf", "rw2", "rwl", "pef",
    "srw", "x3f", "mrw", "mdc", "3fr", "fff", "iiq", "mos", "mef", "erf", "dcr", "kdc", "k25", "gpr", "bay",
];

/// Whether an extension (lower case, without dot) names a picture.
pub fn is_image_extension(extension: &str) -> bool {
    EXTENSIONS.contains(&extension) || RAW_EXTENSIONS.contains(&extension)
}

/// What is added to a name that names no format, before the extension: something that no other name ends in.
const UNNAMED: &str = ".sr3";

/// The format of the output of `input`.
pub fn output_format(input: &Key, choice: FormatChoice) -> OutputFormat {
    match choice {
        FormatChoice::Fixed(format) => format,
        FormatChoice::Auto => named_format(input.name()).unwrap_or(OutputFormat::Png),
    }
}

/// The key and format of the output of `input`; no two inputs have the same, whatever is chosen.
pub fn output_key(input: &Key, choice: FormatChoice) -> Result<(Key, OutputFormat), LayoutError> {
    let added = match choice {
        FormatChoice::Fixed(format) => format.extension(),
        FormatChoice::Auto => OutputFormat::Png.extension(),
    };
    let mut base = input.name();
    while let Some(rest) = without_end(base, added) {
        base = rest;
    }
    let is_bare = base.len() == input.name().len();
    let says_so = match choice {
        FormatChoice::Fixed(format) => named_format(base) == Some(format),
        FormatChoice::Auto => named_format(base).is_some(),
    };
    let names_another = extension_of(base).is_some_and(|e| is_image_extension(&e));
    let key = if says_so {
        input.clone()
    } else if names_another || (!is_bare && without_end(base, &UNNAMED[1..]).is_some()) {
        input.followed_by(&format!(".{added}"))
    } else if is_bare {
        input.followed_by(&format!("{UNNAMED}.{added}"))
    } else {
        input.clone()
    };
    let bytes = key.name().len();
    if bytes > NAME_BYTES_MAX {
        return Err(LayoutError::NameTooLong { bytes });
    }
    Ok((key, output_format(input, choice)))
}

/// The format, of those that are written, that a name says.
fn named_format(name: &str) -> Option<OutputFormat> {
    extension_of(name).and_then(|e| OutputFormat::from_extension(&e))
}

/// `name` without `.extension` at its end, spelt just so, if something stands before it.
fn without_end<'a>(name: &'a str, extension: &str) -> Option<&'a str> {
    name.strip_suffix(extension)?.strip_suffix('.').filter(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const FORMATS: [&str; 5] = ["auto", "png", "jpeg", "webp", "tiff"];

    fn named(input: &str, format: &str) -> String {
        output_key(&Key::new(input).unwrap(), format.parse().unwrap()).unwrap().0.to_string()
    }

    #[test]
    fn a_name_that_says_the_format_stays_and_others_grow() {
        assert_eq!(named("a/PHOTO.JPeG", "auto"), "a/PHOTO.JPeG");
        assert_eq!(named("x.tif", "auto"), "x.tif");
        assert_eq!(named("x.gif", "auto"), "x.gif.png");
        assert_eq!(named("photo.png.jpg", "auto"), "photo.png.jpg");
        assert_eq!(named("photo.jpg.png", "auto"), "photo.jpg.png");
        assert_eq!(named("shot.2024.01.png", "auto"), "shot.2024.01.png");
        assert_eq!(named("cat.png.png", "auto"), "cat.png.png");
        assert_eq!(named("photo.png.jpg", "png"), "photo.png.jpg.png");
        assert_eq!(named("same.png", "jpeg"), "same.png.jpg");
        assert_eq!(named("same.JPG", "jpeg"), "same.JPG");
        assert_eq!(named("same.jpeg", "jpeg"), "same.jpeg");
    }

    #[test]
    fn a_name_that_another_input_grows_to_grows_itself() {
        assert_eq!(named("photo.gif.png", "auto"), "photo.gif.png.png");
        assert_eq!(named("photo.gif.png.png", "auto"), "photo.gif.png.png.png");
        assert_eq!(named("photo.gif.PNG", "auto"), "photo.gif.PNG");
        assert_eq!(named("a.png.jpg", "jpeg"), "a.png.jpg.jpg");
        assert_eq!(named("a.jpg.png", "png"), "a.jpg.png.png");
    }

    #[test]
    fn a_name_without_a_format_never_meets_one_with_it() {
        assert_eq!(named("a/cat", "auto"), "a/cat.sr3.png");
        assert_eq!(named("cat.png", "auto"), "cat.png");
        assert_eq!(named("cat.sr3.png", "auto"), "cat.sr3.png.png");
        assert_eq!(named("cat.sr3", "auto"), "cat.sr3.sr3.png");
        assert_eq!(named("v1.2", "tiff"), "v1.2.sr3.tif");
        assert_eq!(named(".png", "auto"), ".png.sr3.png");
        assert_eq!(named(".png.png", "auto"), ".png.png");
        assert_eq!(named("dir.gif/cat.png", "auto"), "dir.gif/cat.png");
    }

    #[test]
    fn a_name_is_refused_rather_than_cut() {
        let long = Key::new(format!("{}.gif", "x".repeat(248))).unwrap();
        assert!(matches!(
            output_key(&long, FormatChoice::Auto),
            Err(LayoutError::NameTooLong { bytes: 256 })
        ));
        let fits = Key::new(format!("d/{}.gif", "x".repeat(247))).unwrap();
        assert_eq!(output_key(&fits, FormatChoice::Auto).unwrap().0.name().len(), 255);
    }

    proptest! {
        #[test]
        fn no_two_inputs_ever_share_an_output(
            names in prop::collection::btree_set(
                "[ab]{0,1}(\\.(png|PNG|gif|jpg|JPG|jpeg|tif|tiff|webp|sr3|x|heic|)){0,5}", 2..60),
            format in prop::sample::select(FORMATS.to_vec()),
        ) {
            let inputs: Vec<Key> = names.iter().filter_map(|name| Key::new(name.as_str()).ok()).collect();
            let outputs: HashSet<String> = inputs.iter().map(|i| named(i.as_str(), format)).collect();
            prop_assert_eq!(outputs.len(), inputs.len());
        }

        #[test]
        fn whatever_names_are_made_of_they_stay_apart(
            one in "\\PC{0,6}(\\.(png|jpg|gif|sr3)){0,3}",
            other in "\\PC{0,6}(\\.(png|jpg|gif|sr3)){0,3}",
            format in prop::sample::select(FORMATS.to_vec()),
        ) {
            let (Ok(one), Ok(other)) = (Key::new(one), Key::new(other)) else { return Ok(()) };
            let same = named(one.as_str(), format) == named(other.as_str(), format);
            prop_assert_eq!(same, one == other);
        }

        #[test]
        fn inputs_that_differ_only_in_extension_never_meet(
            stem in "[a-zé#% ]{1,12}",
            format in prop::sample::select(FORMATS.to_vec()),
        ) {
            let inputs: Vec<String> = ["png", "PNG", "jpg", "jpeg", "webp", "tif", "tiff", "gif", "bmp", "x"]
                .iter().map(|e| format!("{stem}.{e}")).collect();
            let outputs: HashSet<String> = inputs.iter().map(|i| named(i, format)).collect();
            prop_assert_eq!(outputs.len(), inputs.len());
        }

        #[test]
        fn the_output_stays_in_the_input_folder_and_carries_its_format(
            input in "([a-z.é]{1,8}/){0,3}[a-zA-Z.#]{1,12}",
            format in prop::sample::select(FORMATS.to_vec()),
        ) {
            let Ok(input) = Key::new(input) else { return Ok(()) };
            let choice: FormatChoice = format.parse().unwrap();
            let (output, kind) = output_key(&input, choice).unwrap();
            prop_assert!(output.as_str().starts_with(input.as_str()));
            prop_assert_eq!(output.segments().count(), input.segments().count());
            prop_assert_eq!(output.extension().and_then(|e| OutputFormat::from_extension(&e)), Some(kind));
            prop_assert_eq!(choice.to_string().parse::<FormatChoice>().unwrap(), choice);
        }
    }
}
