//! A colour, as people write it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Red, green and blue, 0 to 255 each. Written `#rrggbb`; read as that, as `#rgb`, or as `white` or `black`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Colour(pub [u8; 3]);

/// A text that is no colour.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is no colour: write white, black, or #rrggbb")]
pub struct ColourError {
    /// What was given.
    pub text: String,
}

impl FromStr for Colour {
    type Err = ColourError;

    fn from_str(text: &str) -> Result<Self, ColourError> {
        let wrong = || ColourError { text: text.to_string() };
        match text {
            "white" => return Ok(Self([255; 3])),
            "black" => return Ok(Self([0; 3])),
            _ => {}
        }
        let digits = text.strip_prefix('#').ok_or_else(wrong)?;
        let digit = |c: char| c.to_digit(16).and_then(|d| u8::try_from(d).ok());
        let values: Vec<u8> = digits.chars().map(digit).collect::<Option<_>>().ok_or_else(wrong)?;
        match values[..] {
            [r, g, b] => Ok(Self([r, g, b].map(|v| 17 * v))),
            [r0, r1, g0, g1, b0, b1] => Ok(Self([16 * r0 + r1, 16 * g0 + g1, 16 * b0 + b1])),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Colour {
    type Error = ColourError;

    fn try_from(text: String) -> Result<Self, ColourError> {
        text.parse()
    }
}

impl From<Colour> for String {
    fn from(colour: Colour) -> Self {
        colour.to_string()
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [r, g, b] = self.0;
        write!(f, "#{r:02x}{g:02x}{b:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colour_reads_back_from_every_way_to_write_it() {
        for (text, colour) in
            [("white", [255; 3]), ("black", [0; 3]), ("#f80", [255, 136, 0]), ("#0a0B0c", [10, 11, 12])]
        {
            let read: Colour = text.parse().unwrap();
            assert_eq!(read, Colour(colour));
            assert_eq!(read.to_string().parse::<Colour>().unwrap(), read);
        }
        assert_eq!(Colour([10, 11, 12]).to_string(), "#0a0b0c");
        for wrong in ["", "#", "red", "#12", "#12345", "#gggggg", "#é12", "ffffff", "#1234567"] {
            assert!(wrong.parse::<Colour>().is_err(), "{wrong}");
        }
    }
}
