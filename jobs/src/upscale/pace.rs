//! How fast a device has been so far, for whoever tells people how long it will take.

use std::sync::{Mutex, PoisonError};

/// Seconds on the device and the megapixels of output that came of them, finished or not.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Spent>);

#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    /// Of finished pictures.
    seconds: f64,
    megapixels: f64,
    /// Of the one on the device, as far as it is.
    now: (f64, f64),
}

impl Pace {
    /// The picture on the device has taken so long and is so far.
    pub(crate) fn so_far(&self, seconds: f64, megapixels: f64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).now = (seconds, megapixels);
    }

    /// It has left the device.
    pub(crate) fn done(&self) {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spent.seconds += spent.now.0;
        spent.megapixels += spent.now.1;
        spent.now = (0.0, 0.0);
    }

    /// Seconds for a megapixel of output; None before anything was computed.
    pub fn seconds_a_megapixel(&self) -> Option<f64> {
        let Spent { seconds, megapixels, now } = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let megapixels = megapixels + now.1;
        (megapixels > 0.0).then(|| (seconds + now.0) / megapixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_under_way_counts_as_far_as_it_is() {
        let pace = Pace::default();
        assert_eq!(pace.seconds_a_megapixel(), None);
        pace.so_far(2.0, 0.5);
        assert_eq!(pace.seconds_a_megapixel(), Some(4.0));
        pace.so_far(3.0, 1.0);
        pace.done();
        pace.so_far(3.0, 1.0);
        assert_eq!(pace.seconds_a_megapixel(), Some(3.0));
    }
}
