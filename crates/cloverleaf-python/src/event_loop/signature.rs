//! What `call_soon` and its kin are called with.
//!
//! The ways in which asyncio's tasks and futures call them are recognised first, and any other means the same. What does
//! not fit raises what Python raises for asyncio's own methods.

use pyo3::Borrowed;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::ffi::{Arguments, CallContext, Once, freeze_context};
use crate::handle::Guard;

/// How a method is called.
#[derive(Clone, Copy)]
pub(super) struct Signature {
    /// Its name, for its messages.
    pub(super) name: &'static str,
    /// The name of its argument before the callback, if it has one.
    first: Option<&'static str>,
    /// It is for the loop's own thread.
    pub(super) checks_thread: bool,
}

pub(super) const CALL_SOON: Signature = Signature {
    name: "call_soon",
    first: None,
    checks_thread: true,
};
pub(super) const CALL_SOON_THREADSAFE: Signature = Signature {
    name: "call_soon_threadsafe",
    first: None,
    checks_thread: false,
};
pub(super) const CALL_LATER: Signature = Signature {
    name: "call_later",
    first: Some("delay"),
    checks_thread: true,
};
pub(super) const CALL_AT: Signature = Signature {
    name: "call_at",
    first: Some("when"),
    checks_thread: true,
};

impl Signature {
    /// What another thread that cancels its handle must wait for.
    pub(super) const fn guard(self) -> Guard {
        if self.checks_thread {
            Guard::none()
        } else {
            Guard::of_threadsafe()
        }
    }
}

/// The names with which asyncio's tasks and futures hand a context over.
static CONTEXT: Once<Py<PyTuple>> = Once::new();

/// The arguments of a call, but for those of the callback.
pub(super) struct Request<'a, 'py> {
    pub(super) first: Option<Borrowed<'a, 'py, PyAny>>,
    pub(super) callback: Borrowed<'a, 'py, PyAny>,
    pub(super) context: Option<Borrowed<'a, 'py, PyAny>>,
}

impl<'a, 'py> Request<'a, 'py> {
    /// What a call brings of a method whose first argument is the callback.
    ///
    /// # Errors
    /// Those of [`parse`](Self::parse).
    #[inline]
    pub(super) fn of_callback(
        py: Python<'py>,
        method: Signature,
        args: &Arguments<'a, 'py>,
    ) -> PyResult<Self> {
        match args.get(0) {
            Some(callback) if args.are_positional() => Ok(Self {
                first: None,
                callback,
                context: None,
            }),
            _ => Self::parse(py, method, args),
        }
    }

    /// What a call brings.
    ///
    /// # Errors
    /// `TypeError` if something is missing or too much.
    #[inline]
    pub(super) fn parse(
        py: Python<'py>,
        method: Signature,
        args: &Arguments<'a, 'py>,
    ) -> PyResult<Self> {
        if let Some(callback) = args.get(usize::from(method.first.is_some())) {
            let first = method.first.and_then(|_| args.get(0));
            if args.are_positional() {
                return Ok(Self {
                    first,
                    callback,
                    context: None,
                });
            }
            if let Some(context) = args.only_named(intern!(py, "context"), &CONTEXT) {
                return Ok(Self {
                    first,
                    callback,
                    context: Some(context).filter(|context| !context.is_none()),
                });
            }
        }
        Self::parse_any(py, method, args)
    }

    /// Arguments in any order.
    #[cold]
    fn parse_any(py: Python<'py>, method: Signature, args: &Arguments<'a, 'py>) -> PyResult<Self> {
        let mut first = if method.first.is_some() {
            args.get(0)
        } else {
            None
        };
        let mut callback = args.get(usize::from(method.first.is_some()));
        let mut context = None;
        for (name, value) in args.named() {
            if name.is(intern!(py, "context")) || name.eq("context") {
                context = Some(value).filter(|context| !context.is_none());
            } else if callback.is_none() && name.eq("callback") {
                callback = Some(value);
            } else if first.is_none() && method.first.is_some_and(|first| name.eq(first)) {
                first = Some(value);
            } else {
                return Err(unexpected(method, &name));
            }
        }
        if let (Some(name), None) = (method.first, first) {
            return Err(missing(method, name));
        }
        let Some(callback) = callback else {
            return Err(missing(method, "callback"));
        };
        Ok(Self {
            first,
            callback,
            context,
        })
    }

    /// The context for the callback: the one that was given, or that of now.
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub(super) fn context(&self, py: Python<'py>) -> PyResult<CallContext> {
        match self.context {
            Some(context) => Ok(CallContext {
                context: context.into(),
                is_copy: false,
            }),
            None => freeze_context(py),
        }
    }
}

#[cold]
fn unexpected(method: Signature, argument: &Bound<'_, PyString>) -> PyErr {
    PyTypeError::new_err(format!(
        "{}() got an unexpected keyword argument '{argument}'",
        method.name
    ))
}

#[cold]
fn missing(method: Signature, argument: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "{}() missing 1 required positional argument: '{argument}'",
        method.name
    ))
}
