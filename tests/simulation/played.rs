//! A model that is played: what it computes is the text of the image in capitals, and it finds some images bad.

use sr3::{
    coordinator::core::Recipes,
    proto::{Cancel, Digest, FormatChoice, Key, OutputFormat, RecipeSpec, UpscaleJob, UpscaleSpec},
    worker::{Computed, Encoded, ItemError, OpenProcessor, Processor},
};

pub(crate) struct Played;

/// How the text of an image begins that has no picture.
pub(crate) const BAD: &str = "bad";

/// What must lie at the destination.
pub(crate) fn computed(text: &str) -> String {
    text.to_uppercase()
}

impl Recipes for Played {
    fn resolve(&self, job: &UpscaleJob) -> Result<RecipeSpec, String> {
        Ok(RecipeSpec {
            model: Digest::of(job.model.as_bytes()),
            model_name: job.model.clone(),
            preset: "played".into(),
            sampler: None,
            steps: None,
            sampling: "as played".into(),
            seed: job.seed,
            scale: 4,
            format: FormatChoice::Auto,
            quality: 95,
            background: None,
            tile: None,
            projection: true,
            dtype: Default::default(),
        })
    }
}

impl OpenProcessor for Played {
    type Processor = Self;

    fn open(&self, _: &UpscaleSpec) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Processor for Played {
    type Decoded = String;
    type Computed = String;
    type Device = ();

    fn open_device(&self) -> Result<(), String> {
        Ok(())
    }

    fn decode(&self, _: &Key, bytes: &[u8], _: OutputFormat) -> Result<String, ItemError> {
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
            output: computed(&decoded),
            input_size: [1, 1],
            output_size: [4, 4],
            consistency_error: Some(0.0),
            notes: Vec::new(),
        })
    }

    fn encode(&self, computed: String, _: OutputFormat) -> Result<Encoded, ItemError> {
        Ok(Encoded { bytes: computed.into_bytes(), notes: Vec::new() })
    }
}
