//! What a network's convolutions are computed in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What is asked for, or what is in force (then never `auto`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Dtype {
    /// The same bytes from every machine.
    #[default]
    F32,
    /// The same bytes from machines of one kind.
    Bf16,
    /// bf16 where the machine that opens the model has instructions for it and is found to be faster with them.
    Auto,
}

/// A name that is none of ours.
#[derive(Debug, thiserror::Error)]
#[error("unknown dtype `{name}`: use f32, bf16 or auto")]
pub struct DtypeError {
    /// What was given.
    pub name: String,
}

impl FromStr for Dtype {
    type Err = DtypeError;

    fn from_str(name: &str) -> Result<Self, DtypeError> {
        match name {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "auto" => Ok(Self::Auto),
            _ => Err(DtypeError { name: name.to_string() }),
        }
    }
}

impl TryFrom<String> for Dtype {
    type Error = DtypeError;

    fn try_from(name: String) -> Result<Self, DtypeError> {
        name.parse()
    }
}

impl From<Dtype> for String {
    fn from(dtype: Dtype) -> Self {
        dtype.to_string()
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Auto => "auto",
        })
    }
}
