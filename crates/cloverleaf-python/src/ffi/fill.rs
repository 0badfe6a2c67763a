//! A `bytes` that C code fills piece by piece, through views of its memory.

use std::ffi::c_char;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::content::Unfilled;
use super::reach::Reach;

/// Fills a new `bytes` of at most `room` bytes piece by piece: `fill` is lent the rest of it, as a `memoryview` of at
/// least one byte, of which it keeps no part, and says how many bytes of it it has filled, and whether it is done.
///
/// # Errors
/// `MemoryError`; `BufferError` if `fill` has kept one all the same: the bytes are never freed then.
pub(crate) fn fill_bytes<'py>(
    py: Python<'py>,
    room: usize,
    mut fill: impl FnMut(&Bound<'py, PyAny>) -> (usize, bool),
) -> PyResult<Bound<'py, PyBytes>> {
    let mut bytes = Unfilled::new(py, room)?;
    let start: *mut c_char = bytes.room().as_mut_ptr().cast();
    let mut filled = 0;
    while filled < room {
        let rest = ffi::Py_ssize_t::try_from(room - filled)?;
        // SAFETY: `filled` is less than the room that begins there.
        let place = unsafe { start.add(filled) };
        // SAFETY: there is room for so many bytes, which lives at least until the view is released below.
        let view = unsafe { ffi::PyMemoryView_FromMemory(place, rest, ffi::PyBUF_WRITE) };
        // SAFETY: the call gave a new reference, or null with an exception set.
        let view = unsafe { Bound::from_owned_ptr_or_err(py, view) }?;
        let (count, is_done) = fill(&view);
        if let Err(error) = view.reach0(intern!(py, "release")) {
            std::mem::forget(bytes);
            return Err(error);
        }
        filled = room.min(filled + count);
        if is_done {
            break;
        }
    }
    bytes.cut(py, filled)
}
