//! Writing: records of the program's bytes, and those that wait for the inner transport.
//!
//! Records are made one at a time, and each is taken out of OpenSSL's hands before the next: what it copies stays in the
//! processor's nearest cache, and its memory never grows to hold many. They wait aside, in order, before those that are
//! still with OpenSSL; whoever takes them takes all.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::records::{
    OVERHEAD_BYTES, RECORD_BYTES, Records, Step, Written, bytes_view, part, step,
};
use crate::ffi::{Owned, Reach, call_with};

impl Records {
    /// How many bytes there are for the peer; about how many, while they cannot be waited for.
    ///
    /// # Errors
    /// None in practice.
    pub(super) fn unsent(&self, py: Python<'_>) -> PyResult<usize> {
        let Some(pending) = self.look_at(&self.outgoing, py)? else {
            return Ok(self.made());
        };
        let pending: usize = pending.extract()?;
        let aside: usize = self
            .aside
            .get(py)
            .iter()
            .map(|piece| len_of(py, piece))
            .sum();
        Ok(pending + aside)
    }

    /// About how many bytes of records [`write`](Self::write) has made since they were taken.
    pub(super) fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    /// Takes all bytes that there are for the peer: what was put aside, and what goes behind it. `None` while they cannot
    /// be waited for.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn take<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Option<(Vec<Owned>, Bound<'py, PyBytes>)>> {
        self.turns.try_take(py, || {
            self.made.store(0, Ordering::Relaxed);
            let last = self.take.bind(py).invoke0()?.cast_into::<PyBytes>()?;
            Ok((std::mem::take(&mut *self.aside.get(py)), last))
        })
    }

    /// Makes records of so many bytes.
    ///
    /// # Errors
    /// `ssl.SSLError`, `MemoryError`.
    pub(super) fn write(&self, data: &Bound<'_, PyAny>, len: usize) -> PyResult<Written> {
        let written = self.turns.try_take(data.py(), || {
            if len > RECORD_BYTES && self.is_direct {
                self.write_one_by_one(data, len)
            } else {
                self.write_whole(data)
            }
        });
        written.map(|written| written.unwrap_or(Written::Crossed))
    }

    fn write_one_by_one(&self, data: &Bound<'_, PyAny>, len: usize) -> PyResult<Written> {
        let py = data.py();
        let view = bytes_view(data)?;
        let mut count = 0;
        while count < len {
            let piece = part(&view, count, len.min(count + RECORD_BYTES))?;
            match self.write_whole(&piece)? {
                Written::Bytes(written) => count += written,
                // Whoever called tries the rest again, and hears the same.
                Written::Again | Written::Crossed if count > 0 => break,
                nothing => return Ok(nothing),
            }
            if count < len {
                let record = Owned::from(self.take.bind(py).invoke0()?);
                self.aside.get(py).push(record);
            }
        }
        Ok(Written::Bytes(count))
    }

    fn write_whole(&self, data: &Bound<'_, PyAny>) -> PyResult<Written> {
        let py = data.py();
        let written = call_with(self.write.bind(py), [data]);
        let count: usize = match step(py, written)? {
            Step::Done(count) => count.bind(py).extract()?,
            Step::Again => return Ok(Written::Again),
        };
        let made = count + (count / RECORD_BYTES + 1) * OVERHEAD_BYTES;
        self.made.fetch_add(made, Ordering::Relaxed);
        Ok(Written::Bytes(count))
    }
}

fn len_of(py: Python<'_>, piece: &Owned) -> usize {
    piece
        .bind(py)
        .cast::<PyBytes>()
        .map_or(0, |piece| piece.as_bytes().len())
}
