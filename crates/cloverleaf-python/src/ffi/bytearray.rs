//! The bytes of a `bytearray`: appended to, looked at, dropped from the front.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;

/// Keeps other threads from a byte array: the GIL does where there is one.
fn guarded<R>(array: &Bound<'_, PyByteArray>, access: impl FnOnce() -> R) -> R {
    if cfg!(Py_GIL_DISABLED) {
        pyo3::sync::critical_section::with_critical_section(array, access)
    } else {
        access()
    }
}

/// Appends bytes, as `extend` does.
///
/// # Errors
/// `BufferError` while somebody has a view of the array, `MemoryError`.
pub(crate) fn append(array: &Bound<'_, PyByteArray>, bytes: &[u8]) -> PyResult<()> {
    guarded(array, || {
        let before = array.len();
        array.resize(before + bytes.len())?;
        // SAFETY: the array is live; nothing else changes it while it is guarded.
        let start = unsafe { ffi::PyByteArray_AsString(array.as_ptr()) };
        // SAFETY: the array has just been given room for this many bytes behind the first `before`.
        let room = unsafe { start.cast::<u8>().add(before) };
        // SAFETY: the source is immutable memory of another object, so they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), room, bytes.len()) };
        Ok(())
    })
}

/// Looks at the bytes. No Python code may run in `look`, which may make objects.
pub(crate) fn look_at<R>(array: &Bound<'_, PyByteArray>, look: impl FnOnce(&[u8]) -> R) -> R {
    guarded(array, || {
        // SAFETY: nobody changes or resizes the array while it is guarded and no Python code runs.
        look(unsafe { array.as_bytes() })
    })
}

/// Drops that many bytes from the front, as `del array[:count]` does.
///
/// # Errors
/// `BufferError` while somebody has a view of the array.
pub(crate) fn drop_front(array: &Bound<'_, PyByteArray>, count: usize) -> PyResult<()> {
    if count == array.len() {
        return array.resize(0);
    }
    let count = ffi::Py_ssize_t::try_from(count).unwrap_or(ffi::Py_ssize_t::MAX);
    // SAFETY: the array is live and the thread is attached.
    if unsafe { ffi::PySequence_DelSlice(array.as_ptr(), 0, count) } != 0 {
        return Err(PyErr::fetch(array.py()));
    }
    Ok(())
}
