//! JSON Schema of values that are read from text.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::{Colour, Dtype};

/// For fields that choose an output format.
pub(crate) fn format_choice(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["auto", "png", "jpeg", "jpg", "webp", "tiff", "tif"], "default": "auto" })
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
