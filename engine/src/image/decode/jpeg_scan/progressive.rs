//! The walk over the scans of a progressive JPEG (ITU-T T.81, annex G), without a pixel.
//!
//! How many bits a refining scan has depends on which coefficients are not zero yet: [`super::header::Sent`] remembers.

use super::bits::{Bits, Fault};
use super::header::{Band, Header, Part};

/// Walks one scan of `parts` in `units` minimum coded units.
pub(super) fn walk(
    header: &mut Header,
    parts: &[Part],
    units: usize,
    band: Band,
    bits: &mut Bits<'_>,
) -> Result<(), Fault> {
    match (band.first, parts) {
        (0, _) => walk_dc(header, parts, units, band, bits)?,
        (_, [part]) => walk_ac(header, part, units, band, bits)?,
        _ => return Err(Fault::Odd),
    }
    for part in parts {
        if let Some(sent) = header.sent.get_mut(part.component) {
            sent.down_to[band.first..=band.last].fill(band.low);
        }
    }
    Ok(())
}

fn walk_dc(
    header: &Header,
    parts: &[Part],
    units: usize,
    band: Band,
    bits: &mut Bits<'_>,
) -> Result<(), Fault> {
    for unit in 0..units {
        header.restart(unit, bits)?;
        for part in parts {
            for _ in 0..part.blocks {
                if band.high > 0 {
                    bits.skip(1)?;
                } else {
                    let size = header.table(0, part.dc)?.symbol(bits)?;
                    bits.skip(u32::from(size & 15))?;
                }
            }
        }
    }
    Ok(())
}

fn walk_ac(
    header: &mut Header,
    part: &Part,
    units: usize,
    band: Band,
    bits: &mut Bits<'_>,
) -> Result<(), Fault> {
    let Some(sent) = header.sent.get_mut(part.component) else { return Err(Fault::Odd) };
    let mut not_zero = std::mem::take(&mut sent.not_zero);
    not_zero.resize(units, 0);
    let mut run = 0;
    for (unit, block) in not_zero.iter_mut().enumerate() {
        if header.restart(unit, bits)? {
            run = 0;
        }
        match band.high {
            0 => first(header, part, band, bits, block, &mut run)?,
            _ => refine(header, part, band, bits, block, &mut run)?,
        }
    }
    header.sent[part.component].not_zero = not_zero;
    Ok(())
}

/// G.1.2.2: `run` is how many blocks, from this one on, have no more in this band.
fn first(
    header: &Header,
    part: &Part,
    band: Band,
    bits: &mut Bits<'_>,
    block: &mut u64,
    run: &mut u32,
) -> Result<(), Fault> {
    if *run > 0 {
        *run -= 1;
        return Ok(());
    }
    let table = header.table(1, part.ac)?;
    let mut k = band.first;
    while k <= band.last {
        let symbol = table.symbol(bits)?;
        let (zeros, size) = (symbol >> 4, u32::from(symbol & 15));
        match (zeros, size) {
            (15, 0) => k += 16,
            (_, 0) => {
                *run = (1 << zeros) - 1 + bits.take(zeros.into())?;
                return Ok(());
            }
            _ => {
                k += usize::from(zeros);
                if k > band.last {
                    return Err(Fault::Odd);
                }
                *block |= 1 << k;
                bits.skip(size)?;
                k += 1;
            }
        }
    }
    Ok(())
}

/// G.1.2.3: every coefficient that is not zero yet has a bit of its own among the codes of those that become so.
fn refine(
    header: &Header,
    part: &Part,
    band: Band,
    bits: &mut Bits<'_>,
    block: &mut u64,
    run: &mut u32,
) -> Result<(), Fault> {
    let mut k = band.first;
    while *run == 0 && k <= band.last {
        let symbol = header.table(1, part.ac)?.symbol(bits)?;
        let (zeros, size) = (symbol >> 4, symbol & 15);
        if size == 0 && zeros < 15 {
            *run = (1 << zeros) + bits.take(zeros.into())?;
            break;
        }
        // The sign of the coefficient that this code is for.
        bits.skip(u32::from(size > 0))?;
        let mut zeros_left = zeros;
        while k <= band.last {
            if *block >> k & 1 == 1 {
                bits.skip(1)?;
            } else if zeros_left == 0 {
                break;
            } else {
                zeros_left -= 1;
            }
            k += 1;
        }
        if size > 0 {
            if k > band.last {
                return Err(Fault::Odd);
            }
            *block |= 1 << k;
        }
        k += 1;
    }
    if *run > 0 {
        if k <= band.last {
            let rest = u64::MAX << k & u64::MAX >> (63 - band.last);
            let corrections = (*block & rest).count_ones();
            bits.skip(corrections.min(32))?;
            bits.skip(corrections.saturating_sub(32))?;
        }
        *run -= 1;
    }
    Ok(())
}
