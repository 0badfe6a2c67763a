//! The `StopIteration` that carries a result out of an iterator.
//!
//! Each result has one of its own, as a generator's has: whoever catches one may keep it, change it, and have his frame
//! held by its traceback for as long as he keeps it.

use pyo3::exceptions::{PyBaseException, PyStopIteration};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::object::Owned;

/// Raises the `StopIteration` that carries a result; for None, the bare end says as much.
pub(super) fn stop_with(py: Python<'_>, result: Owned) {
    let result = result.into_bound(py);
    if result.is_none() {
        return;
    }
    // These mean something else to those who raise.
    if result.is_instance_of::<PyTuple>() || result.is_instance_of::<PyBaseException>() {
        PyStopIteration::new_err((result.unbind(),)).restore(py);
        return;
    }
    // SAFETY: the interpreter's own class, which lives for ever.
    let class = unsafe { ffi::PyExc_StopIteration };
    // SAFETY: both are live, and the thread is attached.
    unsafe { ffi::PyErr_SetObject(class, result.as_ptr()) };
}
