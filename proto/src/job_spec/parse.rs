//! Text to a [`Document`], and specs back to text.

use serde::{Serialize, de::DeserializeOwned};

use super::{
    SpecError,
    error::{advice, nearest, shown},
    read::fields_of,
    tree::{self, Key, Node, Value},
};

/// The longest text that is read; specs are a few hundred bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

const KIND: &str = "kind";

/// A job spec as it was written: its kind, and the fields that are for the kind to read.
#[derive(Clone, Debug)]
pub struct Document {
    kind: String,
    fields: Vec<(Key, Node)>,
    line: u32,
}

impl Document {
    /// Reads a spec of one of `kinds`.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line: never more than one line of text.
    pub fn parse(text: &str, kinds: &[&str]) -> Result<Self, SpecError> {
        let Node { line, value } = document(text)?;
        let Value::Map(mut fields) = value else {
            return Err(SpecError::at(line, "a job is a map of fields, such as `kind: upscale`"));
        };
        let kind = take_kind(&mut fields, line)?;
        let Value::Scalar { text: name, .. } = &kind.value else {
            return Err(SpecError::at(kind.line, format!("`{KIND}`: expected text, found {}", kind.shown())));
        };
        if !kinds.contains(&name.as_str()) {
            let advice = advice(name, kinds, "kinds are");
            return Err(SpecError::at(kind.line, format!("unknown kind {}; {advice}", shown(name))));
        }
        Ok(Self { kind: name.clone(), fields, line })
    }

    /// Its kind.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Refuses fields that are none of `known`.
    ///
    /// # Errors
    /// The first, with the nearest right name.
    pub fn only(&self, known: &[&[&str]]) -> Result<(), SpecError> {
        let known = known.concat();
        match self.fields.iter().find(|(key, _)| !known.contains(&key.name.as_str())) {
            None => Ok(()),
            Some((key, _)) => {
                let advice = advice(&key.name, &known, "fields are");
                Err(SpecError::at(key.line, format!("unknown field {}; {advice}", shown(&key.name))))
            }
        }
    }

    /// Those of its fields that the struct `T` has: a spec may be made of several.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn part<T: DeserializeOwned>(&self) -> Result<T, SpecError> {
        let names = fields_of::<T>();
        let of_it = self.fields.iter().filter(|(key, _)| names.contains(&key.name.as_str())).cloned();
        T::deserialize(&Node { line: self.line, value: Value::Map(of_it.collect()) })
    }

    /// That a field's value cannot be: it contradicts another, or what it names is not there.
    pub fn wrong(&self, field: &str, message: &str) -> SpecError {
        let line = self.line_of(field);
        SpecError { line, message: format!("`{field}`: {message}") }
    }

    /// The maps in the list of a field, each as a document of the same kind; none where the field is not given.
    ///
    /// # Errors
    /// It is no list of maps.
    pub fn maps(&self, field: &str) -> Result<Option<Vec<Self>>, SpecError> {
        let Some(node) = self.node(field) else { return Ok(None) };
        let expected = |node: &Node, what: &str| {
            SpecError::at(node.line, format!("`{field}`: expected {what}, found {}", node.shown()))
        };
        let Value::List(nodes) = &node.value else { return Err(expected(node, "a list")) };
        let map = |node: &Node| match &node.value {
            Value::Map(fields) => {
                Ok(Self { fields: fields.clone(), line: node.line, kind: self.kind.clone() })
            }
            _ => Err(expected(node, "a map of fields")),
        };
        nodes.iter().map(map).collect::<Result<_, _>>().map(Some)
    }

    /// Its fields, and those of `other` that it does not have.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        let mut both = self.clone();
        let more = other.fields.iter().filter(|(key, _)| self.node(&key.name).is_none());
        both.fields.extend(more.cloned());
        both
    }

    /// Its fields but one.
    #[must_use]
    pub fn without(&self, field: &str) -> Self {
        let mut rest = self.clone();
        rest.fields.retain(|(key, _)| key.name != field);
        rest
    }

    /// The line where it begins.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// A field's text; none where the field is not given, or is something else.
    pub fn text(&self, field: &str) -> Option<&str> {
        match &self.node(field)?.value {
            Value::Scalar { text, quoted } if *quoted || !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// Gives a field a text, at the line where it stood.
    pub fn set(&mut self, field: &str, text: String) {
        let line = self.line_of(field).unwrap_or(self.line);
        self.fields.retain(|(key, _)| key.name != field);
        let value = Value::Scalar { text, quoted: true };
        self.fields.push((Key { line, name: field.to_string() }, Node { line, value }));
    }

    fn node(&self, field: &str) -> Option<&Node> {
        self.fields.iter().find(|(key, _)| key.name == field).map(|(_, value)| value)
    }

    /// The line of a field's value; none where the field is not given.
    pub fn line_of(&self, field: &str) -> Option<u32> {
        self.node(field).map(|value| value.line)
    }
}

/// The canonical text of a spec, which [`Document::parse`] reads back to the same: JSON, which is YAML, with the fields in
/// the order of the struct and absent ones left out.
pub fn to_yaml<T: Serialize>(kind: &str, spec: &T) -> String {
    #[derive(Serialize)]
    struct Written<'a, T> {
        kind: &'a str,
        #[serde(flatten)]
        spec: &'a T,
    }
    // Strings, numbers and lists of them always have a text.
    escaped(&serde_json::to_string_pretty(&Written { kind, spec }).unwrap_or_default())
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
