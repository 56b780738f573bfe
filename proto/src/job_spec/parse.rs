//! Text to [`JobSpec`] and back.

use serde::Deserialize;

use super::{
    JobSpec, SpecError, UpscaleJob, check,
    error::{advice, nearest, shown},
    tree::{self, Key, Node, Value},
};

/// The longest text that is read; specs are a few hundred bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

const KIND: &str = "kind";
const KINDS: &[&str] = &["upscale"];

impl JobSpec {
    /// Reads a spec: one YAML (or JSON) document.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line: never more than one line of text.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let Node { line, value } = document(text)?;
        let Value::Map(mut fields) = value else {
            return Err(SpecError::at(line, "a job is a map of fields, such as `kind: upscale`"));
        };
        let kind = take_kind(&mut fields, line)?;
        let Value::Scalar { text: name, .. } = &kind.value else {
            return Err(SpecError::at(kind.line, format!("`{KIND}`: expected text, found {}", kind.shown())));
        };
        let lines: Vec<_> = fields.iter().map(|(key, _)| key.clone()).collect();
        let body = Node { line, value: Value::Map(fields) };
        match name.as_str() {
            "upscale" => {
                let job = UpscaleJob::deserialize(&body)?;
                if let Some((field, message)) = check::contradiction(&job) {
                    let line = lines.iter().find(|key| key.name == field).map(|key| key.line);
                    return Err(SpecError { line, message: format!("`{field}`: {message}") });
                }
                Ok(Self::Upscale(job))
            }
            _ => {
                let advice = advice(name, KINDS, "kinds are");
                Err(SpecError::at(kind.line, format!("unknown kind {}; {advice}", shown(name))))
            }
        }
    }

    /// Whether [`Self::parse`] takes it, for a spec that was built from something else than text.
    ///
    /// # Errors
    /// What it says, without a line.
    pub fn check(&self) -> Result<(), SpecError> {
        match Self::parse(&self.to_yaml()) {
            Ok(_) => Ok(()),
            Err(error) => Err(SpecError { line: None, ..error }),
        }
    }

    /// Its canonical text, which [`Self::parse`] reads back to the same spec: JSON, which is YAML, with the fields in
    /// the order of the schema and absent ones left out.
    pub fn to_yaml(&self) -> String {
        // Strings, numbers and lists of them always have a text.
        escaped(&serde_json::to_string_pretty(self).unwrap_or_default())
    }

    /// The line of `field` in a text that [`Self::parse`] takes, for what is found wrong with its value later.
    pub fn line_of(text: &str, field: &str) -> Option<u32> {
        let Value::Map(fields) = document(text).ok()?.value else { return None };
        fields.iter().find(|(key, _)| key.name == field).map(|(_, value)| value.line)
    }
}

fn document(text: &str) -> Result<Node, SpecError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(SpecError::nowhere(format!(
            "more than {TEXT_BYTES_MAX} bytes, and a job spec has a few hundred: is this the right file?"
        )));
    }
    tree::read(text)?.ok_or_else(|| SpecError::nowhere("nothing in it: a job begins with `kind: upscale`"))
}

fn take_kind(fields: &mut Vec<(Key, Node)>, line: u32) -> Result<Node, SpecError> {
    if let Some(at) = fields.iter().position(|(key, _)| key.name == KIND) {
        return Ok(fields.remove(at).1);
    }
    match fields.iter().find(|(key, _)| nearest(&key.name, &[KIND]).is_some()) {
        Some((key, _)) => {
            let message = format!("unknown field {}; did you mean `{KIND}`?", shown(&key.name));
            Err(SpecError::at(key.line, message))
        }
        None => Err(SpecError::at(line, format!("missing field `{KIND}`, such as `kind: upscale`"))),
    }
}

/// JSON that is YAML too, whatever the texts in it: YAML wants more characters escaped.
fn escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => escaped.push(c),
        }
    }
    escaped
}
