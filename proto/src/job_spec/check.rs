//! For `deserialize_with` of kinds: what values a field takes, beyond its type.

use std::{fmt, ops::RangeInclusive};

use serde::{Deserialize, Deserializer, de::Error};

/// Text that is not empty.
///
/// # Errors
/// What was expected.
pub fn text<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    filled(String::deserialize(value)?)
}

/// Text that is not empty, or none.
///
/// # Errors
/// What was expected.
pub fn some_text<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    Option::<String>::deserialize(value)?.map(filled).transpose()
}

/// Longest name of a job.
pub const NAME_CHARS_MAX: usize = 200;

/// A name for people, which is neither empty nor long, and is one line; or none.
///
/// # Errors
/// What was expected.
pub fn some_name<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    let name = some_text(value)?;
    let fits = |name: &String| name.chars().count() <= NAME_CHARS_MAX && !name.chars().any(char::is_control);
    match name {
        Some(name) if !fits(&name) => {
            Err(D::Error::custom(format!("a line of at most {NAME_CHARS_MAX} characters is expected")))
        }
        name => Ok(name),
    }
}

/// A number in `range`.
///
/// # Errors
/// What was expected.
pub fn number<'de, T, D>(value: D, range: &RangeInclusive<T>) -> Result<T, D::Error>
where
    T: fmt::Display + PartialOrd + TryFrom<u64>,
    D: Deserializer<'de>,
{
    within(u64::deserialize(value)?, range)
}

/// A number in `range`, or none.
///
/// # Errors
/// What was expected.
pub fn some_number<'de, T, D>(value: D, range: &RangeInclusive<T>) -> Result<Option<T>, D::Error>
where
    T: fmt::Display + PartialOrd + TryFrom<u64>,
    D: Deserializer<'de>,
{
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
