//! What the segments between a JPEG's scans say about them: frame, Huffman tables, restart interval, and what was sent so
//! far.
//!
//! How many bits a refining scan has depends on which coefficients are not zero yet, so that is remembered: 8 bytes a
//! block of progressive JPEG, an eighth of what the decoder itself holds.

use super::bits::{Bits, Fault, Table};

/// What is known between two scans.
#[derive(Default)]
pub(super) struct Header {
    progressive: bool,
    width: usize,
    height: usize,
    /// Id, horizontal and vertical sampling factor.
    components: Vec<(u8, usize, usize)>,
    /// Whether a scan of sequential JPEG had the component.
    pub(super) seen: Vec<bool>,
    /// What the scans of progressive JPEG sent of the component.
    pub(super) sent: Vec<Sent>,
    /// By class (0 DC, 1 AC) and number.
    huffman: [[Option<Box<Table>>; 4]; 2],
    restart_interval: usize,
}

impl Header {
    pub(super) fn frame(&mut self, progressive: bool, data: &[u8]) -> bool {
        let [8, h0, h1, w0, w1, count, rest @ ..] = data else { return false };
        if !self.components.is_empty() {
            return false;
        }
        self.progressive = progressive;
        self.width = usize::from(u16::from_be_bytes([*w0, *w1]));
        self.height = usize::from(u16::from_be_bytes([*h0, *h1]));
        self.components =
            rest.chunks_exact(3).map(|c| (c[0], usize::from(c[1] >> 4), usize::from(c[1] & 15))).collect();
        self.seen = vec![false; self.components.len()];
        self.sent = self.components.iter().map(|_| Sent::nothing()).collect();
        self.components.len() == usize::from(*count)
            && (1..=4).contains(count)
            && self.components.iter().all(|c| (1..=4).contains(&c.1) && (1..=4).contains(&c.2))
    }

    pub(super) fn tables(&mut self, mut data: &[u8]) -> bool {
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

    pub(super) fn restarts(&mut self, data: &[u8]) -> bool {
        let [high, low] = data else { return false };
        self.restart_interval = usize::from(u16::from_be_bytes([*high, *low]));
        true
    }

    pub(super) fn scan(&self, data: &[u8]) -> Option<Scan> {
        let (&count, rest) = data.split_first()?;
        let widest = self.components.iter().map(|c| c.1).max()?;
        let tallest = self.components.iter().map(|c| c.2).max()?;
        let mut parts = Vec::new();
        for pair in rest.chunks_exact(2).take(count.into()) {
            let component = self.components.iter().position(|c| c.0 == pair[0])?;
            let (_, h, v) = self.components[component];
            let (dc, ac) = (usize::from(pair[1] >> 4 & 3), usize::from(pair[1] & 3));
            parts.push(Part { component, blocks: h * v, dc, ac });
        }
        let (mut across, mut down) = (self.width.div_ceil(8 * widest), self.height.div_ceil(8 * tallest));
        if let [part] = &mut parts[..] {
            // Alone in its scan, a component's unit is one block of its own grid (ITU-T T.81, A.2.2).
            let (_, h, v) = self.components[part.component];
            across = (self.width * h).div_ceil(widest).div_ceil(8);
            down = (self.height * v).div_ceil(tallest).div_ceil(8);
            part.blocks = 1;
        }
        let band = match self.progressive {
            true => Some(Band::new(rest.get(2 * parts.len()..)?, parts.len())?),
            false => None,
        };
        (parts.len() == usize::from(count) && count > 0).then_some(Scan { units: across * down, parts, band })
    }

    pub(super) fn table(&self, class: usize, number: usize) -> Result<&Table, Fault> {
        self.huffman[class][number].as_deref().ok_or(Fault::Odd)
    }

    /// Passes the restart marker before `unit` if there is one to be; whether there was.
    pub(super) fn restart(&self, unit: usize, bits: &mut Bits<'_>) -> Result<bool, Fault> {
        let due = self.restart_interval > 0 && unit > 0 && unit.is_multiple_of(self.restart_interval);
        if due {
            bits.restart()?;
        }
        Ok(due)
    }

    /// What the scans so far add up to, if they are all: whether every coefficient is exact.
    pub(super) fn coverage(&self) -> Result<bool, Fault> {
        let has_all = match self.progressive {
            true => self.sent.iter().all(Sent::has_dc),
            false => self.seen.iter().all(|&seen| seen),
        };
        if !has_all || self.components.is_empty() {
            return Err(Fault::Short);
        }
        Ok(!self.progressive || self.sent.iter().all(Sent::is_exact))
    }
}

/// A component's part in a scan: its index, its blocks in a unit, and its tables.
pub(super) struct Part {
    pub(super) component: usize,
    pub(super) blocks: usize,
    pub(super) dc: usize,
    pub(super) ac: usize,
}

/// Minimum coded units, and what is in each.
pub(super) struct Scan {
    pub(super) units: usize,
    pub(super) parts: Vec<Part>,
    /// The band of coefficients of a progressive scan; a sequential one has all.
    pub(super) band: Option<Band>,
}

/// Of a coefficient that no scan has sent.
const NEVER: u8 = u8::MAX;

/// What the scans so far have sent of one component.
pub(super) struct Sent {
    /// By coefficient in zigzag order: the bit down to which it is known (0: exactly), or [`NEVER`].
    pub(super) down_to: [u8; 64],
    /// A bit a coefficient of each block of the component's own grid, set where it is not zero.
    pub(super) not_zero: Vec<u64>,
}

impl Sent {
    pub(super) fn nothing() -> Self {
        Self { down_to: [NEVER; 64], not_zero: Vec::new() }
    }

    pub(super) fn has_dc(&self) -> bool {
        self.down_to[0] != NEVER
    }

    pub(super) fn is_exact(&self) -> bool {
        self.down_to.iter().all(|&bit| bit == 0)
    }
}

/// The numbers at the end of a scan's header: first and last coefficient, and the bits before and after it.
#[derive(Clone, Copy)]
pub(super) struct Band {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) high: u8,
    pub(super) low: u8,
}

impl Band {
    /// `None` where the standard allows no such scan.
    pub(super) fn new(numbers: &[u8], components: usize) -> Option<Self> {
        let &[first, last, bits] = numbers else { return None };
        let band = Self { first: first.into(), last: last.into(), high: bits >> 4, low: bits & 15 };
        let dc = band.first == 0 && band.last == 0;
        let ac = band.first > 0 && band.first <= band.last && band.last < 64 && components == 1;
        (dc || ac).then_some(band)
    }
}
