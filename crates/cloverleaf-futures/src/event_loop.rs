//! The loop that runs, and the way to it from any thread: Cloverleaf's own, or `call_soon_threadsafe`.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::end::{self, attached};
use crate::offer::{Erased, Link, Pointer};

/// The loop was closed, or the interpreter is at its end: nobody awaits any more, and nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event loop is closed")
    }
}

impl std::error::Error for Closed {}

/// Drops a result of which nothing can be made; the caller says why.
pub(crate) fn ignore(result: Result<(), Closed>) {
    match result {
        Ok(()) | Err(Closed) => {}
    }
}

/// A loop, as other threads see it.
pub(crate) enum EventLoop {
    /// Cloverleaf's.
    Native(Link),
    /// Any other.
    Other(Py<PyAny>),
}

/// A function of Python's, looked up once.
fn function<'py>(
    py: Python<'py>,
    place: &'static PyOnceLock<Py<PyAny>>,
    module: &str,
    name: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    place.import(py, module, name)
}

/// The loop that runs in this thread.
///
/// # Errors
/// `RuntimeError` if none does.
pub(crate) fn running(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    function(py, &FUNCTION, "asyncio", "get_running_loop")?.call0()
}

/// A copy of the context that is entered.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn copy_context(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    function(py, &FUNCTION, "contextvars", "copy_context")?.call0()
}

impl EventLoop {
    /// How to reach this loop.
    ///
    /// # Errors
    /// What asking raises.
    pub(crate) fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Some(link) = Link::of(event_loop)? {
            return Ok(Self::Native(link));
        }
        end::prepare(event_loop.py())?;
        Ok(Self::Other(event_loop.clone().unbind()))
    }

    /// Has a job done on its thread, in this context if one is given and the loop is not Cloverleaf's; any thread may ask.
    ///
    /// # Errors
    /// [`Closed`]; the job was dropped.
    pub(crate) fn post<J: Pointer>(
        &self,
        job: J,
        context: Option<&Py<PyAny>>,
    ) -> Result<(), Closed> {
        match self {
            Self::Native(link) => link.post(job).map_err(|job| {
                crate::offer::drop_caught(job);
                Closed
            }),
            Self::Other(event_loop) => {
                let job = Erased::new(job);
                let posted =
                    attached(|py| call_soon_threadsafe(event_loop.bind(py), job, context).is_ok());
                if posted == Some(true) {
                    Ok(())
                } else {
                    Err(Closed)
                }
            }
        }
    }

    /// Does something in a context, which a loop that is not Cloverleaf's has entered.
    ///
    /// # Errors
    /// What it gives.
    pub(crate) fn call_in(
        &self,
        context: &Bound<'_, PyAny>,
        inside: impl FnOnce() -> PyResult<()>,
    ) -> PyResult<()> {
        match self {
            Self::Native(link) => link.call_in(context, inside),
            Self::Other(_) => inside(),
        }
    }
}

fn call_soon_threadsafe(
    event_loop: &Bound<'_, PyAny>,
    job: Erased,
    context: Option<&Py<PyAny>>,
) -> PyResult<()> {
    let py = event_loop.py();
    let call = Bound::new(py, Call(Mutex::new(Some(job))))?;
    let names = context.map(|context| {
        let names = PyDict::new(py);
        names
            .set_item(intern!(py, "context"), context)
            .map(|()| names)
    });
    let names = names.transpose()?;
    let method = event_loop.getattr(intern!(py, "call_soon_threadsafe"))?;
    match method.call((&call,), names.as_ref()) {
        Ok(_) => Ok(()),
        Err(error) if error.is_instance_of::<PyException>(py) => Err(error),
        // A signal's handler has raised it, in the midst of the method: `KeyboardInterrupt`. It is the loop's to raise, and
        // the job is not lost; queued twice, it is done once.
        Err(error) => {
            method.call((call,), names.as_ref())?;
            method.call1((Bound::new(py, Interrupt(error))?,)).map(drop)
        }
    }
}

/// Raises what has interrupted a thread that reached for the loop.
#[pyclass(
    frozen,
    immutable_type,
    name = "RustInterrupt",
    module = "cloverleaf_futures"
)]
struct Interrupt(PyErr);

#[pymethods]
impl Interrupt {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        Err(self.0.clone_ref(py))
    }
}

/// A job as a callback of Python's. Of a handle that is dropped uncalled, the job is dropped.
#[pyclass(
    frozen,
    immutable_type,
    name = "RustCall",
    module = "cloverleaf_futures"
)]
struct Call(Mutex<Option<Erased>>);

#[pymethods]
impl Call {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let job = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        job.map_or(Ok(()), |job| job.run(py))
    }
}
