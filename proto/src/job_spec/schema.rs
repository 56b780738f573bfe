//! The specs as JSON Schema, made from the very types that are read.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::JobSpec;
use crate::{Colour, Dtype, FormatChoice};

impl JobSpec {
    /// JSON Schema (2020-12) of a job spec, for editors and other people's tools.
    pub fn schema() -> Value {
        schemars::schema_for!(Self).to_value()
    }
}

impl JsonSchema for FormatChoice {
    fn schema_name() -> Cow<'static, str> {
        "FormatChoice".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": ["auto", "png", "jpeg", "jpg", "webp", "tiff", "tif"] })
    }
}

impl JsonSchema for Colour {
    fn schema_name() -> Cow<'static, str> {
        "Colour".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(white|black|#[0-9a-fA-F]{3}|#[0-9a-fA-F]{6})$" })
    }
}

impl JsonSchema for Dtype {
    fn schema_name() -> Cow<'static, str> {
        "Dtype".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": ["f32", "bf16", "auto"] })
    }
}
