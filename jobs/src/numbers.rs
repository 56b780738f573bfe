//! Numbers as people write them: `10000`, `1e4`, `10k`; a learning rate of `1e-4`.

use std::fmt;

use serde::{Deserializer, de::Error, de::Visitor};

/// A whole number: of steps, of samples.
///
/// # Errors
/// What was expected.
pub(crate) fn count<'de, D: Deserializer<'de>>(value: D) -> Result<u64, D::Error> {
    value.deserialize_any(Count)
}

/// The same, or none.
///
/// # Errors
/// What was expected.
pub(crate) fn some_count<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    value.deserialize_any(Count).map(Some)
}

/// Whole numbers.
///
/// # Errors
/// What was expected.
pub(crate) fn counts<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<u64>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(transparent)]
    struct One(#[serde(deserialize_with = "count")] u64);
    let all: Vec<One> = serde::Deserialize::deserialize(value)?;
    Ok(all.into_iter().map(|one| one.0).collect())
}

/// A finite number.
///
/// # Errors
/// What was expected.
pub(crate) fn real<'de, D: Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    value.deserialize_any(Real)
}

/// The same, or none.
///
/// # Errors
/// What was expected.
pub(crate) fn some_real<'de, D: Deserializer<'de>>(value: D) -> Result<Option<f64>, D::Error> {
    value.deserialize_any(Real).map(Some)
}

/// Two finite numbers, or none.
///
/// # Errors
/// What was expected.
pub(crate) fn some_range<'de, D: Deserializer<'de>>(value: D) -> Result<Option<[f64; 2]>, D::Error> {
    range(value).map(Some)
}

/// Two finite numbers.
///
/// # Errors
/// What was expected.
pub(crate) fn range<'de, D: Deserializer<'de>>(value: D) -> Result<[f64; 2], D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(transparent)]
    struct One(#[serde(deserialize_with = "real")] f64);
    let all: Vec<One> = serde::Deserialize::deserialize(value)?;
    match all.as_slice() {
        [One(from), One(to)] => Ok([*from, *to]),
        _ => Err(D::Error::custom("expected two numbers, such as [0, 1.5]")),
    }
}

struct Count;

impl Visitor<'_> for Count {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number, such as 10000, 1e4 or 10k")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        let wrong = || E::custom(format_args!("expected {}, found `{text}`", Expected(&self)));
        let (digits, unit) = match text.char_indices().last() {
            Some((at, 'k' | 'K')) => (&text[..at], 1e3),
            Some((at, 'm' | 'M')) => (&text[..at], 1e6),
            Some((at, 'g' | 'G')) => (&text[..at], 1e9),
            _ => (text, 1.0),
        };
        let number = digits.parse::<f64>().map_err(|_| wrong())? * unit;
        let is_whole = (0.0..=1e15).contains(&number) && number.fract() == 0.0;
        if is_whole { Ok(number as u64) } else { Err(wrong()) }
    }
}

struct Real;

impl Visitor<'_> for Real {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, such as 0.5 or 1e-4")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<f64, E> {
        Ok(number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<f64, E> {
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(E::custom(format_args!("expected {}, found `{text}`", Expected(&self)))),
        }
    }
}

struct Expected<'a, V>(&'a V);

impl<'de, V: Visitor<'de>> fmt::Display for Expected<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }
}
