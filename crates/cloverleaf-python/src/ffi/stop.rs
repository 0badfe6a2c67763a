//! The `StopIteration` that carries a result out of an iterator.
//!
//! Making one and taking it apart costs the interpreter more than many an operation whose result it brings, and it is
//! gone a moment later. So one is kept, and raised again for as long as nobody else has it and nothing was left on it.
//! Its `args` stay empty: whoever awaits asks for its `value`.

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::object::Owned;

/// Raises the `StopIteration` that carries a result; for None, the bare end says as much.
pub(super) fn stop_with(py: Python<'_>, result: Owned) {
    let result = result.into_bound(py);
    if result.is_none() {
        return;
    }
    // A value that is a tuple or an exception means something else to those who raise.
    if let Err(result) = result.cast_into_exact::<PyBytes>().map(|bytes| {
        kept::raise(py, bytes);
    }) {
        PyStopIteration::new_err((result.into_inner().unbind(),)).restore(py);
    }
}

/// Lets go of the last result: whoever awaited it has it.
pub(crate) use kept::forget as forget_result;

#[cfg(all(Py_3_12, not(Py_GIL_DISABLED)))]
mod kept {
    use std::ptr;
    use std::sync::atomic::{AtomicPtr, Ordering};

    use pyo3::ffi;
    use pyo3::prelude::*;
    use pyo3::types::PyBytes;

    /// The one that is kept, which the GIL guards; null until it is needed.
    static KEPT: AtomicPtr<ffi::PyStopIterationObject> = AtomicPtr::new(ptr::null_mut());

    /// Whether the only reference to it is ours, and it is as it was made.
    fn is_free(exception: *mut ffi::PyStopIterationObject) -> bool {
        if exception.is_null() {
            return false;
        }
        // SAFETY: what is kept is a live exception of just this layout.
        let fields = unsafe { &*exception };
        // SAFETY: as above.
        let references = unsafe { ffi::Py_REFCNT(exception.cast()) };
        references == 1
            && fields.dict.is_null()
            && fields.notes.is_null()
            && fields.traceback.is_null()
            && fields.context.is_null()
            && fields.cause.is_null()
    }

    pub(super) fn raise(py: Python<'_>, result: Bound<'_, PyBytes>) {
        let mut exception = KEPT.load(Ordering::Relaxed);
        if !is_free(exception) {
            // SAFETY: the interpreter's own class, which lives for ever.
            let class = unsafe { ffi::PyExc_StopIteration };
            // SAFETY: the thread is attached.
            let made = unsafe { ffi::PyObject_CallNoArgs(class) };
            if made.is_null() {
                return;
            }
            let former = std::mem::replace(&mut exception, made.cast());
            KEPT.store(exception, Ordering::Relaxed);
            // SAFETY: this was our reference to the former one, if there was one.
            drop(unsafe { Bound::from_owned_ptr_or_opt(py, former.cast()) });
        }
        // SAFETY: the exception is alive, and nobody else has it.
        let value = unsafe { &mut (*exception).value };
        let before = std::mem::replace(value, result.into_ptr());
        // SAFETY: the reference was the field's.
        unsafe { ffi::Py_XDECREF(before) };
        // SAFETY: the exception is alive; one reference goes to the interpreter, one stays ours.
        unsafe { ffi::Py_INCREF(exception.cast()) };
        // SAFETY: the call takes this reference.
        unsafe { ffi::PyErr_SetRaisedException(exception.cast()) };
    }

    /// Empties the one that is kept, unless somebody else has it.
    #[inline]
    pub(crate) fn forget(py: Python<'_>) {
        let exception = KEPT.load(Ordering::Relaxed);
        // SAFETY: what is kept is alive.
        if exception.is_null() || unsafe { ffi::Py_REFCNT(exception.cast()) } != 1 {
            return;
        }
        // SAFETY: the exception is alive, and nobody else has it.
        let value = unsafe { &mut (*exception).value };
        let before = std::mem::replace(value, py.None().into_ptr());
        // SAFETY: the reference was the field's. It is a `bytes`, or what a program has put there and let go of.
        unsafe { ffi::Py_XDECREF(before) };
    }
}

#[cfg(not(all(Py_3_12, not(Py_GIL_DISABLED))))]
mod kept {
    use pyo3::ffi;
    use pyo3::prelude::*;
    use pyo3::types::PyBytes;

    pub(super) fn raise(_py: Python<'_>, result: Bound<'_, PyBytes>) {
        // SAFETY: the interpreter's own object, which lives for ever.
        let stop = unsafe { ffi::PyExc_StopIteration };
        // SAFETY: both are live; a value that is neither a tuple nor an exception is taken for the argument.
        unsafe { ffi::PyErr_SetObject(stop, result.as_ptr()) };
    }

    pub(crate) fn forget(_py: Python<'_>) {}
}
