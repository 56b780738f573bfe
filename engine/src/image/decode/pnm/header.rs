//! The header of a Netpbm picture (the manual pages pbm, pgm, ppm and pam): words and numbers with space or comments
//! between them, as short as the writer likes.

use super::Channels;

/// Digits of a number that are read. Sides have five, whites too.
const DIGITS_MAX: usize = 10;
/// Most bytes of a header, its comments included.
const BYTES_MAX: usize = 64 << 10;

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The file ends in it.
    Cut,
    /// In the words after "the PNM data are damaged".
    Wrong(&'static str),
}

/// How samples are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    TextBits,
    Bits,
    Bytes,
}

/// What a header says.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) kind: Kind,
    pub(super) channels: Channels,
    /// Pixels in a row.
    pub(super) width: u64,
    /// Rows.
    pub(super) height: u64,
    /// The sample that means white, 1 to 65,535.
    pub(super) white: u32,
    /// Bytes of the header: the samples begin behind them.
    pub(super) length: usize,
    /// Without `#` and the end of the line.
    pub(super) comments: Vec<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// Reads the header that `bytes` begin with.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let [b'P', digit @ b'1'..=b'7', ..] = *bytes else { return Err(Fault::Wrong("its header is wrong")) };
        if digit == b'7' {
            return Self::read_lines(bytes);
        }
        let (kind, channels) = match digit {
            b'1' => (Kind::TextBits, Channels::Gray),
            b'2' => (Kind::Text, Channels::Gray),
            b'3' => (Kind::Text, Channels::Rgb),
            b'4' => (Kind::Bits, Channels::Gray),
            b'5' => (Kind::Bytes, Channels::Gray),
            _ => (Kind::Bytes, Channels::Rgb),
        };
        let head = &bytes[..bytes.len().min(BYTES_MAX)];
        let mut at = 2;
        let mut comments = Vec::new();
        let mut next = || {
            skip(head, &mut at, &mut comments)?;
            number(head, &mut at)
        };
        let (width, height) = (next()?, next()?);
        let white = if matches!(kind, Kind::TextBits | Kind::Bits) { 1 } else { next()? };
        // One space, and the samples begin; text has more.
        if !head.get(at).ok_or(Fault::Cut)?.is_ascii_whitespace() {
            return Err(Fault::Wrong("its header is wrong"));
        }
        let white = white_of(white)?;
        Ok(Self { kind, channels, width, height, white, length: at + 1, comments })
    }

    /// PAM: a line each, until ENDHDR.
    fn read_lines(bytes: &'a [u8]) -> Result<Self, Fault> {
        let head = &bytes[..bytes.len().min(BYTES_MAX)];
        let (mut width, mut height, mut depth, mut white, mut comments) =
            (None, None, None, None, Vec::new());
        let mut at = 2;
        for line in head[2..].split_inclusive(|&byte| byte == b'\n') {
            at += line.len();
            let trimmed = line.trim_ascii();
            let (word, value) =
                trimmed.split_at(trimmed.iter().position(|&b| b == b' ').unwrap_or(trimmed.len()));
            let value = || number(value.trim_ascii(), &mut 0);
            match word {
                b"WIDTH" => width = Some(value()?),
                b"HEIGHT" => height = Some(value()?),
                b"DEPTH" => depth = Some(value()?),
                b"MAXVAL" => white = Some(value()?),
                b"ENDHDR" if line.ends_with(b"\n") => {
                    let (Some(width), Some(height), Some(depth), Some(white)) = (width, height, depth, white)
                    else {
                        return Err(Fault::Wrong("its header lacks a line"));
                    };
                    let channels = match depth {
                        1 => Channels::Gray,
                        2 => Channels::GrayAlpha,
                        3 => Channels::Rgb,
                        4 => Channels::Rgba,
                        _ => return Err(Fault::Wrong("its pixels have more than 4 samples")),
                    };
                    let white = white_of(white)?;
                    return Ok(Self {
                        kind: Kind::Bytes,
                        channels,
                        width,
                        height,
                        white,
                        length: at,
                        comments,
                    });
                }
                [b'#', ..] => comments.push(trimmed[1..].trim_ascii()),
                // TUPLTYPE says again what the number of samples says.
                _ => {}
            }
        }
        Err(Fault::Cut)
    }
}

fn white_of(number: u64) -> Result<u32, Fault> {
    match number {
        1..=65_535 => Ok(number as u32),
        _ => Err(Fault::Wrong("its white is not 1 to 65535")),
    }
}

/// Passes over space and comments.
fn skip<'a>(bytes: &'a [u8], at: &mut usize, comments: &mut Vec<&'a [u8]>) -> Result<(), Fault> {
    loop {
        match bytes.get(*at).ok_or(Fault::Cut)? {
            b'#' => {
                let rest = &bytes[*at + 1..];
                let length = rest.iter().position(|&byte| byte == b'\n').ok_or(Fault::Cut)?;
                comments.push(rest[..length].trim_ascii());
                *at += length + 2;
            }
            byte if byte.is_ascii_whitespace() => *at += 1,
            _ => return Ok(()),
        }
    }
}

/// The number that stands at `at`, which is moved behind it; space before it is passed over.
pub(super) fn number(bytes: &[u8], at: &mut usize) -> Result<u64, Fault> {
    while bytes.get(*at).is_some_and(u8::is_ascii_whitespace) {
        *at += 1;
    }
    let digits =
        bytes[(*at).min(bytes.len())..].iter().take(DIGITS_MAX + 1).take_while(|b| b.is_ascii_digit());
    let (mut value, mut count) = (0, 0);
    for digit in digits {
        value = 10 * value + u64::from(digit - b'0');
        count += 1;
    }
    *at += count;
    match (count, bytes.get(*at)) {
        (0, None) => Err(Fault::Cut),
        (1..=DIGITS_MAX, _) => Ok(value),
        _ => Err(Fault::Wrong("there is something else where a number is due")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_however_it_is_spaced() {
        for text in [&b"P6 3 2 255 "[..], b"P6\n3 2\n255\n", b"P6\n# made by hand\n3\n#x\n 2 255\n"] {
            let header = Header::read(text).unwrap();
            assert_eq!((header.width, header.height, header.white, header.length), (3, 2, 255, text.len()));
        }
        let commented = Header::read(b"P5 #one\n#  two\n1 1 9 ").unwrap();
        assert_eq!(commented.comments, [&b"one"[..], b"two"]);
        let pam = b"P7\nWIDTH 4\nHEIGHT 5\nDEPTH 4\nMAXVAL 65535\nTUPLTYPE RGB_ALPHA\nENDHDR\n";
        let header = Header::read(pam).unwrap();
        assert_eq!(
            (header.width, header.height, header.channels, header.length),
            (4, 5, Channels::Rgba, pam.len())
        );
    }

    #[test]
    fn a_header_that_is_cut_or_wrong_is_told_apart() {
        let fault = |bytes: &[u8]| Header::read(bytes).map(|header| header.length).unwrap_err();
        for cut in [&b"P6"[..], b"P6 3", b"P6 3 2 255", b"P6 # no end", b"P7\nWIDTH 3\n"] {
            assert_eq!(fault(cut), Fault::Cut, "{cut:?}");
        }
        for wrong in [
            &b"P6 x"[..],
            b"P6 3 2 0 ",
            b"P6 3 2 65536 ",
            b"P6 3 2 255x",
            b"P5 99999999999 1 255 ",
            b"P7\nENDHDR\n",
        ] {
            assert!(matches!(fault(wrong), Fault::Wrong(_)), "{wrong:?}");
        }
    }
}
