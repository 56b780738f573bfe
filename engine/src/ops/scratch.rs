//! Working memory of a thread that outlives the operation: after the first evaluation nothing is allocated.

use std::cell::RefCell;

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Lends `length` floats of this thread. What they hold at the start is whatever was left there.
///
/// Must not be nested: `work` may neither call this again nor wait for other work of the pool.
pub(crate) fn with_scratch<R>(length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < length {
            scratch.resize(length, 0.0);
        }
        work(&mut scratch[..length])
    })
}
