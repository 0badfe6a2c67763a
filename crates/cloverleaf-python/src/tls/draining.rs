//! Who makes records of what waits: one thread at a time, as the bytes must become records in their order and once.

use std::mem;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::class::TlsTransport;
use crate::ffi::bytes_from;

/// Until it is dropped, this thread alone makes records of what waits.
pub(super) struct Draining<'a, 'py> {
    py: Python<'py>,
    this: &'a TlsTransport,
    /// Nothing waited any more, and another thread may have begun since.
    is_over: bool,
}

impl<'a, 'py> Draining<'a, 'py> {
    /// Begins; `None` if another thread is at it, which takes what waits by now, too.
    pub(super) fn begin(py: Python<'py>, this: &'a TlsTransport) -> Option<Self> {
        let others = this.with(py, |connection| {
            mem::replace(&mut connection.is_draining, true)
        });
        // Made only then: one that is dropped ends what another thread has begun.
        (!others).then(|| Self {
            py,
            this,
            is_over: false,
        })
    }

    /// The first bytes that wait, if the inner transport takes them; if not, this is over.
    ///
    /// # Errors
    /// `MemoryError`; then it is over, too.
    pub(super) fn next(&mut self) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let py = self.py;
        let piece = self.this.with(py, |connection| {
            let is_free = connection.is_free();
            let front = connection.backlog.front().filter(|_| is_free);
            let piece = front.map(|front| bytes_from(py, front)).transpose();
            connection.is_draining = matches!(piece, Ok(Some(_)));
            piece
        });
        self.is_over = !matches!(piece, Ok(Some(_)));
        piece
    }
}

impl Drop for Draining<'_, '_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.this
                .with(self.py, |connection| connection.is_draining = false);
        }
    }
}
