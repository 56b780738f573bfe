//! Means and covariances, as FID tools keep them in `.npz`: `mu` and `sigma`; guided-diffusion's evaluator has those of its spatial
//! features beside them, `mu_s` and `sigma_s`.
//!
//! What is written here says in an array `sr3` (bytes of JSON) as which tool pictures were prepared, how many there were, and by
//! which weights. Other tools do not look at it; here statistics of another mode are refused. Files with `mu_s` are of
//! guided-diffusion's evaluator, which prepares pictures as torch-fidelity does. Of others nobody knows.

use serde::{Deserialize, Serialize};
use sr3_engine::{
    metrics::{Features, Statistics},
    model::tensors::{Dtype, HostTensor, TensorMap, write_npz},
    vision::{FidMode, POOL, SPATIAL},
};
use sr3_proto::{Digest, words::printable};

use super::{CompareOrder, Mode, part::Rows};

/// The arrays that are looked at.
pub(super) const ARRAYS: [&str; 5] = ["mu", "sigma", "mu_s", "sigma_s", ABOUT];
const ABOUT: &str = "sr3";

/// What an array `sr3` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    mode: Mode,
    network: String,
    images: u64,
    sha256: Digest,
}

/// Statistics of a set.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) pool: Statistics,
    pub(super) spatial: Option<Statistics>,
    /// As which tool they were made, where that is known.
    pub(super) mode: Option<Mode>,
    pub(super) images: Option<u64>,
    pub(super) sha256: Option<Digest>,
}

impl Given {
    /// Those in the arrays of the file at `place`, for an order.
    ///
    /// # Errors
    /// One line: they are damaged, or cannot be compared with.
    pub(super) fn read(arrays: &TensorMap, place: &str, order: &CompareOrder) -> Result<Self, String> {
        let place = printable(place);
        let of = |mu: &str, sigma: &str, features: usize| {
            let named = [(mu, "mu"), (sigma, "sigma")].into_iter();
            let found = named.filter_map(|(from, to)| Some((to.to_string(), arrays.get(from)?.clone())));
            let found: TensorMap = found.collect();
            let width = found.get("mu").map_or(0, HostTensor::len);
            if found.len() == 2 && width != features {
                return Err(format!(
                    "`{place}` holds statistics of {width} features, and Inception's are {features}: they are of another \
                     network"
                ));
            }
            Statistics::from_arrays(&found).map_err(|e| format!("`{place}`: {e}"))
        };
        let pool = of("mu", "sigma", POOL)?;
        let has_spatial = arrays.contains_key("mu_s") && arrays.contains_key("sigma_s");
        let spatial = has_spatial.then(|| of("mu_s", "sigma_s", SPATIAL)).transpose()?;
        let about = arrays.get(ABOUT).filter(|array| array.dtype == Dtype::U8);
        let about = about.and_then(|array| serde_json::from_slice::<About>(&array.data).ok());
        let mode = match &about {
            Some(about) => Some(about.mode),
            None => has_spatial.then_some(Mode(FidMode::TorchFidelity)),
        };
        if let Some(mode) = mode.filter(|mode| *mode != order.mode) {
            return Err(format!(
                "`{place}` holds statistics of mode {mode}, and {} was asked for: numbers of different modes do not compare; \
                 take the mode {mode}",
                order.mode
            ));
        }
        if about.as_ref().is_some_and(|about| about.network != order.network.network) {
            return Err(format!("`{place}` holds statistics of other weights than those here"));
        }
        let images = about.as_ref().map(|about| about.images);
        Ok(Self { pool, spatial, mode, images, sha256: about.map(|about| about.sha256) })
    }

    /// Those of a set of features.
    ///
    /// # Errors
    /// There are too few.
    pub(super) fn of(rows: &Rows, mode: Mode) -> Result<Self, String> {
        let wrong = |e: sr3_engine::metrics::FeatureError| e.to_string();
        let statistics = |values: &[f32], width: usize| {
            Statistics::of(Features::new(values, width).map_err(wrong)?).map_err(wrong)
        };
        Ok(Self {
            pool: statistics(&rows.pool, POOL)?,
            spatial: (!rows.spatial.is_empty()).then(|| statistics(&rows.spatial, SPATIAL)).transpose()?,
            mode: Some(mode),
            images: Some(rows.pictures.len() as u64),
            sha256: Some(rows.set_digest()),
        })
    }

    /// The bytes of an `.npz` that other tools read.
    pub(super) fn encode(&self, order: &CompareOrder) -> Vec<u8> {
        let mut arrays = self.pool.to_arrays();
        if let Some(spatial) = &self.spatial {
            arrays.extend(spatial.to_arrays().into_iter().map(|(name, array)| (format!("{name}_s"), array)));
        }
        if let (Some(images), Some(sha256)) = (self.images, self.sha256.clone()) {
            let about = About { mode: order.mode, network: order.network.network.clone(), images, sha256 };
            let data = serde_json::to_vec(&about).unwrap_or_default();
            arrays.insert(ABOUT.into(), HostTensor { dtype: Dtype::U8, shape: vec![data.len()], data });
        }
        write_npz(&arrays)
    }
}
