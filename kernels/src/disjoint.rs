//! One output buffer written by several tasks at once, each its own part.

use std::marker::PhantomData;

/// A mutable slice whose parts are handed out to tasks that never overlap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    length: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: it only hands out parts, and `part` makes its caller promise that no two overlap; `T: Send` may be written
// from any thread.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Disjoint { start: slice.as_mut_ptr(), length: slice.len(), borrow: PhantomData }
    }

    /// Elements `start..start + length`. Panics if they lie outside the buffer.
    ///
    /// # Safety
    /// No other part that is alive at the same time may overlap this one.
    #[expect(clippy::mut_from_ref, reason = "the caller promises that parts do not overlap")]
    pub(crate) unsafe fn part(&self, start: usize, length: usize) -> &mut [T] {
        assert!(start <= self.length && length <= self.length - start, "a part lies inside its buffer");
        // SAFETY: inside the borrowed slice (checked above), not overlapping (the caller's promise).
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), length) }
    }
}
