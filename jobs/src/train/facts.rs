//! What members tell one another in every step, before gradients are summed.

use bytes::Bytes;
use sr3_worker::Stop;

/// What a member says of its part of a step.
pub(super) struct Facts {
    /// Of the part of the weights whose turn it is, before the step.
    pub(super) fingerprint: u64,
    /// Of the audited grain's gradient; 0 of a member that does not compute it.
    pub(super) audited: u64,
    /// Place of a sample whose loss is no number.
    pub(super) bad: Option<u32>,
    /// Step of the newest checkpoint that it knows to be whole.
    pub(super) named: u64,
    pub(super) losses: Vec<f64>,
}

impl Facts {
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = self.fingerprint.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.bad.unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&self.named.to_le_bytes());
        bytes.extend_from_slice(&self.audited.to_le_bytes());
        bytes.extend(self.losses.iter().flat_map(|loss| loss.to_le_bytes()));
        bytes.into()
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self, Stop> {
        let wrong = || Stop::worker("a member says what this sr3 cannot read: run the same sr3 everywhere");
        let (head, losses) = bytes.split_at_checked(28).ok_or_else(wrong)?;
        let word = |at: usize| head[at..at + 8].try_into().map(u64::from_le_bytes).map_err(|_| wrong());
        let (fingerprint, named, audited) = (word(0)?, word(12)?, word(20)?);
        let bad = u32::from_le_bytes(head[8..12].try_into().map_err(|_| wrong())?);
        let (losses, rest) = losses.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(wrong());
        }
        let losses = losses.iter().map(|b| f64::from_le_bytes(*b)).collect();
        Ok(Self { fingerprint, audited, bad: Some(bad).filter(|bad| *bad != u32::MAX), named, losses })
    }
}
