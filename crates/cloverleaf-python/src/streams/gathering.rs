//! `read()` until the end of the stream: what has come is gathered in one `bytes`, and goes back if the read comes to
//! nothing.

use pyo3::exceptions::{PyBufferError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use super::classes;
use super::feed::{Buffer, Feed, Part, Taken, feed_of};
use super::reading::Reading;
use crate::ffi::{Growing, Owned, Reach, Step, slice_from};

/// What such a read has taken.
#[derive(Debug, Default)]
pub(super) enum Gathered {
    #[default]
    Nothing,
    /// One `bytes`, as it came.
    Piece(Owned),
    /// Several in one.
    Pieces(Growing),
}

impl Gathered {
    fn add(self, piece: &Bound<'_, PyBytes>) -> PyResult<Self> {
        let py = piece.py();
        match self {
            Self::Nothing => Ok(Self::Piece(piece.clone().into())),
            Self::Piece(first) => {
                let first = first.into_bound(py).cast_into::<PyBytes>()?;
                Growing::of(py, first.as_bytes(), piece.as_bytes()).map(Self::Pieces)
            }
            Self::Pieces(pieces) => pieces.add(py, piece.as_bytes()).map(Self::Pieces),
        }
    }

    fn finish(self, py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
        match self {
            Self::Nothing => Ok(PyBytes::new(py, b"")),
            Self::Piece(bytes) => Ok(bytes.into_bound(py).cast_into()?),
            Self::Pieces(pieces) => pieces.finish(py),
        }
    }
}

impl Reading {
    /// Takes all there is until the end of the stream, as asyncio's method does by reading block after block.
    ///
    /// # Errors
    /// What ends the read.
    pub(super) fn gather<'py>(
        &self,
        reader: &Bound<'py, PyAny>,
        object: &Bound<'py, PyAny>,
        feed: &Feed,
    ) -> PyResult<Step> {
        let py = reader.py();
        loop {
            if !reads_by_asyncios_methods(reader)? {
                return self.hand_over(reader);
            }
            let is_broken = feed.known(py).exception.is_some();
            let taken = feed.take(py, |bytes, limit| match bytes.len() {
                _ if limit == 0 => Part::Unusual,
                0 => Part::Rest,
                // It takes one block of asyncio's before it is raised.
                count if is_broken => Part::First(count.min(limit)),
                count => Part::First(count),
            })?;
            match taken {
                Taken::Bytes(bytes) => {
                    let gathered = self.take_gathered(py).add(&bytes)?;
                    self.state(py).gathered = gathered;
                }
                Taken::End => {
                    let all = self.take_gathered(py).finish(py)?;
                    return Ok(Step::Done(all.into()));
                }
                Taken::TooLittle if self.has_gathered(py) && feed.known(py).waiter.is_some() => {
                    // asyncio's own coroutine would say so, too, but would lose what goes back now.
                    return Err(PyRuntimeError::new_err(
                        "read() called while another coroutine is already waiting for incoming data",
                    ));
                }
                Taken::TooLittle => return self.wait(reader, (object, feed)),
                Taken::Unusual => return self.hand_over(reader),
            }
            if feed.known(py).paused {
                reader.reach0(intern!(py, "_maybe_resume_transport"))?;
            }
            let exception = {
                let known = feed.known(py);
                known.exception.as_ref().map(|error| error.clone_ref(py))
            };
            if let Some(exception) = exception {
                return Err(PyErr::from_value(exception.into_bound(py)));
            }
        }
    }

    fn has_gathered(&self, py: Python<'_>) -> bool {
        !matches!(self.state(py).gathered, Gathered::Nothing)
    }

    fn take_gathered(&self, py: Python<'_>) -> Gathered {
        std::mem::take(&mut self.state(py).gathered)
    }

    /// Puts what was gathered back where the next read finds it, unless there can be none: the connection is broken.
    ///
    /// # Errors
    /// `MemoryError`, and what a reader raises that a program has changed.
    pub(super) fn put_back(&self, py: Python<'_>) -> PyResult<()> {
        let gathered = self.take_gathered(py);
        if matches!(gathered, Gathered::Nothing) {
            return Ok(());
        }
        let bytes = gathered.finish(py)?;
        let reader = self.reader.bind(py);
        let found = feed_of(&reader)?;
        if let Some(feed) = found.as_ref().and_then(|(feed, _)| Feed::of(feed)) {
            let mut known = feed.known(py);
            if known.exception.is_some() {
                return Ok(());
            }
            if matches!(known.buffer, Buffer::Empty) {
                known.buffer = Buffer::Piece(bytes.into(), 0);
                return Ok(());
            }
        }
        let name = intern!(py, "_buffer");
        let buffer = reader.getattr(name)?;
        match buffer.set_item(slice_from(py, 0, 0)?, &bytes) {
            // Somebody has a view of it.
            Err(error) if error.is_instance_of::<PyBufferError>(py) => {
                let all = bytes.add(buffer)?;
                reader.setattr(name, PyByteArray::from(&all)?)
            }
            put => put,
        }
    }
}

/// Whether the methods by which asyncio's would read a block are its own.
fn reads_by_asyncios_methods(reader: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = reader.py();
    let classes = classes(py);
    if !classes.reader.is_intact(py)? || !classes.made_reader.is_intact(py)? {
        return Ok(false);
    }
    let Some((_, fields)) = feed_of(reader)? else {
        return Ok(false);
    };
    Ok(!fields.has_beside(&[intern!(py, "read"), intern!(py, "_wait_for_data")])?)
}
