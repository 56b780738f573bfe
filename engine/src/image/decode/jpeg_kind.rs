//! Kinds of JPEG that are sound but not read, told from the frame header, in words with a way out.
//!
//! What passes here is Huffman-coded, 8 bit, baseline or progressive, and its colours are stored at all, a half or a
//! quarter of the size of its brightness; nothing here looks at a scan.

/// For the rare coding that no other words fit.
pub(super) const CODING: &str = "it is coded in an unusual way: save it again as ordinary JPEG";
/// For what is neither gray, RGB, YCbCr nor CMYK.
pub(super) const COLOURS: &str = "its colours are of an unusual kind: save it again as ordinary JPEG";

/// Why the JPEG with a frame header of `marker` and `data` (after the length) is not read; `None` when it is.
pub(super) fn unread(marker: u8, data: &[u8]) -> Option<String> {
    let what = match marker {
        0xc3 => "it is lossless JPEG",
        0xc5..=0xc7 | 0xcd..=0xcf | 0xde => "it is hierarchical JPEG",
        0xc9 | 0xca => "it is arithmetic-coded",
        0xcb => "it is lossless and arithmetic-coded",
        0xf7 => "it is JPEG-LS",
        _ => return of_ordinary(data),
    };
    Some(format!("{what}: save it again as ordinary JPEG"))
}

/// The same of a baseline or progressive frame: depth, rows, components and their sampling (ITU-T T.81, B.2.2).
fn of_ordinary(data: &[u8]) -> Option<String> {
    let &[bits, h0, h1, w0, w1, count, ref rest @ ..] = data else { return None };
    let what = if bits != 8 {
        format!("it has {bits} bits a sample")
    } else if [h0, h1] == [0, 0] && [w0, w1] != [0, 0] {
        "its height is told only after its first scan".to_owned()
    } else if !matches!(count, 1 | 3 | 4) {
        format!("it has {count} colours")
    } else {
        let factors: Vec<_> = rest.chunks_exact(3).map(|c| (c[1] >> 4, c[1] & 15)).collect();
        let &(wide, tall) = factors.first()?;
        // The first component is brightness (or red, or cyan): the decoder enlarges all others to it, by 2 or 4.
        let ordinary = |&(h, v): &(u8, u8)| {
            matches!((wide, h), (1, 1) | (2, 1 | 2) | (4, 1 | 2 | 4))
                && matches!((tall, v), (1, 1) | (2, 1 | 2) | (4, 1 | 4))
        };
        if factors.iter().all(ordinary) {
            return None;
        }
        format!("its colours are stored at an unusual size ({wide}x{tall} sampling)")
    };
    Some(format!("{what}: save it again as ordinary JPEG"))
}
