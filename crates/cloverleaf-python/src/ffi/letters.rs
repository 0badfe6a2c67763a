//! The letters of a `str`: looked for, and taken out.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// How many letters a text has.
///
/// # Errors
/// None of a `str`.
pub(crate) fn letters_in(text: &Bound<'_, PyString>) -> PyResult<ffi::Py_ssize_t> {
    // SAFETY: the text is live, and a `str`.
    let count = unsafe { ffi::PyUnicode_GetLength(text.as_ptr()) };
    if count < 0 {
        return Err(PyErr::fetch(text.py()));
    }
    Ok(count)
}

/// Where the first of these letters is from `start` on and before `end`; None if there is none.
///
/// # Errors
/// None of a `str`.
pub(crate) fn find_letter(
    text: &Bound<'_, PyString>,
    letter: char,
    start: ffi::Py_ssize_t,
    end: ffi::Py_ssize_t,
) -> PyResult<Option<ffi::Py_ssize_t>> {
    // SAFETY: the text is live, and a `str`; places beyond it are brought within it.
    let found = unsafe { ffi::PyUnicode_FindChar(text.as_ptr(), letter.into(), start, end, 1) };
    match found {
        0.. => Ok(Some(found)),
        -1 => Ok(None),
        _ => Err(PyErr::fetch(text.py())),
    }
}

/// The letters from `start` on and before `end`.
///
/// # Errors
/// `MemoryError`; `IndexError` for a negative place.
pub(crate) fn letters_of<'py>(
    text: &Bound<'py, PyString>,
    start: ffi::Py_ssize_t,
    end: ffi::Py_ssize_t,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the text is live, and a `str`; places beyond it are brought within it.
    let part = unsafe { ffi::PyUnicode_Substring(text.as_ptr(), start, end) };
    // SAFETY: the result is a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(text.py(), part) }
}
