//! Being outside of contexts that were entered, and entering them again.
//!
//! A context that is entered cannot be entered again. A run of the loop within a callback may have to call in the very
//! contexts in which that callback is called, and so it begins where they are left.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;

use super::context::{current_context, is_entered, knows_layout};
use super::object::Owned;

/// The address of the current context, to be compared with others while it is the current one of some call; zero if it is
/// not known.
pub(crate) fn present_context(py: Python<'_>) -> usize {
    if knows_layout() {
        current_context(py) as usize
    } else {
        0
    }
}

/// Contexts that were left, innermost first, and are entered again when this is dropped.
pub(crate) struct Outside<'py> {
    py: Python<'py>,
    left: Vec<Owned>,
}

impl<'py> Outside<'py> {
    /// Leaves every context that is entered, but for this one and what was entered before it. Where it is not known which
    /// they are, none is left.
    ///
    /// # Errors
    /// What the interpreter says of its own contexts.
    pub(crate) fn of_contexts(py: Python<'py>, until: usize) -> PyResult<Self> {
        let mut outside = Self {
            py,
            left: Vec::new(),
        };
        if !knows_layout() {
            return Ok(outside);
        }
        loop {
            let current = current_context(py);
            let is_last = current == ptr::without_provenance_mut(until);
            if current.is_null() || is_last || !is_entered(current) {
                return Ok(outside);
            }
            // SAFETY: the thread's state has a reference to its current context.
            let context = unsafe { pyo3::Borrowed::from_ptr(py, current) };
            outside.left.push(context.into());
            // SAFETY: a live context, which is the current one; the thread is attached.
            if unsafe { ffi::PyContext_Exit(current) } != 0 {
                outside.left.pop();
                return Err(PyErr::fetch(py));
            }
        }
    }
}

impl Drop for Outside<'_> {
    fn drop(&mut self) {
        // A panic may pass by.
        let raised = PyErr::take(self.py);
        while let Some(context) = self.left.pop() {
            // SAFETY: a live context; the thread is attached.
            if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
                // Another thread has entered it meanwhile, which it could not have done if it had not been left.
                PyErr::fetch(self.py).write_unraisable(self.py, None);
            }
        }
        if let Some(raised) = raised {
            raised.restore(self.py);
        }
    }
}
