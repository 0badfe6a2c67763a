//! An awaitable that has its result already.
//!
//! Awaiting it costs no turn of the loop. Every so often it takes one all the same, so that a task that reads without
//! ever having to wait lets others run.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;

use crate::ffi::{Owned, Slot};

/// A result that can be awaited once.
#[pyclass(frozen, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct Completed {
    value: Slot,
    /// Whether others run first.
    pauses: AtomicBool,
}

impl Completed {
    /// Has a value; if `pauses`, others run before whoever awaits it goes on.
    pub(super) fn new(value: Owned, pauses: bool) -> Self {
        Self {
            value: Slot::new(Some(value)),
            pauses: AtomicBool::new(pauses),
        }
    }

    fn step<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        if this.pauses.swap(false, Ordering::Relaxed) {
            // A bare yield: the task goes on in the next turn.
            return Ok(Some(py.None().into_bound(py)));
        }
        match this.value.take(slf) {
            Some(value) => Err(PyStopIteration::new_err((value.into_bound(py).unbind(),))),
            None => Err(PyRuntimeError::new_err(
                "cannot reuse an already awaited operation",
            )),
        }
    }
}

#[pymethods]
impl Completed {
    const fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    const fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Self::step(slf)
    }

    fn send<'py>(
        slf: &Bound<'py, Self>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        // Whoever drives a coroutine of asyncio's sends nothing.
        debug_assert!(value.is_none(), "a task sends None");
        Self::step(slf)
    }

    #[pyo3(signature = (kind, value=None, traceback=None, /))]
    fn throw(
        slf: &Bound<'_, Self>,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        drop(slf.get().value.take(slf));
        let error = match value {
            Some(value) => PyErr::from_value(value.clone()),
            None => PyErr::from_value(kind.clone()),
        };
        if let Some(traceback) = traceback {
            error.set_traceback(slf.py(), traceback.cast().ok().cloned());
        }
        Err(error)
    }

    fn close(slf: &Bound<'_, Self>) {
        drop(slf.get().value.take(slf));
    }

    fn __traverse__(
        &self,
        visit: pyo3::pyclass::PyVisit<'_>,
    ) -> Result<(), pyo3::pyclass::PyTraverseError> {
        crate::ffi::traverse_with(&visit, |visitor| visitor.slot(&self.value))
    }
}
