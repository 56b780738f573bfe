//! A serde deserializer over the [tree](super::tree): its errors know their line and their field.

use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
    value::StrDeserializer,
};
use serde::forward_to_deserialize_any;

use super::{
    SpecError,
    tree::{Key, Node, Value},
};

impl Node {
    fn expected<T>(&self, what: &str) -> Result<T, SpecError> {
        Err(SpecError::at(self.line, format!("expected {what}, found {}", self.shown())))
    }

    fn plain(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, quoted: false } => Some(text),
            _ => None,
        }
    }

    fn unsigned(&self) -> Option<u64> {
        let digits = self.plain()?;
        match digits.get(..2) {
            Some("0x") => u64::from_str_radix(digits.get(2..)?, 16).ok(),
            Some("0o") => u64::from_str_radix(digits.get(2..)?, 8).ok(),
            _ => digits.parse().ok(),
        }
    }

    fn boolean(&self) -> Option<bool> {
        match self.plain()? {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        }
    }
}

/// Each method tells `visitor` the line of what it refuses.
impl<'de> Deserializer<'de> for &Node {
    type Error = SpecError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SpecError> {
        match &self.value {
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
            Value::Scalar { .. } if self.is_null() => visitor.visit_unit(),
            Value::Scalar { text, .. } => match (self.boolean(), self.unsigned()) {
                (Some(value), _) => visitor.visit_bool(value),
                (_, Some(value)) => visitor.visit_u64(value),
                _ => visitor.visit_str(text),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SpecError> {
        match self.boolean() {
            Some(value) => visitor.visit_bool(value),
            None => self.expected("true or false"),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SpecError> {
        match self.unsigned() {
            Some(value) => visitor.visit_u64(value),
            None => self.expected("a whole number, 0 or more"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SpecError> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => visitor.visit_str(text),
            _ => self.expected("text"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SpecError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SpecError> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SpecError> {
        match &self.value {
            Value::List(nodes) => visitor.visit_seq(List(nodes.iter())),
            _ => self.expected("a list"),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SpecError> {
        match &self.value {
            Value::Map(fields) => visitor
                .visit_map(Map { rest: fields.iter(), value: None })
                .map_err(|error| located(error, self.line)),
            _ => self.expected("a map of fields"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SpecError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SpecError> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => {
                let name: StrDeserializer<'_, SpecError> = text.as_str().into_deserializer();
                visitor.visit_enum(name).map_err(|error| located(error, self.line))
            }
            _ => self.expected("a name"),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct identifier ignored_any
    }
}

struct List<'a>(std::slice::Iter<'a, Node>);

impl<'de> SeqAccess<'de> for List<'_> {
    type Error = SpecError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, SpecError> {
        let Some(node) = self.0.next() else { return Ok(None) };
        seed.deserialize(node).map(Some).map_err(|error| located(error, node.line))
    }
}

struct Map<'a> {
    rest: std::slice::Iter<'a, (Key, Node)>,
    value: Option<&'a (Key, Node)>,
}

impl<'de> MapAccess<'de> for Map<'_> {
    type Error = SpecError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, SpecError> {
        self.value = self.rest.next();
        let Some((key, _)) = self.value else { return Ok(None) };
        let name: StrDeserializer<'_, SpecError> = key.name.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|error| located(error, key.line))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, SpecError> {
        let Some((key, node)) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(node).map_err(|error| {
            let SpecError { line, message } = located(error, node.line);
            SpecError { line, message: format!("`{}`: {message}", key.name) }
        })
    }
}

fn located(error: SpecError, line: u32) -> SpecError {
    SpecError { line: error.line.or(Some(line)), ..error }
}

/// Names of a struct's fields, in its order.
pub fn fields_of<T: de::DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &[&str] = &[];
    // It is asked for nothing else: whatever it says comes after it has named its fields.
    drop(T::deserialize(Names(&mut names)));
    names
}

/// Listens to which fields a struct asks for, and has none.
struct Names<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = SpecError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, SpecError> {
        Err(SpecError::nowhere("only structs have fields"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SpecError> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
