//! A model that is played: what it computes is the text of the image in capitals, and it finds some images bad.

use std::sync::Arc;

use sr3::{
    jobs::{
        Wish, Writing,
        images::OutputFormat,
        upscale::{
            Bits, Computed, Encoded, Files, Forecast, ItemError, Machine, ModelError, Models, OpenModel,
            Processor, Resolved,
        },
    },
    proto::{Cancel, Digest, Key},
};

pub(crate) struct Played;

/// How the text of an image begins that has no picture.
pub(crate) const BAD: &str = "bad";

/// What must lie at the destination.
pub(crate) fn computed(text: &str) -> String {
    text.to_uppercase()
}

impl Models for Played {
    type Processor = Self;

    fn open(&self, wish: &Wish, _: &Writing, _: &Machine) -> Result<OpenModel<Self>, ModelError> {
        let resolved = Resolved {
            looker: None,
            name: wish.model.clone(),
            digest: Digest::of(wish.model.as_bytes()),
            preset: "played".into(),
            sampling: "as played".into(),
            scale: 4,
            memory_bytes: 0,
        };
        Ok(OpenModel { processor: Self, forecast: Arc::new(NoForecast), resolved, bits: Bits::default() })
    }
}

/// Nothing is known of how long played things take.
struct NoForecast;

impl Forecast for NoForecast {
    fn size(&self, _: &[u8]) -> Option<[usize; 2]> {
        None
    }

    fn output_size(&self, size: [usize; 2]) -> [usize; 2] {
        size
    }

    fn work(&self, _: [usize; 2]) -> f64 {
        1.0
    }

    fn seconds_of_work(&self) -> Result<f64, String> {
        Err("it is played".into())
    }

    fn pace(&self) -> Option<f64> {
        None
    }

    fn quicker(&self) -> Option<(String, f64)> {
        None
    }
}

impl Processor for Played {
    type Decoded = String;
    type Computed = String;
    type Device = ();

    fn open_device(&self) -> Result<(), String> {
        Ok(())
    }

    fn decode(
        &self,
        _: &Key,
        Files { input: bytes, .. }: Files<'_>,
        _: OutputFormat,
    ) -> Result<String, ItemError> {
        let text = String::from_utf8(bytes.to_vec()).map_err(ItemError::bad)?;
        if text.starts_with(BAD) { Err(ItemError::bad("it is no picture")) } else { Ok(text) }
    }

    fn output_pixels(&self, decoded: &String) -> u64 {
        decoded.len() as u64
    }

    fn compute(
        &self,
        (): &mut (),
        _: &Key,
        decoded: String,
        _: &Cancel,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Computed<String>, ItemError> {
        progress(0.5);
        Ok(Computed {
            image_class: None,
            output: computed(&decoded),
            input_size: [1, 1],
            output_size: [4, 4],
            consistency_error: Some(0.0),
            repaired: None,
            notes: Vec::new(),
        })
    }

    fn encode(&self, computed: String, _: OutputFormat) -> Result<Encoded, ItemError> {
        Ok(Encoded { bytes: computed.into_bytes(), notes: Vec::new() })
    }
}
