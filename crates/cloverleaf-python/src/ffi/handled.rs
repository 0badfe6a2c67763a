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
    // That may be an outer frame's, which a coroutine that is given it would keep when the outer frame is done with it.
    set_handled(py, None);
    let outer = handled(py);
    let own = innermost.filter(|own| !outer.is_some_and(|outer| outer.is(own)));
    set_handled(py, Some(exception));
    let done = caught(py, body).and_then(|done| done);
    set_handled(py, own.as_ref());
    done
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
