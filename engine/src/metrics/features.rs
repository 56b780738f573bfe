//! Features of sets of images: what distances between sets are computed from.

/// Features of a set: (N, D), in the set's order.
#[derive(Clone, Copy, Debug)]
pub struct Features<'a> {
    values: &'a [f32],
    dimensions: usize,
}

/// Why a number of sets cannot be given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FeatureError {
    /// The values are not whole rows.
    #[error("{found} values are no rows of {dimensions} features")]
    Length {
        /// Values that came.
        found: usize,
        /// Features of a row.
        dimensions: usize,
    },
    /// A feature is NaN or infinite.
    #[error("feature {feature} of image {image} is not finite: an image or the weights are damaged")]
    NotFinite {
        /// Its row, from 0.
        image: usize,
        /// Its column, from 0.
        feature: usize,
    },
    /// Too few images.
    #[error("{found} images are too few: {needed} are needed")]
    TooFew {
        /// Images there are.
        found: usize,
        /// The least number.
        needed: usize,
    },
    /// The sets' features are not of one kind.
    #[error("sets of {found} and of {other} features cannot be compared: take the same network for both")]
    DimensionsDiffer {
        /// Features of the first set.
        found: usize,
        /// Features of the second.
        other: usize,
    },
    /// Means and covariances that no features have.
    #[error("these statistics are damaged: {reason}")]
    Statistics {
        /// What is wrong.
        reason: &'static str,
    },
    /// An option is out of its range.
    #[error("{name} must be {allowed}")]
    Option {
        /// Its name.
        name: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
}

impl<'a> Features<'a> {
    /// Rows of `dimensions` features each.
    ///
    /// # Errors
    /// [`FeatureError`] where the values are not whole rows, or not finite.
    pub fn new(values: &'a [f32], dimensions: usize) -> Result<Self, FeatureError> {
        if dimensions == 0 || !values.len().is_multiple_of(dimensions) {
            return Err(FeatureError::Length { found: values.len(), dimensions });
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(FeatureError::NotFinite { image: at / dimensions, feature: at % dimensions });
        }
        Ok(Self { values, dimensions })
    }

    /// Images of the set.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.values.len() / self.dimensions
    }

    /// Features of an image.
    #[must_use]
    pub const fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The features of an image.
    ///
    /// # Panics
    /// If there is no such image.
    #[must_use]
    pub fn row(&self, image: usize) -> &'a [f32] {
        &self.values[image * self.dimensions..(image + 1) * self.dimensions]
    }

    /// Whether two sets can be compared, with at least so many images in each.
    pub(super) fn check(&self, other: &Self, needed: usize) -> Result<(), FeatureError> {
        if self.dimensions != other.dimensions {
            let (found, other) = (self.dimensions, other.dimensions);
            return Err(FeatureError::DimensionsDiffer { found, other });
        }
        let found = self.count().min(other.count());
        if found < needed { Err(FeatureError::TooFew { found, needed }) } else { Ok(()) }
    }
}
