//! How long pictures will take on this machine, before and while they are computed.

/// What a model's engine knows of it.
pub trait Forecast: Send + Sync {
    /// Width and height of a picture, from its first bytes or all of them; None where they do not tell.
    fn size(&self, start: &[u8]) -> Option<[usize; 2]>;

    /// Width and height of its output.
    fn output_size(&self, size: [usize; 2]) -> [usize; 2];

    /// Work that an input of this size is, in any unit.
    fn work(&self, size: [usize; 2]) -> f64;

    /// Seconds that a unit of work takes here, found out by computing a small picture.
    ///
    /// # Errors
    /// One line, where the model cannot be run.
    fn seconds_of_work(&self) -> Result<f64, String>;

    /// Seconds that a megapixel of output has taken so far; None before anything was computed.
    fn pace(&self) -> Option<f64>;

    /// The next quicker preset, and the share of the time that it takes; None where there is none.
    fn quicker(&self) -> Option<(String, f64)>;
}
