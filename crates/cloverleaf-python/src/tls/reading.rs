//! Reading: what the peer's records hold, into new `bytes` or a buffer of the protocol's.
//!
//! Several records that have come together are read into one `bytes`, without a copy in between. Where it is known that
//! nothing is left, nobody has to raise an exception to say so.

use std::sync::atomic::Ordering;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::records::{OVERHEAD_BYTES, RECORD_BYTES, Records, Step, bytes_view, part, step};
use crate::ffi::{Reach, call_with, fill_bytes};

/// Why reading has stopped.
#[derive(Debug)]
enum End {
    /// After the last whole record, with nothing left.
    Whole,
    /// In a record of which the rest has not come.
    Partial,
    /// The peer has said goodbye.
    Goodbye,
    /// The next record is broken.
    Failure(PyErr),
}

/// What was read.
#[derive(Debug)]
pub(super) struct Plain<'py> {
    /// The bytes, if there are any.
    pub(super) data: Option<Bound<'py, PyBytes>>,
    /// The peer has said goodbye behind them.
    pub(super) is_end: bool,
    /// What is wrong with the record behind them.
    pub(super) failure: Option<PyErr>,
}

/// How a buffer was filled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filled {
    /// How many bytes it holds.
    pub(super) count: usize,
    /// The peer has said goodbye behind them.
    pub(super) is_end: bool,
    /// There may be more than has found room.
    pub(super) is_full: bool,
}

impl Records {
    /// Reads what there is, record by record.
    ///
    /// # Errors
    /// `ssl.SSLError` of the first record; that of a later one comes with what was read before it.
    pub(super) fn read_all<'py>(&self, py: Python<'py>) -> PyResult<Plain<'py>> {
        // One is all there is, as a rule, and nothing is allocated for it.
        let mut first: Option<Bound<'py, PyBytes>> = None;
        let mut others: Vec<Bound<'py, PyBytes>> = Vec::new();
        let mut end = None;
        if self.is_direct && self.fed.load(Ordering::Relaxed) > RECORD_BYTES + OVERHEAD_BYTES {
            let (piece, found) = self.read_together(py)?;
            first = (!piece.as_bytes().is_empty()).then_some(piece);
            end = found;
        }
        let read = self.read.bind(py);
        let most = self.most.bind(py).cast::<PyTuple>()?.to_owned();
        while end.is_none() {
            let piece = self.turns.take(py, || read.invoke(most.clone()));
            let piece = match step(py, piece) {
                Ok(Step::Done(piece)) => piece.into_bound(py).cast_into::<PyBytes>()?,
                Ok(Step::Again) => {
                    end = Some(End::Partial);
                    break;
                }
                Err(error) => {
                    end = Some(End::Failure(error));
                    break;
                }
            };
            if piece.as_bytes().is_empty() {
                end = Some(End::Goodbye);
                break;
            }
            if first.is_none() {
                first = Some(piece);
            } else {
                others.push(piece);
            }
            // A record is never longer than one read. So nothing is left, and nobody has to raise to say so.
            if self.is_drained(py)? {
                end = Some(End::Whole);
            }
        }
        let data = match first {
            Some(first) if !others.is_empty() => {
                others.insert(0, first);
                Some(joined(py, &others)?)
            }
            first => first,
        };
        let mut plain = Plain {
            data,
            is_end: false,
            failure: None,
        };
        match end {
            Some(End::Partial) => self.note_drained(true),
            Some(End::Goodbye) => plain.is_end = true,
            Some(End::Failure(error)) if plain.data.is_none() => return Err(error),
            Some(End::Failure(error)) => plain.failure = Some(error),
            Some(End::Whole) | None => {}
        }
        Ok(plain)
    }

    /// Reads several records into one `bytes`; why it stopped, unless for want of room.
    fn read_together<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, Option<End>)> {
        let read = self.read.bind(py);
        // Of the beginning of a record only the rest is among what came.
        let carried = if self.is_partial.load(Ordering::Relaxed) {
            RECORD_BYTES
        } else {
            0
        };
        let mut end = None;
        let room = self.fed.load(Ordering::Relaxed) + carried;
        let most = self.most.bind(py).cast::<PyTuple>()?.get_item(0)?;
        let piece = fill_bytes(py, room, |view| {
            let count = self.turns.take(py, || call_with(read, [&most, view]));
            let count = step(py, count).and_then(|step| match step {
                Step::Done(count) => count.bind(py).extract().map(Step::Done),
                Step::Again => Ok(Step::Again),
            });
            let count = match count {
                Ok(Step::Done(0)) => {
                    end = Some(End::Goodbye);
                    0
                }
                Ok(Step::Done(count)) => {
                    // A record that was compressed may be longer than the room for it, and the rest is to be read.
                    end = match view
                        .len()
                        .and_then(|len| Ok(count < len && self.is_drained(py)?))
                    {
                        Ok(is_drained) => is_drained.then_some(End::Whole),
                        Err(error) => Some(End::Failure(error)),
                    };
                    count
                }
                Ok(Step::Again) => {
                    end = Some(End::Partial);
                    0
                }
                Err(error) => {
                    end = Some(End::Failure(error));
                    0
                }
            };
            (count, end.is_some())
        })?;
        Ok((piece, end))
    }

    /// Fills a buffer with what there is.
    ///
    /// # Errors
    /// `TypeError` or `BufferError` if it is no writable buffer, `RuntimeError` if it is empty, `ssl.SSLError`.
    pub(super) fn read_into(&self, buffer: &Bound<'_, PyAny>) -> PyResult<Filled> {
        let py = buffer.py();
        let view = bytes_view(buffer)?;
        let room = view.len()?;
        if room == 0 {
            return Err(PyRuntimeError::new_err(
                "get_buffer() returned an empty buffer",
            ));
        }
        let read = self.read.bind(py);
        let mut filled = Filled {
            count: 0,
            is_end: false,
            is_full: false,
        };
        while filled.count < room {
            let wanted = room - filled.count;
            let rest = part(&view, filled.count, room)?;
            let attempt = self.turns.take(py, || read.invoke((wanted, rest)));
            let attempt = match step(py, attempt) {
                Ok(attempt) => attempt,
                // What came before a broken record is the protocol's; the next read fails in the same way.
                Err(_) if filled.count > 0 => {
                    filled.is_full = true;
                    return Ok(filled);
                }
                Err(error) => return Err(error),
            };
            let Step::Done(count) = attempt else {
                self.note_drained(true);
                return Ok(filled);
            };
            let count: usize = count.bind(py).extract()?;
            if count == 0 {
                filled.is_end = true;
                return Ok(filled);
            }
            filled.count += count;
            if count < wanted && self.is_drained(py)? {
                return Ok(filled);
            }
        }
        filled.is_full = true;
        Ok(filled)
    }
}

fn joined<'py>(py: Python<'py>, pieces: &[Bound<'py, PyBytes>]) -> PyResult<Bound<'py, PyBytes>> {
    let whole = PyBytes::new(py, b"").reach(intern!(py, "join"), (pieces,))?;
    Ok(whole.cast_into::<PyBytes>()?)
}
