//! Which devices a job may run on.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What is required.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// Whatever there is.
    #[default]
    Any,
    /// CPUs.
    Cpu,
    /// NVIDIA GPUs.
    Cuda,
}

/// A name that is none of ours.
#[derive(Debug, thiserror::Error)]
#[error("unknown device `{name}`: use any, cpu or cuda")]
pub struct DeviceChoiceError {
    /// What was given.
    pub name: String,
}

impl FromStr for DeviceChoice {
    type Err = DeviceChoiceError;

    fn from_str(name: &str) -> Result<Self, DeviceChoiceError> {
        match name {
            "any" => Ok(Self::Any),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            _ => Err(DeviceChoiceError { name: name.to_string() }),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = DeviceChoiceError;

    fn try_from(name: String) -> Result<Self, DeviceChoiceError> {
        name.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

impl JsonSchema for DeviceChoice {
    fn schema_name() -> Cow<'static, str> {
        "DeviceChoice".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": ["any", "cpu", "cuda"] })
    }
}
