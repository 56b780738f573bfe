//! Entropy-coded data of a JPEG as bits, and the Huffman codes in them.
//!
//! Byte stuffing is undone and no bit is read past the marker that ends the data: what is asked for there is
//! [`Fault::Short`].

/// What is wrong with a scan: see [`super::Verdict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Short,
    Odd,
}

/// Codes of one Huffman table, looked up by 16 bits: length and symbol; length 0 is no code.
pub(super) struct Table(Vec<(u8, u8)>);

impl Table {
    /// `None` if the codes do not fit into 16 bits (ITU-T T.81, C.2).
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Box<Self>> {
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

    /// The symbol of the next code.
    pub(super) fn symbol(&self, bits: &mut Bits<'_>) -> Result<u8, Fault> {
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

/// The bits of one scan: stuffing removed, zeros after the marker that ends them.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    held: u32,
}

impl<'a> Bits<'a> {
    /// The bits from the start of `bytes` on.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, buffer: 0, held: 0 }
    }

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

    /// Passes over `count` bits, at most 48.
    pub(super) fn skip(&mut self, count: u32) -> Result<(), Fault> {
        if self.held < count {
            self.fill();
        }
        self.held = self.held.checked_sub(count).ok_or(Fault::Short)?;
        Ok(())
    }

    /// The next `count` bits, at most 16, as a number.
    pub(super) fn take(&mut self, count: u32) -> Result<u32, Fault> {
        self.skip(count)?;
        Ok((self.buffer >> self.held) as u32 & ((1 << count) - 1))
    }

    /// Whether less than a byte is left before a marker (or the end of the file).
    pub(super) fn ends_at_marker(&mut self) -> bool {
        self.fill();
        self.held < 8
    }

    /// Passes the restart marker that must come next.
    pub(super) fn restart(&mut self) -> Result<(), Fault> {
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

    /// Bytes from the start up to the last one of which a bit was used.
    pub(super) fn used(&self) -> usize {
        // A 0 after 0xff is stuffing wherever it stands, so the way back is as clear as the way there.
        (0..self.held / 8).fold(self.at, |at, _| match self.bytes.get(..at) {
            Some([.., 0xff, 0]) => at - 2,
            _ => at.saturating_sub(1),
        })
    }

    /// Whether the data end as an encoder ends them: the last byte filled up with ones (ITU-T T.81, F.1.2.3), and not
    /// in a row of equal bytes, which is what a disk or a download leaves where nothing was written (zeros are valid
    /// codes in many tables).
    pub(super) fn ends_on_purpose(&self) -> bool {
        const ROW: usize = 16;
        let rest = self.held % 8;
        let padding = self.buffer >> (self.held - rest) & ((1 << rest) - 1);
        let used = self.used();
        let tail = &self.bytes[used.saturating_sub(ROW)..used];
        padding == (1 << rest) - 1 && !(tail.len() == ROW && tail.iter().all(|&b| b == tail[0]))
    }
}
