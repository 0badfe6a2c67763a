//! The kernel's refusals as `OSError` and its subclasses, with number and text as Python's own calls give them.

use crate::ffi::Reach;
use std::io;

use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyRuntimeError, PySystemExit};
use pyo3::prelude::*;

use crate::owner::Refused;

/// The exception for an error of the kernel.
pub(crate) fn os_error(py: Python<'_>, error: &io::Error) -> PyErr {
    let Some(errno) = error.raw_os_error() else {
        return PyOSError::new_err(error.to_string());
    };
    match text_of(py, errno) {
        // OSError picks the subclass by the number.
        Ok(text) => PyOSError::new_err((errno, text.unbind())),
        Err(error) => error,
    }
}

/// The exception for an error number.
pub(crate) fn errno_error(py: Python<'_>, errno: rustix::io::Errno) -> PyErr {
    os_error(py, &errno.into())
}

/// The system's text for an error number.
///
/// # Errors
/// What importing `os` raises.
pub(crate) fn text_of(py: Python<'_>, errno: i32) -> PyResult<Bound<'_, PyAny>> {
    py.import(intern!(py, "os"))?
        .reach(intern!(py, "strerror"), (errno,))
}

/// Whether an exception ends the run, and is never handed to a handler: `SystemExit` and `KeyboardInterrupt`.
pub(crate) fn ends_the_run(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py)
}

impl From<Refused> for PyErr {
    fn from(refused: Refused) -> Self {
        PyRuntimeError::new_err(match refused {
            Refused::Foreign => {
                "the event loop runs in another thread; use call_soon_threadsafe() to reach it from here"
            }
            Refused::Borrowed => {
                "the event loop is in the middle of a change; call it from a callback instead"
            }
        })
    }
}
