//! Which interfaces of the kernel a loop may use, and which it does use.

use std::sync::{Mutex, PoisonError};

use cloverleaf::{Backend, InUse};
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::Loop;
use crate::error::text_of;
use crate::state::LoopState;

/// What was last told.
pub(super) type Known = Mutex<Option<InUse>>;

/// Says what the loop may use: what is named here, else what the environment names.
///
/// # Errors
/// `TypeError` for what is no string, `ValueError` for what names no backend, `OSError` if a ring is demanded and the
/// kernel refuses it.
pub(super) fn choose(this: &Loop, py: Python<'_>, name: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let backend = match name {
        None => Backend::from_environment(),
        Some(name) => match name.cast::<PyString>() {
            // What no encoding has names nothing either.
            Ok(name) => name.to_string_lossy().parse(),
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

/// What the loop uses, as text. The first who asks must be where the loop runs, if it runs; who asks elsewhere later hears
/// what was last told there.
///
/// # Errors
/// `RuntimeError` if it is another thread's, and has not been asked before.
pub(super) fn in_use(this: &Loop) -> PyResult<String> {
    let known = || this.backend.lock().unwrap_or_else(PoisonError::into_inner);
    match this.cell.with(LoopState::backend) {
        Ok(in_use) => {
            *known() = Some(in_use);
            Ok(in_use.to_string())
        }
        Err(refused) => {
            let known = *known();
            known.map_or_else(|| Err(refused.into()), |in_use| Ok(in_use.to_string()))
        }
    }
}
