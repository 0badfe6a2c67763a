//! Which interfaces of the kernel a loop may use, and which it does use.

use cloverleaf::Backend;
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::Loop;
use crate::error::text_of;
use crate::state::LoopState;

/// Says what the loop may use: what is named here, else what the environment names.
///
/// # Errors
/// `TypeError` for what is no string, `ValueError` for what names no backend, `OSError` if a ring is demanded and the
/// kernel refuses it.
pub(super) fn choose(this: &Loop, py: Python<'_>, name: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let backend = match name {
        None => Backend::from_environment(),
        Some(name) => match name.extract::<String>() {
            Ok(name) => name.parse(),
            Err(_) => {
                return Err(PyTypeError::new_err(format!(
                    "backend must be a string or None, not {}",
                    name.get_type().name()?
                )));
            }
        },
    };
    let backend = backend.map_err(|error| PyValueError::new_err(error.to_string()))?;
    let chosen = this.cell.with(|state| state.choose_backend(backend))?;
    chosen.map_err(|error| {
        let errno = error.raw_os_error().unwrap_or_default();
        match text_of(py, errno) {
            // OSError picks the subclass by the number.
            Ok(text) => PyOSError::new_err((errno, format!("io_uring refused: {text}"))),
            Err(error) => error,
        }
    })
}

/// What the loop uses, as text. The first who asks must be where the loop runs, if it runs.
///
/// # Errors
/// `RuntimeError` if it is another thread's, and has not been asked before.
pub(super) fn in_use(this: &Loop) -> PyResult<String> {
    if let Some(known) = this.backend.get() {
        return Ok(known.to_string());
    }
    let in_use = this.cell.with(LoopState::backend)?;
    Ok(this.backend.get_or_init(|| in_use).to_string())
}
