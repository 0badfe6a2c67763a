//! How an `asyncio.Future` ends: with a result, an exception, or cancelled; once, and nobody's error if it has before.

use std::any::{Any, TypeId};

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::intern;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::offer::{Job, caught};

/// The exception of a panic, as PyO3 makes it of one in a function.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> PyErr {
    let what = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned());
    PanicException::new_err(what.unwrap_or_else(|| "panic from Rust code".to_owned()))
}

/// The exception of what was dropped without an answer.
pub(crate) fn unanswered() -> PyErr {
    PyRuntimeError::new_err("the Rust side was dropped before it gave an answer, and gives none")
}

/// A value as an object; of `()`, None, as of a function that returns nothing.
pub(crate) fn into_object<T>(py: Python<'_>, value: T) -> PyResult<Bound<'_, PyAny>>
where
    T: for<'a> IntoPyObject<'a> + 'static,
{
    if TypeId::of::<T>() == TypeId::of::<()>() {
        return Ok(py.None().into_bound(py));
    }
    value.into_bound_py_any(py)
}

/// Ends a future with what `outcome` gives, unless it has ended; then `outcome` is dropped.
///
/// # Errors
/// What its methods raise.
pub(crate) fn settle<'py>(
    future: &Bound<'py, PyAny>,
    outcome: impl FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<()> {
    let py = future.py();
    if is_done(future)? {
        return Ok(());
    }
    match caught(|| outcome(py)) {
        Ok(object) => {
            // The conversion may have run anything.
            if !is_done(future)? {
                future.call_method1(intern!(py, "set_result"), (object,))?;
            }
        }
        Err(error) if is_cancellation(py, &error)? => cancel(future, &error)?,
        Err(error) => fail(future, error)?,
    }
    Ok(())
}

/// Cancels a future with the message of a `CancelledError`, which is all that a future can keep of it.
fn cancel(future: &Bound<'_, PyAny>, error: &PyErr) -> PyResult<()> {
    let py = future.py();
    let args = error.value(py).getattr(intern!(py, "args"))?;
    let cancel = intern!(py, "cancel");
    match args.extract::<(Bound<'_, PyAny>,)>() {
        Ok(message) => future.call_method1(cancel, message)?,
        Err(_) => future.call_method0(cancel)?,
    };
    Ok(())
}

fn fail(future: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
    let py = future.py();
    if is_done(future)? {
        return Ok(());
    }
    let set_exception = intern!(py, "set_exception");
    match future.call_method1(set_exception, (error.into_value(py),)) {
        Ok(_) => Ok(()),
        // A `StopIteration` it does not take, and says why.
        Err(refused) if refused.is_instance_of::<PyException>(py) => future
            .call_method1(set_exception, (refused.into_value(py),))
            .map(drop),
        Err(refused) => Err(refused),
    }
}

fn is_done(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    future
        .call_method0(intern!(future.py(), "done"))?
        .is_truthy()
}

/// Whether it is `asyncio.CancelledError`.
fn is_cancellation(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    Ok(error.matches(py, CLASS.import(py, "asyncio", "CancelledError")?)?)
}

/// The end of a future, on its way to the loop's thread.
pub(crate) struct Completion<T> {
    pub(crate) future: Py<PyAny>,
    pub(crate) outcome: Outcome<T>,
}

/// How it ends.
pub(crate) enum Outcome<T> {
    /// With a value that becomes an object there, or with an exception.
    Value(PyResult<T>),
    /// Cancelled.
    Cancelled,
}

impl<T> Job for Box<Completion<T>>
where
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    fn run(self, py: Python<'_>) -> PyResult<()> {
        let Completion { future, outcome } = *self;
        let future = future.into_bound(py);
        match outcome {
            Outcome::Value(value) => settle(&future, |py| into_object(py, value?)),
            Outcome::Cancelled => future.call_method0(intern!(py, "cancel")).map(drop),
        }
    }
}
