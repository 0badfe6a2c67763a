//! Calls that wait without an object: what becomes of a handle once nobody but the queue has it.
//!
//! A handle is 128 bytes, and the call in it no more than three references and a flag. Who schedules a callback mostly
//! drops the handle at once, so by the time when the next callback is queued the call can go into the queue itself, and
//! the handle be used again while it is still in the processor's cache.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;

use super::call::{INLINE_ARGS, call_borrowed, call_in_context, call_step_in_context};
use super::context::{CallContext, keep_context};
use super::object::{Owned, end_something};
use super::stay::Stay;
use super::visit::Visitor;

/// A callback, with one argument or none, and the context to call it in.
#[derive(Debug)]
pub(crate) struct BareCall {
    pub(crate) callback: Owned,
    pub(crate) arg: Option<Owned>,
    pub(crate) context: CallContext,
}

impl BareCall {
    /// Makes the call, and lets go of everything.
    ///
    /// # Errors
    /// What the call raises, with the call, to be reported.
    #[inline]
    pub(crate) fn run(mut self, stay: &mut Stay<'_>) -> Result<(), (PyErr, Self)> {
        let py = stay.py();
        if self.ends_something() {
            // Its context would be left anyway, so it need not be looked at afterwards.
            return self.run_alone(stay);
        }
        if self.context.is_frozen() {
            let variables = self.context.context.bind(py);
            let called = stay.call_in_copy(variables, || self.call(py), || self.ends_something());
            return called.map_err(|(error, context)| {
                // Whoever hears of the error may ask for it.
                if let Some(context) = context {
                    self.context.context = context;
                }
                (error, self)
            });
        }
        if self.context.is_copy {
            return self.run_alone(stay);
        }
        if stay.enter(&self.context.context) {
            let called = stay.call_entered(|| self.call(py), || self.ends_something());
            return called.map_err(|error| (error, self));
        }
        // What cannot be entered says so again.
        drop(PyErr::take(py));
        self.run_alone(stay)
    }

    /// Makes the call in a context that is entered for it alone.
    ///
    /// # Errors
    /// What the call raises, with the call.
    #[inline]
    fn run_alone(mut self, stay: &mut Stay<'_>) -> Result<(), (PyErr, Self)> {
        stay.leave();
        let py = stay.py();
        let result = self.context.make(py).and_then(|()| self.call_inside(py));
        match result {
            Ok(()) => {
                if self.context.is_copy {
                    keep_context(self.context.context);
                }
                Ok(())
            }
            Err(error) => Err((error, self)),
        }
    }

    /// Makes the call in its context.
    #[inline]
    fn call_inside(&self, py: Python<'_>) -> PyResult<()> {
        let context = self.context.context.bind(py);
        let callback = self.callback.as_ptr();
        if self.arg.is_none() {
            // SAFETY: `self` holds the callback.
            return unsafe { call_step_in_context(py, context, callback) };
        }
        // SAFETY: `self` holds the callback and the argument.
        unsafe { call_in_context(py, context, callback, self.args(), false) }
    }

    #[inline]
    fn args(&self) -> [*mut ffi::PyObject; INLINE_ARGS] {
        let arg = self.arg.as_ref().map_or(ptr::null_mut(), Owned::as_ptr);
        [arg, ptr::null_mut(), ptr::null_mut()]
    }

    /// Makes the call, in whatever context is entered.
    #[inline]
    fn call(&self, py: Python<'_>) -> PyResult<()> {
        // SAFETY: `self` holds the callback and the argument.
        unsafe { call_borrowed(py, self.callback.as_ptr(), self.args(), false) }.map(drop)
    }

    /// Whether an object goes with the call.
    #[inline]
    fn ends_something(&self) -> bool {
        let [arg, ..] = self.args();
        end_something([self.callback.as_ptr(), arg])
    }

    /// Has the processor fetch what the call needs, if it is not the same for many.
    #[inline]
    pub(crate) fn fetch(&self) {
        if !self.context.is_copy {
            self.context.context.fetch();
        }
    }

    /// Shows the collector every reference.
    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        visitor.object(&self.callback);
        visitor.object(&self.context.context);
        if let Some(arg) = &self.arg {
            visitor.object(arg);
        }
    }
}
