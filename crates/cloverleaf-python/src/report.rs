//! Exceptions that nobody awaits, on their way to the loop's exception handler.
//!
//! It is called as asyncio calls it, while the exception is being handled: `logging.exception()` and its kin say which.

use crate::ffi::{Once, Reach, handling, new_dict, text_from, value_of};
use pyo3::exceptions::PyResourceWarning;
use pyo3::prelude::*;

use crate::event_loop::Loop;

/// Reports what a callback raised.
///
/// # Errors
/// What the handler lets through: `SystemExit` and `KeyboardInterrupt`.
#[cold]
pub(crate) fn callback_failed(
    event_loop: &Bound<'_, PyAny>,
    handle: &Bound<'_, PyAny>,
    error: PyErr,
) -> PyResult<()> {
    let py = event_loop.py();
    if crate::error::ends_the_run(py, &error) {
        return Err(error);
    }
    let exception = value_of(py, error);
    let report = intern!(py, "_report_callback_error");
    handling(&exception, || {
        event_loop.reach(report, (handle, &exception))
    })?;
    Ok(())
}

/// Reports what went wrong with an object, given with others by name.
///
/// # Errors
/// What the handler lets through: `SystemExit` and `KeyboardInterrupt`; at once if `error` is one of them.
#[cold]
pub(crate) fn failed(
    event_loop: &Bound<'_, PyAny>,
    message: &str,
    error: PyErr,
    about: &[(&str, &Bound<'_, PyAny>)],
) -> PyResult<()> {
    let py = event_loop.py();
    if crate::error::ends_the_run(py, &error) {
        return Err(error);
    }
    let exception = value_of(py, error);
    let context = new_dict(py)?;
    context.set_item(intern!(py, "message"), text_from(py, message)?)?;
    context.set_item(intern!(py, "exception"), &exception)?;
    for (name, object) in about {
        context.set_item(text_from(py, name)?, object)?;
    }
    let report = intern!(py, "call_exception_handler");
    handling(&exception, || event_loop.reach(report, (context,)))?;
    Ok(())
}

/// Tells the log about a transport, in debug mode: `text` has one `%r` for it.
///
/// # Errors
/// What logging raises.
#[inline]
pub(crate) fn note(
    event_loop: &Bound<'_, PyAny>,
    transport: &Bound<'_, PyAny>,
    level: &str,
    text: &str,
) -> PyResult<()> {
    if Loop::of(event_loop)?.debug() {
        let py = event_loop.py();
        event_loop.reach(intern!(py, "_log_transport"), (transport, level, text))?;
    }
    Ok(())
}

fn logger(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import(intern!(py, "asyncio.log"))?
        .getattr(intern!(py, "logger"))
}

/// Logs a warning.
///
/// # Errors
/// What a logging handler raises.
#[cold]
pub(crate) fn log_warning(py: Python<'_>, message: &str) -> PyResult<()> {
    logger(py)?.reach(intern!(py, "warning"), (message,))?;
    Ok(())
}

/// `warnings.warn`, kept because nothing can be imported any more when the last objects of a program go.
static WARN: Once<Py<PyAny>> = Once::new();

/// Looks up what the last warnings of a program need.
///
/// # Errors
/// What importing raises.
pub(crate) fn prepare(py: Python<'_>) -> PyResult<()> {
    warn(py).map(drop)
}

fn warn(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    let warn = WARN.get_or_try_init(py, || {
        let warnings = py.import(intern!(py, "warnings"))?;
        PyResult::Ok(warnings.getattr(intern!(py, "warn"))?.unbind())
    })?;
    Ok(warn.bind(py))
}

/// Warns of a transport that nobody closed.
///
/// # Errors
/// What its `repr()` raises, and the warning itself where warnings are errors.
#[cold]
pub(crate) fn warn_unclosed(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let message = format!("unclosed transport {}", transport.repr()?);
    let names = new_dict(py)?;
    names.set_item(intern!(py, "source"), transport)?;
    let category = py.get_type::<PyResourceWarning>();
    warn(py)?.call((message, category), Some(&names))?;
    Ok(())
}
