//! Whether the scans of a baseline JPEG hold what their headers say: a walk over the Huffman codes, without a pixel.
//!
//! The decoder does not look whether the codes end where their scan ends: after an early end marker it fills the rest
//! with gray, and data that were overwritten read as other pixels, because the codes are dense. This looks. It costs
//! about a tenth of decoding, allocates only its tables, and finds nothing wrong with what it does not understand
//! (progressive JPEG, and damage after which the codes happen to fall back into step).

/// What is wrong with a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It ends before the picture does: the rest would be invented.
    Short,
    /// A code that does not exist, a block that runs over, or bytes left over: something was overwritten. Viewers show
    /// such files, and much of the picture may be right.
    Odd,
}

/// Walks the scans of the JPEG in `bytes`.
pub(super) fn check(bytes: &[u8]) -> Result<(), Fault> {
    let mut header = Header::default();
    let mut at = 2;
    while let Some((marker, start)) = super::jpeg::next_marker(bytes, at) {
        if matches!(marker, 0x01 | 0xd0..=0xd8) {
            at = start;
            continue;
        }
        let length = bytes.get(start..start + 2).map_or(0, |l| usize::from(u16::from_be_bytes([l[0], l[1]])));
        let Some(data) = bytes.get(start + 2..start + length) else { return Ok(()) };
        at = start + length;
        let understood = match marker {
            0xc0 | 0xc1 => header.frame(data),
            0xc4 => header.tables(data),
            0xdd => header.restarts(data),
            0xda => match header.scan(data) {
                Some(scan) => {
                    at += scan.walk(&header, &bytes[at..])?;
                    true
                }
                None => false,
            },
            // The end, or a frame of another kind.
            0xd9 | 0xc2..=0xcf => false,
            _ => true,
        };
        if !understood {
            break;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Header {
    width: usize,
    height: usize,
    /// Id, horizontal and vertical sampling factor.
    components: Vec<(u8, usize, usize)>,
    /// By class (0 DC, 1 AC) and number.
    huffman: [[Option<Box<Table>>; 4]; 2],
    restart_interval: usize,
}

impl Header {
    fn frame(&mut self, data: &[u8]) -> bool {
        let [8, h0, h1, w0, w1, count, rest @ ..] = data else { return false };
        self.width = usize::from(u16::from_be_bytes([*w0, *w1]));
        self.height = usize::from(u16::from_be_bytes([*h0, *h1]));
        self.components =
            rest.chunks_exact(3).map(|c| (c[0], usize::from(c[1] >> 4), usize::from(c[1] & 15))).collect();
        self.components.len() == usize::from(*count)
            && self.components.iter().all(|c| (1..=4).contains(&c.1) && (1..=4).contains(&c.2))
    }

    fn tables(&mut self, mut data: &[u8]) -> bool {
        while let [place, rest @ ..] = data {
            let Some((counts, symbols)) = rest.split_first_chunk::<16>() else { return false };
            let total = counts.iter().map(|&n| usize::from(n)).sum();
            let (class, number) = (usize::from(place >> 4), usize::from(place & 15));
            let Some(symbols_here) = symbols.get(..total).filter(|_| class < 2 && number < 4) else {
                return false;
            };
            self.huffman[class][number] = Table::new(counts, symbols_here);
            data = &symbols[total..];
        }
        true
    }

    fn restarts(&mut self, data: &[u8]) -> bool {
        let [high, low] = data else { return false };
        self.restart_interval = usize::from(u16::from_be_bytes([*high, *low]));
        true
    }

    fn scan(&self, data: &[u8]) -> Option<Scan> {
        let (&count, rest) = data.split_first()?;
        let widest = self.components.iter().map(|c| c.1).max()?;
        let tallest = self.components.iter().map(|c| c.2).max()?;
        let mut parts = Vec::new();
        for pair in rest.chunks_exact(2).take(count.into()) {
            let &(_, h, v) = self.components.iter().find(|c| c.0 == pair[0])?;
            parts.push((h, v, usize::from(pair[1] >> 4 & 3), usize::from(pair[1] & 3)));
        }
        let (mut across, mut down) = (self.width.div_ceil(8 * widest), self.height.div_ceil(8 * tallest));
        if let [(h, v, _, _)] = &mut parts[..] {
            // Alone in its scan, a component's unit is one block of its own grid (ITU-T T.81, A.2.2).
            across = (self.width * *h).div_ceil(widest).div_ceil(8);
            down = (self.height * *v).div_ceil(tallest).div_ceil(8);
            (*h, *v) = (1, 1);
        }
        let blocks = parts.iter().flat_map(|&(h, v, dc, ac)| std::iter::repeat_n((dc, ac), h * v)).collect();
        (parts.len() == usize::from(count) && count > 0).then_some(Scan { units: across * down, blocks })
    }
}

/// Minimum coded units, and the tables of each block in one.
struct Scan {
    units: usize,
    blocks: Vec<(usize, usize)>,
}

impl Scan {
    /// Bytes that the scan takes up to the marker after it.
    fn walk(&self, header: &Header, bytes: &[u8]) -> Result<usize, Fault> {
        let mut bits = Bits { bytes, at: 0, buffer: 0, held: 0 };
        for unit in 0..self.units {
            if header.restart_interval > 0 && unit > 0 && unit % header.restart_interval == 0 {
                bits.restart()?;
            }
            for &(dc, ac) in &self.blocks {
                let size = header.huffman[0][dc].as_ref().ok_or(Fault::Odd)?.symbol(&mut bits)?;
                bits.skip(u32::from(size & 15))?;
                let ac = header.huffman[1][ac].as_ref().ok_or(Fault::Odd)?;
                let mut k = 1;
                while k < 64 {
                    let symbol = ac.symbol(&mut bits)?;
                    k += match symbol {
                        0x00 => break,
                        0xf0 => 16,
                        // A run without a value means something in progressive JPEG only.
                        _ if symbol & 15 == 0 => return Err(Fault::Odd),
                        _ => usize::from(symbol >> 4) + 1,
                    };
                    bits.skip(u32::from(symbol & 15))?;
                }
                // 64 is one past the last coefficient; an end-of-block leaves k below.
                if k > 64 {
                    return Err(Fault::Odd);
                }
            }
        }
        if bits.ends_at_marker() { Ok(bits.at) } else { Err(Fault::Odd) }
    }
}

/// Codes of one Huffman table, looked up by 16 bits: length and symbol; length 0 is no code.
struct Table(Vec<(u8, u8)>);

impl Table {
    /// `None` if the codes do not fit into 16 bits (ITU-T T.81, C.2).
    fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Box<Self>> {
        let mut lookup = Vec::with_capacity(1 << 16);
        let mut symbols = symbols.iter();
        for (length, &count) in (1_u8..).zip(counts) {
            for &symbol in symbols.by_ref().take(count.into()) {
                lookup.extend(std::iter::repeat_n((length, symbol), 1 << (16 - length)));
            }
        }
        if lookup.len() > 1 << 16 {
            return None;
        }
        lookup.resize(1 << 16, (0, 0));
        Some(Box::new(Self(lookup)))
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> Result<u8, Fault> {
        if bits.held < 16 {
            bits.fill();
        }
        match self.0[usize::from(bits.peek())] {
            // With fewer bits left than the longest code has, it may only be cut.
            (0, _) => Err(if bits.held < 16 { Fault::Short } else { Fault::Odd }),
            (length, symbol) => bits.skip(length.into()).map(|()| symbol),
        }
    }
}

/// The bits of entropy-coded data: stuffing removed, zeros after the marker that ends them.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    held: u32,
}

impl Bits<'_> {
    fn fill(&mut self) {
        while self.held <= 48 {
            let (byte, taken) = match self.bytes.get(self.at..) {
                Some([0xff, 0, ..]) => (0xff, 2),
                Some([0xff, ..] | []) | None => return,
                Some([byte, ..]) => (*byte, 1),
            };
            self.at += taken;
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.held += 8;
        }
    }

    /// The next 16 bits.
    fn peek(&self) -> u16 {
        if self.held >= 16 {
            (self.buffer >> (self.held - 16)) as u16
        } else {
            (self.buffer << (16 - self.held)) as u16
        }
    }

    fn skip(&mut self, count: u32) -> Result<(), Fault> {
        if self.held < count {
            self.fill();
        }
        self.held = self.held.checked_sub(count).ok_or(Fault::Short)?;
        Ok(())
    }

    /// Whether less than a byte is left before a marker (or the end).
    fn ends_at_marker(&mut self) -> bool {
        self.fill();
        self.held < 8
    }

    fn restart(&mut self) -> Result<(), Fault> {
        if !self.ends_at_marker() {
            return Err(Fault::Odd);
        }
        self.held = 0;
        while self.bytes.get(self.at + 1) == Some(&0xff) {
            self.at += 1;
        }
        match self.bytes.get(self.at + 1) {
            Some(0xd0..=0xd7) => {
                self.at += 2;
                Ok(())
            }
            _ => Err(Fault::Short),
        }
    }
}
