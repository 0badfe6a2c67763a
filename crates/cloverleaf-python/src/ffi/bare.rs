//! Calls that wait without an object: what becomes of a handle once nobody but the queue has it.
//!
//! A handle is 128 bytes, and the call in it no more than three references and a flag. Who schedules a callback mostly
//! drops the handle at once, so by the time when the next callback is queued the call can go into the queue itself, and
//! the handle be used again while it is still in the processor's cache.

use std::ptr;

use pyo3::prelude::*;

use super::call::call_in_context;
use super::context::{CallContext, keep_context};
use super::object::Owned;
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
    pub(crate) fn run(mut self, py: Python<'_>) -> Result<(), (PyErr, Self)> {
        let result = self.context.make(py).and_then(|()| self.call(py));
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

    #[inline]
    fn call(&self, py: Python<'_>) -> PyResult<()> {
        let arg = self.arg.as_ref().map_or(ptr::null_mut(), Owned::as_ptr);
        let args = [arg, ptr::null_mut(), ptr::null_mut()];
        let context = self.context.context.bind(py);
        // SAFETY: `self` holds the callback and the argument.
        unsafe { call_in_context(py, context, self.callback.as_ptr(), args, false) }
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
