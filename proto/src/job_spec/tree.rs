//! YAML text into a tree whose every node knows its line.
//!
//! Bounded before anything is built: the text's length, the depth, one document. Aliases and tags are refused, so a
//! tree is never larger than its text. Scalars keep their spelling: what a field makes of `2024` is the field's
//! business.

use std::collections::HashMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::{SpecError, error::shown};

/// Lists and maps inside each other; a spec needs two or three.
const DEPTH_MAX: usize = 16;

/// A value and the line where it begins.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: u32,
    pub(super) value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar { text: String, quoted: bool },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map; unique in it.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) line: u32,
    pub(super) name: String,
}

/// The one document of `text`; none if there is nothing in it.
pub(super) fn read(text: &str) -> Result<Option<Node>, SpecError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut options = Options::default();
    // Another crate may turn on the feature that makes comments events.
    options.set_emit_comments(false);
    let mut events = Events { parser: Parser::new_from_str_with_options(text, options) };
    let mut root = None;
    let mut documents = 0;
    while let Some((event, line)) = events.next()? {
        match event {
            Event::StreamEnd => break,
            Event::DocumentStart(..) => {
                documents += 1;
                if documents > 1 {
                    return Err(SpecError::at(line, "a second document: one job a file"));
                }
            }
            Event::StreamStart | Event::DocumentEnd => {}
            node => root = Some(events.node(node, line, 0)?),
        }
    }
    Ok(root.filter(|root| !root.is_null()))
}
impl Node {
    /// Whether it is how YAML spells nothing.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, quoted: false }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is, for a message.
    pub(super) fn shown(&self) -> String {
        match &self.value {
            _ if self.is_null() => "nothing".to_string(),
            Value::Scalar { text, .. } => shown(text),
            Value::List(_) => "a list".to_string(),
            Value::Map(_) => "a map".to_string(),
        }
    }
}

struct Events<'a> {
    parser: Parser<'a, StrInput<'a>>,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, u32)>, SpecError> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, line(&span)))),
            Some(Err(error)) => Err(not_yaml(&error)),
        }
    }

    /// The next event of a document that has not ended.
    fn inside(&mut self) -> Result<(Event<'a>, u32), SpecError> {
        self.next()?.ok_or_else(|| SpecError::nowhere("not YAML: the text ends too early"))
    }

    fn node(&mut self, event: Event<'a>, line: u32, depth: usize) -> Result<Node, SpecError> {
        if depth == DEPTH_MAX {
            return Err(SpecError::at(
                line,
                format!("more than {DEPTH_MAX} lists and maps inside each other"),
            ));
        }
        let value = match event {
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, _, Some(_))
            | Event::MappingStart(_, _, Some(_)) => {
                return Err(SpecError::at(line, "tags (`!`) are not taken: quote text that begins with `!`"));
            }
            Event::Alias(_) => {
                return Err(SpecError::at(
                    line,
                    "aliases (`*`) are not taken: quote text that begins with `*`",
                ));
            }
            Event::Scalar(text, style, _, None) => {
                Value::Scalar { text: text.into_owned(), quoted: style != ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            _ => return Err(SpecError::at(line, "not YAML: a value was expected")),
        };
        Ok(Node { line, value })
    }

    fn list(&mut self, depth: usize) -> Result<Value, SpecError> {
        let mut list = Vec::new();
        loop {
            match self.inside()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(list)),
                (event, line) => list.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, SpecError> {
        let mut map = Vec::new();
        let mut lines = HashMap::new();
        loop {
            let (event, line) = self.inside()?;
            if event == Event::MappingEnd {
                return Ok(Value::Map(map));
            }
            let Value::Scalar { text: name, .. } = self.node(event, line, depth + 1)?.value else {
                return Err(SpecError::at(line, "a field's name is text, not a list or a map"));
            };
            if let Some(first) = lines.insert(name.clone(), line) {
                return Err(SpecError::at(
                    line,
                    format!("{} is given twice, first in line {first}", shown(&name)),
                ));
            }
            let (event, value_line) = self.inside()?;
            let mut value = self.node(event, value_line, depth + 1)?;
            if value.is_null() {
                // Nothing is found where the next thing begins.
                value.line = line;
            }
            map.push((Key { line, name }, value));
        }
    }
}

fn line(span: &Span) -> u32 {
    u32::try_from(span.start.line()).unwrap_or(u32::MAX)
}

fn not_yaml(error: &ScanError) -> SpecError {
    let line = u32::try_from(error.marker().line()).unwrap_or(u32::MAX);
    let reason: Vec<_> = error.info().split_whitespace().map(crate::words::printable).collect();
    SpecError::at(line, format!("not YAML: {}", reason.join(" ")))
}
