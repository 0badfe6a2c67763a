//! Reading: what the peer's records hold, into new `bytes` or a buffer of the protocol's.
//!
//! Several records that have come together are read into one `bytes`, without a copy in between. Where it is known that
//! nothing is left, nobody has to raise an exception to say so; and where it is known where each record ends, OpenSSL is
//! given one at a time, so what it copies stays in the processor's nearest cache.

use std::sync::atomic::Ordering;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PyTuple};

use super::framing::{Arrived, Framing};
use super::records::{OVERHEAD_BYTES, RECORD_BYTES, Records, Step, bytes_view, part, step};
use crate::ffi::{Owned, Reach, call_with, fill_bytes};

/// The `bytes` of several records, and what is known then.
struct Together<'py> {
    bytes: Bound<'py, PyBytes>,
    /// Why reading has stopped, unless for want of room or of knowledge.
    end: Option<End>,
    /// How many of the bytes that have come OpenSSL has been given.
    passed: usize,
}

/// Why reading has stopped.
#[derive(Debug)]
enum End {
    /// After the last whole record, with nothing left.
    Whole,
    /// In a record of which the rest has not come; what comes next may be known.
    Partial(Framing),
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
    /// Takes in what the peer has sent, and reads all that there is.
    ///
    /// # Errors
    /// Those of [`read_all`](Self::read_all), `MemoryError`.
    pub(super) fn read_arrived<'py>(&self, data: &Bound<'py, PyAny>) -> PyResult<Plain<'py>> {
        let py = data.py();
        let bytes = data
            .cast_exact::<PyBytes>()
            .ok()
            .filter(|_| self.is_direct && self.has_drained());
        let Some(bytes) = bytes else {
            self.feed(data)?;
            return self.read_all(py);
        };
        let framing = *self.framing.get(py);
        let len = bytes.as_bytes().len();
        match framing.meet(bytes.as_bytes()) {
            Arrived::Part(part) => {
                self.pass_in(data)?;
                // OpenSSL would only say so, too.
                self.read_rest(py, None, Some(End::Partial(part)))
            }
            Arrived::Record(first) if first < len => {
                let together = self.read_by_record(bytes, framing)?;
                if together.passed < len {
                    self.note_drained(py, Framing::BOUNDARY);
                    let view = PyMemoryView::from(data)?.into_any();
                    self.feed(&part(&view, together.passed, len)?)?;
                }
                let piece = together.bytes;
                let piece = (!piece.as_bytes().is_empty()).then_some(piece);
                self.read_rest(py, piece, together.end)
            }
            Arrived::Record(_) => {
                self.pass_in(data)?;
                self.note_fed(len, true);
                if framing == Framing::BOUNDARY {
                    self.read_one(py, len)
                } else {
                    self.read_all(py)
                }
            }
            Arrived::Unknown => {
                self.feed(data)?;
                self.read_all(py)
            }
        }
    }

    /// Reads one whole record of this length into a `bytes` that is as long as what it should hold, by the last one.
    fn read_one<'py>(&self, py: Python<'py>, len: usize) -> PyResult<Plain<'py>> {
        let expected = len.saturating_sub(self.overhead.load(Ordering::Relaxed));
        if expected == 0 {
            return self.read_all(py);
        }
        // No record holds more, whatever the last one had beside its payload.
        let expected = expected.min(RECORD_BYTES);
        let read = self.read.bind(py);
        let args = self.most_into.bind(py).cast::<PyTuple>()?.to_owned();
        let mut end = None;
        let (piece, is_more) = self.window.get().fill(py, expected, || {
            let count = self.turns.take(py, || read.invoke(args));
            match step(py, count).and_then(|step| counted(py, step)) {
                Ok(Step::Done(0)) => end = Some(End::Goodbye),
                Ok(Step::Done(count)) => return count,
                Ok(Step::Again) => end = Some(self.end_of_reading()),
                Err(error) => end = Some(End::Failure(error)),
            }
            0
        })?;
        let count = piece.as_bytes().len();
        if end.is_none() {
            // What is more comes with the next read; to expect too much costs a cut, and to expect too little that read.
            let overhead = if is_more { 0 } else { len - count };
            self.overhead.store(overhead, Ordering::Relaxed);
            if !is_more && self.is_drained(py)? {
                end = Some(End::Whole);
            }
        }
        self.read_rest(py, (count > 0).then_some(piece), end)
    }

    /// Reads what there is, record by record.
    ///
    /// # Errors
    /// `ssl.SSLError` of the first record; that of a later one comes with what was read before it.
    pub(super) fn read_all<'py>(&self, py: Python<'py>) -> PyResult<Plain<'py>> {
        let mut first: Option<Bound<'py, PyBytes>> = None;
        let mut end = None;
        if self.is_direct && self.fed.load(Ordering::Relaxed) > RECORD_BYTES + OVERHEAD_BYTES {
            let (piece, found) = self.read_together(py)?;
            first = (!piece.as_bytes().is_empty()).then_some(piece);
            end = found;
        }
        self.read_rest(py, first, end)
    }

    /// Reads what there is behind what was read first, unless that was the end.
    fn read_rest<'py>(
        &self,
        py: Python<'py>,
        mut first: Option<Bound<'py, PyBytes>>,
        mut end: Option<End>,
    ) -> PyResult<Plain<'py>> {
        // One is all there is, as a rule, and nothing is allocated for it.
        let mut others: Vec<Bound<'py, PyBytes>> = Vec::new();
        let read = self.read.bind(py);
        let most = self.most.bind(py).cast::<PyTuple>()?.to_owned();
        while end.is_none() {
            let piece = self.turns.take(py, || read.invoke(most.clone()));
            let piece = match step(py, piece) {
                Ok(Step::Done(piece)) => piece.into_bound(py).cast_into::<PyBytes>()?,
                Ok(Step::Again) => {
                    end = Some(self.end_of_reading());
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
            Some(End::Partial(framing)) => self.note_drained(py, framing),
            Some(End::Goodbye) => plain.is_end = true,
            Some(End::Failure(error)) if plain.data.is_none() => return Err(error),
            Some(End::Failure(error)) => plain.failure = Some(error),
            Some(End::Whole) | None => {}
        }
        Ok(plain)
    }

    /// What it means that OpenSSL wants more of the peer's bytes: one record, known as such, was none of data.
    fn end_of_reading(&self) -> End {
        End::Partial(if self.is_one.load(Ordering::Relaxed) {
            Framing::BOUNDARY
        } else {
            Framing::Unknown
        })
    }

    /// Gives OpenSSL one record at a time, and reads it into one `bytes` with the others.
    fn read_by_record<'py>(
        &self,
        data: &Bound<'py, PyBytes>,
        mut framing: Framing,
    ) -> PyResult<Together<'py>> {
        let py = data.py();
        let content = data.as_bytes();
        let source = PyMemoryView::from(data.as_any())?.into_any();
        let read = self.read.bind(py);
        let most = self.most.bind(py).cast::<PyTuple>()?.get_item(0)?;
        let carried = if framing == Framing::BOUNDARY {
            0
        } else {
            RECORD_BYTES
        };
        let (mut passed, mut end) = (0, None);
        let mut left = content.len() + carried;
        let bytes = fill_bytes(py, left, |view| {
            let rest = &content[passed..];
            let (len, part_of_it) = match framing.meet(rest) {
                _ if rest.is_empty() => {
                    end = Some(End::Whole);
                    return (0, true);
                }
                Arrived::Unknown => return (0, true),
                Arrived::Record(len) => (len, None),
                Arrived::Part(part) => (rest.len(), Some(part)),
            };
            let given = part(&source, passed, passed + len).and_then(|piece| self.pass_in(&piece));
            if let Err(error) = given {
                end = Some(End::Failure(error));
                return (0, true);
            }
            passed += len;
            if let Some(part) = part_of_it {
                end = Some(End::Partial(part));
                return (0, true);
            }
            framing = Framing::BOUNDARY;
            let count = self.turns.take(py, || call_with(read, [&most, view]));
            match step(py, count).and_then(|step| match step {
                Step::Done(count) => count.bind(py).extract().map(Some),
                Step::Again => Ok(None),
            }) {
                Ok(Some(0)) => end = Some(End::Goodbye),
                Ok(Some(count)) => {
                    left = left.saturating_sub(count);
                    // A record that was compressed may be longer than the room for it, and the rest is to be read.
                    return (count, left == 0);
                }
                // The record was none of data.
                Ok(None) => {}
                Err(error) => end = Some(End::Failure(error)),
            }
            (0, end.is_some())
        })?;
        if matches!(end, Some(End::Whole)) {
            self.note_drained(py, Framing::BOUNDARY);
        }
        Ok(Together { bytes, end, passed })
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
            let count = match step(py, count).and_then(|step| counted(py, step)) {
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
                    end = Some(self.end_of_reading());
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
                self.note_drained(py, Framing::Unknown);
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

/// How many bytes a read into a buffer has given.
fn counted(py: Python<'_>, step: Step<Owned>) -> PyResult<Step<usize>> {
    match step {
        Step::Done(count) => count.bind(py).extract().map(Step::Done),
        Step::Again => Ok(Step::Again),
    }
}

fn joined<'py>(py: Python<'py>, pieces: &[Bound<'py, PyBytes>]) -> PyResult<Bound<'py, PyBytes>> {
    let whole = PyBytes::new(py, b"").reach(intern!(py, "join"), (pieces,))?;
    Ok(whole.cast_into::<PyBytes>()?)
}
