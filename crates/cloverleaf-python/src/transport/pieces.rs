//! What `writelines` takes, refused where asyncio refuses it, and in its words.
//!
//! Pipes, and on Python 3.11 sockets, join the pieces as `bytes.join` does. Newer sockets take whatever is false for no
//! pieces, and make a `memoryview` of each.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::kind::Kind;
use crate::ffi::{Bytes, Reach};

/// Whether transports of this kind join the pieces.
fn joins(py: Python<'_>, kind: Kind) -> bool {
    kind != Kind::Socket || py.version_info() < (3, 12)
}

/// The pieces, which may be of any type.
///
/// # Errors
/// What there is no iterating over; what iterating raises.
pub(super) fn collect<'py>(
    kind: Kind,
    given: &Bound<'py, PyAny>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let py = given.py();
    if !joins(py, kind) && !given.is_truthy()? {
        return Ok(Vec::new());
    }
    match given.try_iter() {
        Ok(pieces) => pieces.collect(),
        Err(error) if joins(py, kind) => Err(refusal(join(given), error)),
        Err(error) => Err(error),
    }
}

/// The bytes of the pieces.
///
/// # Errors
/// `TypeError` if one has none, and `BufferError` where a socket is given some that are not contiguous.
pub(super) fn bytes_of<'a>(kind: Kind, pieces: &'a [Bound<'_, PyAny>]) -> PyResult<Vec<Bytes<'a>>> {
    pieces
        .iter()
        .map(|piece| Bytes::of(piece).map_err(|error| refused(kind, pieces, piece, error)))
        .collect()
}

/// What asyncio says of a piece that has no bytes.
#[cold]
fn refused(
    kind: Kind,
    pieces: &[Bound<'_, PyAny>],
    piece: &Bound<'_, PyAny>,
    error: PyErr,
) -> PyErr {
    let py = piece.py();
    if joins(py, kind) {
        return refusal(pieces.into_pyobject(py).and_then(|all| join(&all)), error);
    }
    let views = py.import(intern!(py, "builtins"));
    let views = views.and_then(|builtins| builtins.getattr(intern!(py, "memoryview")));
    refusal(views.and_then(|class| class.invoke((piece,))), error)
}

fn join<'py>(pieces: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = pieces.py();
    PyBytes::new(py, b"").reach(intern!(py, "join"), (pieces,))
}

/// The error of what asyncio would have called, or else ours.
fn refusal(theirs: PyResult<Bound<'_, PyAny>>, ours: PyErr) -> PyErr {
    theirs.err().unwrap_or(ours)
}
