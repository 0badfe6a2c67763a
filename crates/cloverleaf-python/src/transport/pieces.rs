//! What `writelines` takes, refused where asyncio refuses it, and in its words.
//!
//! Pipes, and on Python 3.11 sockets, join the pieces as `bytes.join` does. Newer sockets take whatever is false for no
//! pieces, and make a `memoryview` of each; the newest take whatever is false for a piece of no bytes, too. One that is
//! false and has bytes is sent all the same.

use cloverleaf::limits;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

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

/// The bytes of short pieces, one after the other, if they are the `bytes` of a list or a tuple.
///
/// They would be copied anyway, each into memory of its own, of which the kernel would have to be told.
pub(super) fn joined(given: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
    if let Ok(list) = given.cast_exact::<PyList>() {
        return join_short(|| list.iter());
    }
    let tuple = given.cast_exact::<PyTuple>().ok()?;
    join_short(|| tuple.iter())
}

fn join_short<'py, Pieces: Iterator<Item = Bound<'py, PyAny>>>(
    pieces: impl Fn() -> Pieces,
) -> Option<Vec<u8>> {
    let mut len = 0;
    for piece in pieces() {
        len += piece.cast_exact::<PyBytes>().ok()?.as_bytes().len();
        if len >= limits::SHARED_PIECE_BYTES {
            return None;
        }
    }
    let mut joined = Vec::with_capacity(len);
    // Without the GIL another thread may have changed the list meanwhile.
    for piece in pieces() {
        joined.extend_from_slice(piece.cast_exact::<PyBytes>().ok()?.as_bytes());
    }
    Some(joined)
}

/// The bytes of the pieces.
///
/// # Errors
/// `TypeError` if one has none that must have some, and `BufferError` where a socket is given some that are not contiguous.
pub(super) fn bytes_of<'a>(kind: Kind, pieces: &'a [Bound<'_, PyAny>]) -> PyResult<Vec<Bytes<'a>>> {
    pieces
        .iter()
        .map(|piece| Bytes::of(piece).or_else(|error| without_bytes(kind, pieces, piece, error)))
        .collect()
}

/// Whether the running Python's asyncio looks at no piece that is for a connection that is over.
///
/// # Errors
/// What importing raises.
#[cold]
pub(super) fn come_too_late(py: Python<'_>, kind: Kind) -> PyResult<bool> {
    Ok(!joins(py, kind) && release_has(py, intern!(py, "WRITELINES_SEES_THE_END_FIRST"))?)
}

/// What becomes of a piece that is not bytes.
#[cold]
fn without_bytes<'a>(
    kind: Kind,
    pieces: &[Bound<'_, PyAny>],
    piece: &Bound<'_, PyAny>,
    error: PyErr,
) -> PyResult<Bytes<'a>> {
    if !joins(piece.py(), kind) && skips_what_is_false(piece.py())? && !piece.is_truthy()? {
        return Ok(Bytes::Immutable(&[]));
    }
    Err(refused(kind, pieces, piece, error))
}

/// Whether the running Python's asyncio makes no `memoryview` of a piece that is false (gh-155888).
fn skips_what_is_false(py: Python<'_>) -> PyResult<bool> {
    release_has(py, intern!(py, "WRITELINES_SKIPS_WHAT_IS_FALSE"))
}

/// What is known of the running Python's release.
fn release_has(py: Python<'_>, name: &Bound<'_, PyString>) -> PyResult<bool> {
    py.import(intern!(py, "cloverleaf._releases"))?
        .getattr(name)?
        .is_truthy()
}

/// What asyncio says of a piece that has no bytes.
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
