//! An exception that is being handled, as in the body of Python's `except`.

use pyo3::ffi;
use pyo3::prelude::*;

use super::memory::caught;

/// Does something while an exception is being handled: `sys.exc_info()` tells of it, and it is the context of what is
/// raised meanwhile.
///
/// # Errors
/// What `body` says.
#[cold]
pub(crate) fn handling<R>(
    exception: &Bound<'_, PyAny>,
    body: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    let py = exception.py();
    let innermost = handled(py);
    // That may be an outer frame's, which a coroutine that is given it would keep when the outer frame is done with it. Both
    // may handle the same one: then a reference goes if this frame did.
    let before = innermost.as_ref().map(references);
    set_handled(py, None);
    let has_gone = innermost.as_ref().map(references) < before;
    let outer = handled(py);
    let own = innermost.filter(|own| has_gone || !outer.is_some_and(|outer| outer.is(own)));
    set_handled(py, Some(exception));
    let done = caught(py, body).and_then(|done| done);
    set_handled(py, own.as_ref());
    done
}

/// How many references there are to an exception.
fn references(exception: &Bound<'_, PyAny>) -> ffi::Py_ssize_t {
    // SAFETY: a `Bound` is a live object.
    unsafe { ffi::Py_REFCNT(exception.as_ptr()) }
}

/// The innermost exception that is being handled.
fn handled(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    // SAFETY: the thread is attached.
    let handled = unsafe { ffi::PyErr_GetHandledException() };
    // SAFETY: the call gave a new reference, or null.
    unsafe { Bound::from_owned_ptr_or_opt(py, handled) }
}

/// Sets the exception that this very coroutine, or else the thread, is handling.
fn set_handled(_py: Python<'_>, exception: Option<&Bound<'_, PyAny>>) {
    let exception = exception.map_or(std::ptr::null_mut(), Bound::as_ptr);
    // SAFETY: the thread is attached; the exception is live, or null where there is none, and the call takes a reference of
    // its own.
    unsafe { ffi::PyErr_SetHandledException(exception) };
}
