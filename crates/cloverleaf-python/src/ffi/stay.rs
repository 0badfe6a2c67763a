//! Calls that follow each other in one context, which is entered once for all of them.
//!
//! Each call has a context of its own, made of the variables that it waits with. But where a call has left its context
//! as it found it, and nobody else has got hold of it, the next one that waits with the same variables cannot tell it
//! from a new one. And a context that a program hands over with several calls is the same for all. So it is left only
//! when something else than such a call comes next: as soon as a call raises, has changed its context, or lets go of an
//! object whose end may run code, which must find the context of the loop; and by whoever does anything but run calls.

use std::ptr;

use pyo3::prelude::*;
use pyo3::{Borrowed, ffi};

use super::context::{
    current_context, empty_context, fill, has_no_others_entered, keep_context, knows_layout,
    variables,
};
use super::object::Owned;

/// The context that the last call has left entered, if any.
pub(crate) struct Stay<'py> {
    py: Python<'py>,
    context: Option<Owned>,
    /// The variables of which the context was made, and which it has still; null if it is somebody's own, or none.
    variables: *mut ffi::PyObject,
}

/// A call that failed: with what, and the copy in which it was made, if one could be made.
pub(super) type Failed = (PyErr, Option<Owned>);

impl<'py> Stay<'py> {
    /// Nothing is entered.
    pub(crate) const fn new(py: Python<'py>) -> Self {
        Self {
            py,
            context: None,
            variables: ptr::null_mut(),
        }
    }

    /// The thread is attached.
    #[inline]
    pub(super) const fn py(&self) -> Python<'py> {
        self.py
    }

    /// Whether a context is entered.
    #[inline]
    pub(crate) const fn is_any(&self) -> bool {
        self.context.is_some()
    }

    /// Leaves what is entered.
    #[inline]
    pub(crate) fn leave(&mut self) {
        if self.context.is_some() {
            self.leave_now();
        }
    }

    /// Leaves a context that is somebody's own: another thread may want to enter it.
    #[inline]
    pub(crate) fn leave_to_others(&mut self) {
        if self.variables.is_null() {
            self.leave();
        }
    }

    /// Leaves a copy that can be told from a new one: Python code may have run in it since the last call.
    #[inline]
    pub(crate) fn leave_if_changed(&mut self) {
        if self.is_any() && !self.is_as_before() {
            self.leave_now();
        }
    }

    #[inline(never)]
    fn leave_now(&mut self) {
        if let Err(error) = self.exit().map(|(context, is_copy)| keep(context, is_copy)) {
            // It is the current one, as was seen after the last call, and nothing has run since.
            error.write_unraisable(self.py, None);
        }
    }

    /// Leaves the context that is entered; it, and whether it was a copy.
    #[inline]
    fn exit(&mut self) -> PyResult<(Option<Owned>, bool)> {
        let Some(context) = self.context.take() else {
            return Ok((None, false));
        };
        let is_copy = !self.variables.is_null();
        self.variables = ptr::null_mut();
        // SAFETY: this context was entered here, and whoever entered another one inside has left it.
        if unsafe { ffi::PyContext_Exit(context.as_ptr()) } != 0 {
            return Err(PyErr::fetch(self.py));
        }
        Ok((Some(context), is_copy))
    }

    /// Makes a call in a copy of a context with these variables. `ends` says afterwards whether an object goes with the
    /// call, or may go.
    ///
    /// # Errors
    /// What the call raises, or `MemoryError`; nothing is entered then.
    #[inline]
    pub(super) fn call_in_copy(
        &mut self,
        variables: Borrowed<'_, '_, PyAny>,
        call: impl FnOnce() -> PyResult<()>,
        ends: impl FnOnce() -> bool,
    ) -> Result<(), Failed> {
        if self.variables != variables.as_ptr() {
            self.enter_copy(variables).map_err(|error| (error, None))?;
        }
        let result = call();
        if result.is_ok() && self.is_as_before() && !ends() {
            return Ok(());
        }
        self.end_copy(result)
    }

    #[inline]
    fn enter_copy(&mut self, variables: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
        self.leave();
        let context = empty_context(self.py)?;
        fill(&context, variables.into());
        // SAFETY: a live context; the thread is attached.
        if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
            return Err(PyErr::fetch(self.py));
        }
        self.context = Some(context);
        self.variables = variables.as_ptr();
        Ok(())
    }

    /// Whether the copy that is entered cannot be told from a new one.
    #[inline]
    fn is_as_before(&self) -> bool {
        self.context.as_ref().is_some_and(|context| {
            let context = context.as_ptr();
            current_context(self.py) == context
                && has_no_others_entered(context)
                && variables(context) == self.variables
        })
    }

    #[inline]
    fn end_copy(&mut self, result: PyResult<()>) -> Result<(), Failed> {
        let held = self
            .context
            .as_ref()
            .map(|context| context.clone_ref(self.py));
        let left = self.exit();
        match left.map(drop).and(result) {
            Ok(()) => {
                keep(held, true);
                Ok(())
            }
            Err(error) => Err((error, held)),
        }
    }

    /// Enters a context that a call has brought, unless it is entered already; `false`, with an exception set, if it
    /// cannot be entered.
    #[inline]
    pub(super) fn enter(&mut self, context: &Owned) -> bool {
        if self.variables.is_null() && self.context.as_ref().is_some_and(|at| at.is(context)) {
            return true;
        }
        self.leave();
        // SAFETY: a live object of any type, which the call checks; the thread is attached.
        if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
            return false;
        }
        self.context = Some(context.clone_ref(self.py));
        true
    }

    /// Makes a call in the context that was [entered](Self::enter). `ends` is as above.
    ///
    /// # Errors
    /// What the call raises; nothing is entered then.
    #[inline]
    pub(super) fn call_entered(
        &mut self,
        call: impl FnOnce() -> PyResult<()>,
        ends: impl FnOnce() -> bool,
    ) -> PyResult<()> {
        let result = call();
        let may_stay = result.is_ok() && knows_layout() && !ends() && self.is_current();
        if may_stay {
            return Ok(());
        }
        self.exit().map(drop).and(result)
    }

    #[inline]
    fn is_current(&self) -> bool {
        let current = current_context(self.py);
        self.context
            .as_ref()
            .is_some_and(|context| context.as_ptr() == current)
    }
}

/// Keeps a copy for later calls.
#[inline]
fn keep(context: Option<Owned>, is_copy: bool) {
    if let Some(context) = context
        && is_copy
    {
        keep_context(context);
    }
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        if self.context.is_none() {
            return;
        }
        // A panic may pass by, or an error that the interpreter has been told of.
        let raised = PyErr::take(self.py);
        self.leave_now();
        if let Some(raised) = raised {
            raised.restore(self.py);
        }
    }
}
