//! The `sr3` command.

use std::process::ExitCode;

use sr3::{
    exit::CommandError,
    models::{ModelRequest, Models, OpenModel},
    proto::{Cancel, Key, OutputFormat},
    worker::{Computed, Encoded, ItemError, Processor},
};

fn main() -> ExitCode {
    sr3::cli::main_with(&NoModels, std::env::args_os()).into()
}

/// A build without an engine: it knows no model, and says so.
struct NoModels;

/// Nobody can make one.
enum Nothing {}

impl Models for NoModels {
    type Processor = Nothing;

    fn open(&self, request: &ModelRequest) -> Result<OpenModel<Nothing>, CommandError> {
        Err(CommandError::usage(format!("unknown model `{}`: this build has none", request.model)))
    }
}

impl Processor for Nothing {
    type Decoded = Self;
    type Computed = Self;
    type Device = Self;

    fn open_device(&self) -> Result<Self, String> {
        match *self {}
    }

    fn decode(&self, _: &Key, _: &[u8]) -> Result<Self, ItemError> {
        match *self {}
    }

    fn output_pixels(&self, _: &Self) -> u64 {
        match *self {}
    }

    fn compute(
        &self,
        _: &mut Self,
        _: &Key,
        _: Self,
        _: &Cancel,
        _: &mut dyn FnMut(f32),
    ) -> Result<Computed<Self>, ItemError> {
        match *self {}
    }

    fn encode(&self, _: Self, _: OutputFormat) -> Result<Encoded, ItemError> {
        match *self {}
    }
}
