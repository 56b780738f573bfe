//! What values a field takes, beyond its type.

use std::{fmt, ops::RangeInclusive};

use serde::{Deserialize, Deserializer, de::Error};

use super::UpscaleJob;

/// The numbers that a spec may name; the same as those of `sr3 upscale`.
pub mod ranges {
    use std::ops::RangeInclusive;

    /// Output size over input size.
    pub const SCALE: RangeInclusive<u32> = 1..=64;
    /// Sampling steps.
    pub const STEPS: RangeInclusive<u32> = 1..=10_000;
    /// Tile side in output pixels.
    pub const TILE: RangeInclusive<u32> = 16..=65_536;
    /// Quality of lossy formats.
    pub const QUALITY: RangeInclusive<u8> = 1..=100;
    /// Weight among running jobs.
    pub const PRIORITY: RangeInclusive<u8> = 1..=100;
}

/// A field that does not go with another, and why.
pub(super) fn contradiction(job: &UpscaleJob) -> Option<(&'static str, String)> {
    if job.source.trim_end_matches('/') == job.destination.trim_end_matches('/') {
        return Some(("destination", "it is the source: results never go among their inputs".to_string()));
    }
    let (min, max) = (job.bytes_min?, job.bytes_max?);
    (min > max).then(|| ("bytes_max", format!("{max} is below `bytes_min`, {min}: no image would be left")))
}

pub(super) fn scale<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u32>, D::Error> {
    optional(value, &ranges::SCALE)
}

pub(super) fn steps<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u32>, D::Error> {
    optional(value, &ranges::STEPS)
}

pub(super) fn tile<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u32>, D::Error> {
    optional(value, &ranges::TILE)
}

pub(super) fn quality<'de, D: Deserializer<'de>>(value: D) -> Result<u8, D::Error> {
    within(u64::deserialize(value)?, &ranges::QUALITY)
}

pub(super) fn priority<'de, D: Deserializer<'de>>(value: D) -> Result<u8, D::Error> {
    within(u64::deserialize(value)?, &ranges::PRIORITY)
}

pub(super) fn text<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    filled(String::deserialize(value)?)
}

pub(super) fn some_text<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    Option::<String>::deserialize(value)?.map(filled).transpose()
}

fn optional<'de, D: Deserializer<'de>>(
    value: D,
    range: &RangeInclusive<u32>,
) -> Result<Option<u32>, D::Error> {
    Option::<u64>::deserialize(value)?.map(|number| within(number, range)).transpose()
}

fn within<T, E>(number: u64, range: &RangeInclusive<T>) -> Result<T, E>
where
    T: fmt::Display + PartialOrd + TryFrom<u64>,
    E: Error,
{
    T::try_from(number).ok().filter(|number| range.contains(number)).ok_or_else(|| {
        let (start, end) = (range.start(), range.end());
        E::custom(format_args!("expected a whole number from {start} to {end}, found `{number}`"))
    })
}

fn filled<E: Error>(text: String) -> Result<String, E> {
    if text.is_empty() { Err(E::custom("expected text, found none")) } else { Ok(text) }
}
