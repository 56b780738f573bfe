//! What is wrong with a spec, in one line that a person can act on.

use std::fmt;

use crate::words::printable;

/// Why a text is no job spec. Shown as one line, without the name of the file: see [`SpecError::in_file`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SpecError {
    /// Where, counted from 1; none if it is about the text as a whole.
    pub line: Option<u32>,
    /// What, and what would be right. One line.
    pub message: String,
}

impl SpecError {
    /// An error at a line.
    pub(crate) fn at(line: u32, message: impl Into<String>) -> Self {
        Self { line: Some(line), message: message.into() }
    }

    /// An error whose line is found further up, or that has none.
    pub fn nowhere(message: impl Into<String>) -> Self {
        Self { line: None, message: message.into() }
    }

    /// With the name of the file before it: `job.yaml:7: unknown field …`.
    pub fn in_file(&self, file: &str) -> String {
        let Self { line, message } = self;
        match line {
            Some(line) => format!("{file}:{line}: {message}"),
            None => format!("{file}: {message}"),
        }
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// What serde has to say; whoever knows the line adds it.
impl serde::de::Error for SpecError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        const CHARS_MAX: usize = 300;
        let text: String = message.to_string().chars().take(CHARS_MAX).collect();
        Self::nowhere(printable(&text))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::nowhere(format!("unknown field {}; {}", shown(field), advice(field, expected, "fields are")))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::nowhere(format!("unknown name {}; {}", shown(variant), advice(variant, expected, "use one of")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::nowhere(format!("missing field `{field}`"))
    }
}

/// Names the nearest of `known`, or all of them if none is near.
pub(super) fn advice(name: &str, known: &[&str], otherwise: &str) -> String {
    match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
            format!("{otherwise} {}", known.join(", "))
        }
    }
}

/// The one of `known` that a slip of the finger or of the memory may have turned into `name`.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    const NAME_BYTES_MAX: usize = 64;
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let plain = name.to_lowercase().replace(['-', ' '], "_");
    known
        .iter()
        .map(|&candidate| (strsim::damerau_levenshtein(&plain, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// A piece of somebody's text as part of a message: short, printable, on one line.
pub(super) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let cut: String = text.chars().take(CHARS_MAX).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("`{}{dots}`", printable(&cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_nonsense_finds_none() {
        let known = ["seed", "source", "max_bad_items", "tile", "scale"];
        for (name, near) in [
            ("sede", Some("seed")),
            ("Source", Some("source")),
            ("max-bad-items", Some("max_bad_items")),
            ("sacle", Some("scale")),
            ("colour", None),
        ] {
            assert_eq!(nearest(name, &known), near, "{name}");
        }
    }

    #[test]
    fn text_of_strangers_stays_on_one_line() {
        assert_eq!(shown("a\nb\u{1b}[31m"), "`a\\nb\\u{1b}[31m`");
        assert!(shown(&"x".repeat(1000)).chars().count() < 70);
    }
}
