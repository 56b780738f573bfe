//! A buffer that several tasks write at once.

/// A buffer that several tasks write, each its own part.
pub(crate) struct Shared<'a> {
    pub(crate) data: *mut f32,
    pub(crate) len: usize,
    _borrow: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: parts are handed out by `slice` alone, whose callers promise that they do not overlap.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(crate) fn new(data: &'a mut [f32]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), _borrow: std::marker::PhantomData }
    }

    /// What follows `at`.
    pub(crate) fn from(&self, at: usize) -> Self {
        assert!(at <= self.len, "outside the buffer");
        // SAFETY: within the buffer or just past it.
        Self { data: unsafe { self.data.add(at) }, len: self.len - at, _borrow: self._borrow }
    }

    /// # Safety
    /// No other slice that is alive may overlap this one.
    #[allow(clippy::mut_from_ref, reason = "the caller's promise stands in for the borrow")]
    pub(crate) unsafe fn slice(&self, at: usize, len: usize) -> &mut [f32] {
        assert!(at <= self.len && len <= self.len - at, "outside the buffer");
        // SAFETY: within the buffer, which is borrowed for 'a; not aliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(at), len) }
    }
}
