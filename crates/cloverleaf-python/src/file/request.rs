//! `Request`: something that may have to wait for a disk, to be performed once, by a loop or on the spot.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::work::Work;
use crate::error::os_error;

/// Work that nobody has begun.
#[pyclass(frozen, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct Request {
    work: Mutex<Option<Work>>,
    /// What the work looks at between its pieces.
    is_given_up: Option<Arc<AtomicBool>>,
}

impl Request {
    pub(super) const fn new(work: Work) -> Self {
        Self {
            work: Mutex::new(Some(work)),
            is_given_up: None,
        }
    }

    /// The same for work that looks, between its pieces, whether it was given up.
    pub(super) fn heeding(self, is_given_up: Arc<AtomicBool>) -> Self {
        Self {
            is_given_up: Some(is_given_up),
            ..self
        }
    }

    /// The work, once.
    ///
    /// # Errors
    /// `RuntimeError` if somebody has taken it.
    pub(crate) fn take(&self) -> PyResult<Work> {
        let work = self
            .work
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        work.ok_or_else(|| PyRuntimeError::new_err("the request was performed already"))
    }
}

#[pymethods]
impl Request {
    /// Has the work end with the piece that it is at, if it is done in pieces.
    fn give_up(&self) {
        if let Some(is_given_up) = &self.is_given_up {
            is_given_up.store(true, Ordering::Relaxed);
        }
    }

    /// Does the work on this thread, while others may run Python.
    fn run<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let work = self.take()?.ready(py)?;
        let _held = work.held();
        match py.detach(|| work.perform()) {
            Ok(answer) => answer.into_object(py),
            Err(error) => Err(os_error(py, &error)),
        }
    }
}

/// A request for a new file: `open(2)` with these flags, and the mode of a file that is made.
#[pyfunction]
pub(super) fn opening(path: Vec<u8>, flags: i32, mode: u32) -> PyResult<Request> {
    let path = CString::new(path).map_err(|_| PyValueError::new_err("embedded null byte"))?;
    Ok(Request::new(Work::Open { path, flags, mode }))
}
