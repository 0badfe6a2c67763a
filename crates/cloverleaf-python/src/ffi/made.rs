//! New objects of Python's own types, for which there may be no memory: PyO3's constructors panic then.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyInt, PyList, PySlice, PyString, PyTuple};

/// What the interpreter has made.
///
/// # Errors
/// `MemoryError`, or what else it says.
///
/// # Safety
/// The pointer is a new reference to an object of type `T`, or null with an exception set.
#[inline]
unsafe fn made<T>(py: Python<'_>, object: *mut ffi::PyObject) -> PyResult<Bound<'_, T>> {
    // SAFETY: as the caller promises.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }?;
    // SAFETY: as the caller promises.
    Ok(unsafe { object.cast_into_unchecked() })
}

/// A size as Python counts it; no slice has more than the largest.
#[inline]
fn size_of_slice(len: usize) -> ffi::Py_ssize_t {
    ffi::Py_ssize_t::try_from(len).unwrap_or(ffi::Py_ssize_t::MAX)
}

/// A `bytes` with this content.
///
/// # Errors
/// `MemoryError`.
#[inline]
pub(crate) fn bytes_from<'py>(py: Python<'py>, content: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let size = size_of_slice(content.len());
    // SAFETY: there are so many bytes; the thread is attached.
    let bytes = unsafe { ffi::PyBytes_FromStringAndSize(content.as_ptr().cast(), size) };
    // SAFETY: the call gave a new `bytes`, or null with an exception set.
    unsafe { made(py, bytes) }
}

/// A `str` with this content.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn text_from<'py>(py: Python<'py>, content: &str) -> PyResult<Bound<'py, PyString>> {
    let size = size_of_slice(content.len());
    // SAFETY: there are so many bytes; the thread is attached.
    let text = unsafe { ffi::PyUnicode_FromStringAndSize(content.as_ptr().cast(), size) };
    // SAFETY: the call gave a new `str`, or null with an exception set.
    unsafe { made(py, text) }
}

/// What the system takes for the name of a file.
///
/// # Errors
/// `UnicodeEncodeError`, `MemoryError`.
pub(crate) fn file_name_from<'py>(name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: a `Bound` is a live `str`, and proves that the thread is attached.
    let encoded = unsafe { ffi::PyUnicode_EncodeFSDefault(name.as_ptr()) };
    // SAFETY: the call gave a new `bytes`, or null with an exception set.
    unsafe { made(name.py(), encoded) }
}

/// The `str` that the interpreter keeps for a name.
///
/// # Errors
/// `MemoryError`.
pub(super) fn name_from<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyString>> {
    let mut text = text_from(py, name)?.into_ptr();
    // SAFETY: the reference is ours, to a `str` that nobody has seen; the call puts one to an equal `str` in its place, or
    // leaves it where there is no memory.
    unsafe { ffi::PyUnicode_InternInPlace(&raw mut text) };
    // SAFETY: as said.
    unsafe { made(py, text) }
}

/// An `int`.
///
/// # Errors
/// `MemoryError`.
#[inline]
pub(crate) fn int_from(py: Python<'_>, value: u64) -> PyResult<Bound<'_, PyInt>> {
    // SAFETY: the thread is attached.
    let int = unsafe { ffi::PyLong_FromUnsignedLongLong(value) };
    // SAFETY: the call gave a new `int`, or null with an exception set.
    unsafe { made(py, int) }
}

/// An `int` that may be negative.
///
/// # Errors
/// `MemoryError`.
#[inline]
pub(crate) fn signed_from(py: Python<'_>, value: i64) -> PyResult<Bound<'_, PyInt>> {
    // SAFETY: the thread is attached.
    let int = unsafe { ffi::PyLong_FromLongLong(value) };
    // SAFETY: the call gave a new `int`, or null with an exception set.
    unsafe { made(py, int) }
}

/// The slice from one place to another.
///
/// PyO3's own keeps the numbers that it makes for ever.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn slice_from(py: Python<'_>, start: usize, end: usize) -> PyResult<Bound<'_, PySlice>> {
    let start = int_from(py, start as u64)?;
    let end = int_from(py, end as u64)?;
    let step = std::ptr::null_mut();
    // SAFETY: both numbers are held, of which the call takes references of its own; no step is one of 1.
    let slice = unsafe { ffi::PySlice_New(start.as_ptr(), end.as_ptr(), step) };
    // SAFETY: the call gave a new slice, or null with an exception set.
    unsafe { made(py, slice) }
}

/// A `float`.
///
/// # Errors
/// `MemoryError`.
#[inline]
pub(crate) fn float_from(py: Python<'_>, value: f64) -> PyResult<Bound<'_, PyFloat>> {
    // SAFETY: the thread is attached.
    let float = unsafe { ffi::PyFloat_FromDouble(value) };
    // SAFETY: the call gave a new `float`, or null with an exception set.
    unsafe { made(py, float) }
}

/// A `dict` with nothing in it.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn new_dict(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    // SAFETY: the thread is attached.
    let dict = unsafe { ffi::PyDict_New() };
    // SAFETY: the call gave a new `dict`, or null with an exception set.
    unsafe { made(py, dict) }
}

/// A `list` with nothing in it.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn new_list(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    // SAFETY: the thread is attached.
    let list = unsafe { ffi::PyList_New(0) };
    // SAFETY: the call gave a new `list`, or null with an exception set.
    unsafe { made(py, list) }
}

/// A tuple of these.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn tuple_from<'py>(
    py: Python<'py>,
    items: impl IntoIterator<Item = Bound<'py, PyAny>, IntoIter: ExactSizeIterator>,
) -> PyResult<Bound<'py, PyTuple>> {
    let items = items.into_iter();
    let len = items.len();
    // SAFETY: the thread is attached.
    let tuple = unsafe { ffi::PyTuple_New(size_of_slice(len)) };
    // SAFETY: the call gave a new tuple, or null with an exception set.
    let tuple: Bound<'py, PyTuple> = unsafe { made(py, tuple) }?;
    for (index, item) in items.take(len).enumerate() {
        // SAFETY: nobody else has the tuple, which has this place, as `len` are taken, and nothing in it; the
        // reference becomes the tuple's.
        unsafe { ffi::PyTuple_SET_ITEM(tuple.as_ptr(), size_of_slice(index), item.into_ptr()) };
    }
    Ok(tuple)
}
