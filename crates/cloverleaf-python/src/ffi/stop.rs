//! The `StopIteration` that carries the result of a coroutine to whoever awaits it.

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::object::Owned;

/// Raises it; for None, the bare end says as much.
#[inline]
pub(super) fn stop_with(py: Python<'_>, result: Owned) {
    let result = result.into_bound(py);
    if result.is_none() {
        return;
    }
    match result.cast_into_exact::<PyBytes>() {
        Ok(bytes) => stop_with_bytes(&bytes),
        Err(error) => PyStopIteration::new_err((error.into_inner().unbind(),)).restore(py),
    }
}

#[cfg(any(not(Py_3_12), Py_GIL_DISABLED))]
fn stop_with_bytes(bytes: &Bound<'_, PyBytes>) {
    // SAFETY: the interpreter's own object, which lives for ever.
    let stop = unsafe { pyo3::ffi::PyExc_StopIteration };
    // SAFETY: both are live; a value that is neither a tuple nor an exception is taken for the argument.
    unsafe { pyo3::ffi::PyErr_SetObject(stop, bytes.as_ptr()) };
}

#[cfg(all(Py_3_12, not(Py_GIL_DISABLED)))]
use kept::stop_with_bytes;

/// The interpreter takes the value out of the exception and drops it at once, so it serves again: making one takes as
/// long as three reads of a line that is there.
#[cfg(all(Py_3_12, not(Py_GIL_DISABLED)))]
mod kept {
    use std::mem::offset_of;
    use std::ptr;
    use std::sync::atomic::{AtomicPtr, Ordering};

    use pyo3::ffi;
    use pyo3::prelude::*;
    use pyo3::types::{PyBytes, PyBytesMethods};

    /// Longer values go with a new exception: the kept one holds its value until it serves again.
    const LONGEST: usize = 4096;

    /// Where an exception has what whoever catches it may fill.
    const WHAT_OTHERS_FILL: [usize; 5] = [
        offset_of!(ffi::PyStopIterationObject, dict),
        offset_of!(ffi::PyStopIterationObject, notes),
        offset_of!(ffi::PyStopIterationObject, traceback),
        offset_of!(ffi::PyStopIterationObject, context),
        offset_of!(ffi::PyStopIterationObject, cause),
    ];

    /// The exception, with a reference of ours.
    static KEPT: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());

    pub(super) fn stop_with_bytes(bytes: &Bound<'_, PyBytes>) {
        // SAFETY: the interpreter's own object, which lives for ever.
        let class = unsafe { ffi::PyExc_StopIteration };
        if bytes.as_bytes().len() > LONGEST {
            // SAFETY: both are live; a value that is neither a tuple nor an exception is taken for the argument.
            unsafe { ffi::PyErr_SetObject(class, bytes.as_ptr()) };
            return;
        }
        let kept = KEPT.swap(ptr::null_mut(), Ordering::Relaxed);
        let exception = if serves_again(kept) {
            kept
        } else {
            // SAFETY: the reference was the place's; an exception that somebody else has seen is left to him.
            unsafe { ffi::Py_XDECREF(kept) };
            // SAFETY: the class is live and the thread attached.
            unsafe { ffi::PyObject_CallNoArgs(class) }
        };
        if exception.is_null() {
            // It has failed, which is raised instead.
            return;
        }
        let fields = exception.cast::<ffi::PyStopIterationObject>();
        // SAFETY: the exception is of this very class.
        let value = unsafe { &raw mut (*fields).value };
        // SAFETY: the field holds a reference, and nobody else has the exception.
        let old = unsafe { value.replace(bytes.clone().into_ptr()) };
        // SAFETY: the reference was the field's.
        unsafe { ffi::Py_XDECREF(old) };
        // SAFETY: the exception is live; this reference is the place's.
        unsafe { ffi::Py_INCREF(exception) };
        let before = KEPT.swap(exception, Ordering::Relaxed);
        // SAFETY: as above; freeing the value may have come by here.
        unsafe { ffi::Py_XDECREF(before) };
        // SAFETY: the exception is live, and its other reference is given up to the thread.
        unsafe { ffi::PyErr_SetRaisedException(exception) };
    }

    /// Whether an exception is as it was made, and only here.
    fn serves_again(kept: *mut ffi::PyObject) -> bool {
        if kept.is_null() {
            return false;
        }
        // SAFETY: the place has held it.
        if unsafe { ffi::Py_REFCNT(kept) } != 1 {
            return false;
        }
        let is_empty = |offset| {
            let field = kept.wrapping_byte_add(offset).cast::<*mut ffi::PyObject>();
            // SAFETY: the exception is of this very class, which has such a field there.
            unsafe { field.read() }.is_null()
        };
        WHAT_OTHERS_FILL.into_iter().all(is_empty)
    }
}
