//! Completing an asyncio future, unless somebody has done so already: a cancelled waiter is nobody's error.

use crate::ffi::{call_method, caught, value_of};
use pyo3::prelude::*;

/// Whether a future has its result or its exception, or was cancelled.
///
/// # Errors
/// What its method raises.
pub(crate) fn is_done(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    call_method(future, intern!(future.py(), "done"), [])?.is_truthy()
}

/// Gives a future its result.
///
/// # Errors
/// What its methods raise.
pub(crate) fn set_result(future: &Bound<'_, PyAny>, result: &Bound<'_, PyAny>) -> PyResult<()> {
    match call_method(future, intern!(future.py(), "set_result"), [result]) {
        Ok(_) => Ok(()),
        // Asked only now: hardly any future is done already.
        Err(_) if is_done(future)? => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives a future its exception.
///
/// # Errors
/// What its methods raise.
pub(crate) fn set_exception(future: &Bound<'_, PyAny>, exception: &PyErr) -> PyResult<()> {
    let py = future.py();
    if !is_done(future)? {
        // To make an exception takes memory; the future hears of it where there is none.
        let exception = caught(py, || exception.value(py).clone().into_any())
            .unwrap_or_else(|error| value_of(py, error));
        call_method(future, intern!(py, "set_exception"), [&exception])?;
    }
    Ok(())
}
