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
use crate::error::ends_the_run;
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

    /// Whether records were put aside.
    pub(super) fn has_aside(&self, py: Python<'_>) -> bool {
        !self.aside.get(py).is_empty()
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
        let mut interrupt = None;
        self.put_aside(py)?;
        while count < len {
            let end = len.min(count + RECORD_BYTES);
            match self.write_whole(&part(&view, count, end)?) {
                Ok(Written::Bytes(written)) => count += written,
                // Whoever called tries the rest again, and hears the same.
                Ok(Written::Again | Written::Crossed) if count > 0 => break,
                Ok(nothing) => return Ok(nothing),
                // `_ssl` lets the handlers of signals run behind each record. The program may go on after what they
                // raise, and then the peer has all of these bytes, not the first of them.
                Err(error) if ends_the_run(py, &error) && self.has_made(py)? => {
                    count = end;
                    interrupt.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
            if count < len {
                self.put_aside(py)?;
            }
        }
        interrupt.map_or(Ok(Written::Bytes(count)), Err)
    }

    /// Takes what there is out of OpenSSL's hands.
    fn put_aside(&self, py: Python<'_>) -> PyResult<()> {
        let records = Owned::from(self.take.bind(py).invoke0()?);
        if len_of(py, &records) > 0 {
            self.aside.get(py).push(records);
        }
        Ok(())
    }

    /// Whether there is a record since others were put aside.
    #[cold]
    fn has_made(&self, py: Python<'_>) -> PyResult<bool> {
        let pending = self.outgoing.bind(py).getattr(intern!(py, "pending"))?;
        Ok(pending.extract::<usize>()? > 0)
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
