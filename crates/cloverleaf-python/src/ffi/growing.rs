//! A `bytes` that grows at its end as long as nobody else has seen it.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::content::Unfilled;

/// Bytes that are gathered in one place.
///
/// It asks for half as much again as it needs, so that it seldom moves; large blocks the kernel moves without a copy, and
/// what is never written of them takes no memory.
#[derive(Debug)]
pub(crate) struct Growing {
    bytes: Unfilled,
    filled: usize,
}

impl Growing {
    /// Begins with these two pieces, one after the other.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(crate) fn of(py: Python<'_>, first: &[u8], second: &[u8]) -> PyResult<Self> {
        let begun = Self {
            bytes: Unfilled::new(py, with_reserve(first.len() + second.len()))?,
            filled: 0,
        };
        begun.add(py, first)?.add(py, second)
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// `MemoryError`; what was gathered is gone then.
    pub(crate) fn add(mut self, py: Python<'_>, piece: &[u8]) -> PyResult<Self> {
        let end = self.filled + piece.len();
        if end > self.bytes.room().len() {
            self.bytes = self.bytes.resized(py, with_reserve(end))?;
        }
        let room = &mut self.bytes.room()[self.filled..end];
        // SAFETY: there is room for this many bytes, in an object that nobody else has seen, so they do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(piece.as_ptr(), room.as_mut_ptr().cast(), piece.len());
        }
        self.filled = end;
        Ok(self)
    }

    /// The `bytes`, which takes no more memory than it needs.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(crate) fn finish(self, py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
        self.bytes.cut(py, self.filled)
    }
}

fn with_reserve(needed: usize) -> usize {
    needed.saturating_add(needed / 2)
}
